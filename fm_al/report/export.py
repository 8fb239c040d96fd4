"""A figure as PDF, SVG and PNG files, and as SVG inside an HTML page."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

from matplotlib import style

from fm_al.report.drawing import STYLE, Figure

# Metadata of each format, without the time.
UNDATED: Mapping[str, dict[str, None]] = {
    "pdf": {"CreationDate": None},
    "svg": {"Date": None},
    "png": {},
}
MARK = re.compile(r"series-(\d+)-(.*)")


def save(figure: Figure, folder: Path, endings: Iterable[str] = UNDATED) -> None:
    """Write `<name>.<ending>` for each ending; equal figures give equal bytes."""
    with style.context(STYLE):
        for ending in endings:
            path = folder / f"{figure.name}.{ending}"
            figure.mpl.savefig(path, metadata=UNDATED[ending], dpi=200)


def inline_svg(figure: Figure) -> str:
    """Return an `svg` element for an HTML page, as wide as the space it is given.

    What is drawn of groups has the class `series`, and their names as JSON in `data-groups`. Ids
    start with the figure's name.
    """
    file = io.BytesIO()
    with style.context([*STYLE, {"svg.fonttype": "none"}]):
        no_metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.mpl.savefig(file, format="svg", metadata=no_metadata)
    root = ElementTree.fromstring(file.getvalue())
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        attributes = {key.rpartition("}")[2]: value for key, value in element.items()}
        if marked := MARK.fullmatch(attributes.get("id", "")):
            attributes["id"] = f"series-{marked[1]}"
        for key, value in attributes.items():
            if key == "id":
                attributes[key] = f"{figure.name}-{value}"
            elif key == "href":
                attributes[key] = value.replace("#", f"#{figure.name}-", 1)
            else:
                value = re.sub(r"(\.\d\d)\d+", r"\1", value)  # to hundredths of a point
                value = value.replace("'DejaVu Sans', ", "")  # leaves sans-serif
                attributes[key] = value.replace("url(#", f"url(#{figure.name}-")
        if marked:
            groups = list(map(unquote, marked[2].split("&")))
            attributes |= {"class": "series", "data-groups": json.dumps(groups)}
        element.attrib = attributes
    # A style element would apply to the whole page, so its rule moves to the root's attribute.
    for definitions in root.findall("defs"):
        for element in definitions.findall("style"):
            definitions.remove(element)
    root.attrib = {
        "xmlns": "http://www.w3.org/2000/svg",
        "viewBox": root.attrib["viewBox"],
        "width": "100%",
        "role": "img",
        "aria-label": figure.title,
        "style": "stroke-linejoin: round; stroke-linecap: butt",
    }
    return ElementTree.tostring(root, encoding="unicode")
