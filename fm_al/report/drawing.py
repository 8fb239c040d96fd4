"""Style and layout that all figures of a report share.

Marks what is drawn of a group with the group's name, so that the page can hide it.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure as MplFigure
from matplotlib.text import Annotation, Text
from scipy import stats

from fm_al.report.runs import Runs
from fm_al.report.statistics import ROUNDING

STYLE: list[str | Path | dict[str, Any]] = [
    "default",  # whatever a user's matplotlibrc says
    {
        "font.size": 8,
        "font.sans-serif": ["DejaVu Sans"],
        "axes.titlesize": 8,
        "axes.linewidth": 0.6,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "grid.linewidth": 0.4,
        "grid.alpha": 0.5,
        "hatch.linewidth": 0.5,
        "legend.frameon": False,
        "legend.handlelength": 3.5,
        "lines.linewidth": 1.2,
        "lines.markersize": 5,
        "text.parse_math": False,  # a name may contain a $
        "pdf.fonttype": 42,
        "svg.hashsalt": "fm_al",
    },
]
WIDTH = 5.5  # inches, the text width of a paper
LINE = 84  # characters in this width
NAME = 28  # characters of a name in one line
EDGE = "#303030"  # around light colours, which are hard to see in grey
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Figure:
    """A figure of a report.

    Attributes:
        name: Stem of its files.
        title: What it shows.
        caption: What a reader must know to read it.
        mpl: The drawing.
    """

    name: str
    title: str
    caption: str
    mpl: MplFigure


def new_figure(width: float, height: float) -> MplFigure:
    """An empty drawing; sizes in inches."""
    return MplFigure((width, height), layout="constrained")


def finished(name: str, title: str, caption: str, mpl: MplFigure) -> Figure:
    """Number the marks, fix the layout and wrap the drawing."""
    for number, artist in enumerate(mpl.findobj(lambda artist: artist.get_gid() is not None)):
        artist.set_gid(f"series-{number}-{artist.get_gid()}")
    for text in mpl.findobj(Text):
        if hasattr(text, "set_fontfeatures"):  # matplotlib before 3.11 has no ligatures
            # Ligatures are a font of their own in a PDF, which doubles the time to write it.
            text.set_fontfeatures(["-liga", "-clig"])
    # Repeating the layout for each file would shift it slightly each time. Any layout engine, even
    # one that does nothing, draws each file twice.
    mpl.draw_without_rendering()
    mpl.set_layout_engine(None)
    return Figure(name, title, caption, mpl)


def mark(groups: str | Sequence[str], *artists: Artist) -> None:
    """Mark artists as showing these groups."""
    names = [groups] if isinstance(groups, str) else groups
    for artist in artists:
        artist.set_gid("&".join(quote(name, safe="") for name in names))


def add_legend(mpl: MplFigure, handles: Sequence[Artist], names: Sequence[str]) -> None:
    """Add a legend below the axes and enlarge the figure for it."""
    columns = max(1, LINE // (max(map(len, names)) + 8))
    rows = math.ceil(len(names) / columns)
    mpl.set_figheight(mpl.get_figheight() + 0.17 * rows)
    # Names are set afterwards, since matplotlib drops those that start with an underscore.
    legend = mpl.legend(
        handles,
        ["name"] * len(names),
        loc="outside lower center",
        ncols=math.ceil(len(names) / rows),
    )
    for name, text in zip(names, legend.get_texts(), strict=True):
        text.set_text(name)


def name_rows(axes: Axes, groups: Sequence[str]) -> None:
    """Name the rows on the y axis, the first one at the top."""
    axes.set_yticks(range(len(groups)), list(map(wrapped, groups)))
    for group, label in zip(groups, axes.get_yticklabels(), strict=True):
        mark(group, label)
    axes.set_ylim(len(groups) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)


def label_grid(mpl: MplFigure, number: int, columns: int, share_y: bool = True) -> list[Axes]:
    """Axes over the number of labels, in at most `columns` columns; the lowest name the x axis."""
    rows = math.ceil(number / columns)
    columns = math.ceil(number / rows)
    grid = mpl.subplots(rows, columns, sharex=True, sharey=share_y, squeeze=False)
    for axes in grid.flat[number:]:
        axes.remove()
    for axes in grid.flat[number - columns : number]:
        axes.tick_params(labelbottom=True)
        axes.set_xlabel("labels")
    return list(grid.flat[:number])


def label_right(axes: Axes, x: float, y: float, text: str) -> Annotation:
    """Write a text to the right of a point."""
    return axes.annotate(text, (x, y), xytext=(3, 0), textcoords="offset points", va="center")


def labels_of(runs: Runs, group: str) -> list[int]:
    """Numbers of labels of the group's rounds."""
    return [each.labelled for each in runs.of_group(group)[0].rounds]


def half_interval(values: np.ndarray) -> np.ndarray | None:
    """Half the 95% confidence interval of the mean over the first axis, by Student's t.

    NaN where the values do not vary, which gives no estimate; None for fewer than two values and if
    none vary.
    """
    count = len(values)
    if count < 2:
        return None
    varies = np.ptp(values, axis=0) > ROUNDING
    if not varies.any():
        return None
    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, count - 1)
    half = quantile * values.std(axis=0, ddof=1) / math.sqrt(count)
    return np.where(varies, half, math.nan)


def seed_count(runs: Runs) -> str:
    """`5 seeds`, or `1 to 5 seeds` if groups differ."""
    counts = [len(runs.of_group(group)) for group in runs.groups]
    few, many = min(counts), max(counts)
    return f"{few} to {many} seeds" if few < many else f"{few} seed{'s' * (few != 1)}"


def wrapped(name: str, width: int = NAME) -> str:
    """A long name in several lines."""
    return "\n".join(textwrap.wrap(name, width, break_on_hyphens=False)) or name


def row_height(names: Iterable[str]) -> float:
    """Height in inches of a row that holds the longest of these names."""
    return 0.16 + 0.14 * max(wrapped(name).count("\n") + 1 for name in names)
