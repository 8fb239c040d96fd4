"""The figures of a report, as PDF, SVG and PNG, and as SVG inside an HTML page.

A group looks the same in all of them, by its `Palette`. What is drawn of a group is marked with
its name, which `inline_svg` hands on to the page.
"""

from __future__ import annotations

import io
import json
import math
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import quote, unquote
from xml.etree import ElementTree

import numpy as np
import pandas as pd
from matplotlib import colormaps, style
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize, to_rgb
from matplotlib.figure import Figure as Drawing
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.text import Annotation, Text
from matplotlib.ticker import FuncFormatter
from scipy import stats

from fm_al.report.measured import MEASURED, capitalized, measured
from fm_al.report.palette import GREY, Palette, fill, is_light
from fm_al.report.runs import Runs, by_numbers
from fm_al.report.statistics import ROUNDING, Penalties, by_mean, missing_seeds

STYLE: list[str | Path | dict[str, Any]] = [
    "default",  # whatever a user's matplotlibrc has
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
        "text.parse_math": False,  # a name may have a $
        "pdf.fonttype": 42,
        "svg.hashsalt": "fm_al",
    },
]
WIDTH = 5.5  # inches, as wide as the text of a paper
LINE = 84  # characters in this width
NAME = 28  # characters of a name in a line
CONFIDENCE = 0.95
MOST_CLASSES = 20
MOST_MARKS = 15  # on a line
MOST_LAYERS = 36
UNPUBLISHED: Mapping[str, Mapping[int, float]] = MappingProxyType({})
MARK = re.compile(r"series-(\d+)-(.*)")


@dataclass(frozen=True)
class Figure:
    """name: of its files. title: what it shows. caption: what has to be known to read it."""

    name: str
    title: str
    caption: str
    drawing: Drawing


@style.context(STYLE)
def figures_of_setting(
    runs: Runs,
    prefix: str,
    colours: Palette,
    published: Mapping[str, Mapping[int, float]] = UNPUBLISHED,
) -> list[Figure]:
    """The figures of one setting's runs but those that there is nothing for.

    prefix: of their names. published: accuracies by group and number of labels, shown beside the
    runs' for the groups that have any.
    """
    figures = [
        *(_over_labels(runs, prefix, key, colours, published) for key in measured(runs)),
        _area(runs, prefix, colours),
        _queries(runs, prefix, colours),
        _mask(runs, prefix, colours),
        _seconds(runs, prefix, colours),
    ]
    return [figure for figure in figures if figure is not None]


def _over_labels(
    runs: Runs,
    prefix: str,
    key: str,
    palette: Palette,
    published: Mapping[str, Mapping[int, float]],
) -> Figure:
    drawing = _drawing((WIDTH, 3.3))
    axes = drawing.subplots()
    groups = palette.ordered(runs.groups)
    means: list[Artist] = []
    heights: list[float] = []
    for place, group in enumerate(groups):
        look, labels, of_group = palette.looks[group], _labels(runs, group), runs.of_group(group)
        values = np.array([[record[key] for record in run.rounds] for run in of_group])
        mean, half = values.mean(axis=0), _half_interval(values)
        seeds = axes.plot(labels, values.T, color=look.colour, alpha=0.3, lw=0.5, zorder=1.5)
        for run, seed in zip(of_group, seeds, strict=True):
            seed.set_label(f"seed {run.seed}")
        [line] = axes.plot(labels, mean, color=look.colour, marker=look.marker, label="mean")
        every = math.ceil(len(labels) / MOST_MARKS)  # in turns, so that less of them covers others
        line.set(linestyle=look.linestyle, markevery=(place % every, every))
        line.set(markeredgewidth=0, zorder=3 - place / len(groups))
        _mark(group, line, *seeds)
        means.append(line)
        heights += [values.min(), values.max()]
        if half is not None:
            band = axes.fill_between(labels, mean - half, mean + half, color=look.colour)
            # The interval of two seeds is so large that it would leave little to be seen.
            band.set(alpha=0.1 if len(values) > 2 else 0.04, linewidth=0)
            _mark(group, band)
            if len(values) > 2:
                heights += [np.nanmin(mean - half), np.nanmax(mean + half)]
    title = capitalized(MEASURED[key])
    caption = f"{title} on the test images over the number of labels: the mean of {_count(runs)}"
    if axes.collections:
        caption += (
            ", as a band its 95% confidence interval by Student's t, for each number of labels by "
            "itself, and each seed as a faint line"
        )
        if any(len(runs.of_group(group)) == 2 for group in groups):
            caption += "; a band of two seeds may be cut off"
    caption += ". Nothing is smoothed."
    if len(runs.labels) > MOST_MARKS:
        caption += " Marks only tell lines apart: not every number of labels has one."
    hollow: dict[str, Any] = {"ls": ":", "lw": 1, "mfc": "white", "label": "published"}
    last = runs.labels[-1]
    there = {
        group: sorted(point for point in published[group].items() if point[0] <= last)
        for group in groups
        if key == "accuracy" and group in published
    }
    shown = {group: points for group, points in there.items() if points}
    for group, points in shown.items():
        look = palette.looks[group]
        _mark(
            group,
            *axes.plot(*zip(*points, strict=True), c=look.colour, marker=look.marker, **hollow),
        )
        heights += [accuracy for _, accuracy in points]
    if shown:
        means.append(Line2D([], [], color=GREY, marker="o", **hollow))
        caption += " Hollow marks on dotted lines: as published."
    axes.set(xlabel="labels", ylabel=MEASURED[key])
    margin = 0.05 * max(0.02, max(heights) - min(heights))
    axes.set_ylim(max(min(heights) - margin, -0.01), min(max(heights) + margin, 1.01))
    axes.grid(axis="y")
    _add_legend(drawing, means, [*groups, "published"][: len(means)], groups)
    return _finished(f"{prefix}{key}", f"{title} over labels", caption, drawing)


def _area(runs: Runs, prefix: str, palette: Palette) -> Figure:
    areas = runs.area("accuracy")
    groups = by_mean(areas)
    drawing = _drawing((WIDTH, 0.5 + _row_height(groups) * len(groups)))
    axes = drawing.subplots()
    for row, group in enumerate(groups):
        values, look = areas[group].dropna().to_numpy(), palette.looks[group]
        mean, half = values.mean(), _half_interval(values)
        below = np.full(len(values), row + 0.25)
        marks = axes.plot(
            values, below, "o", ms=3.5, mew=0, c=look.colour, alpha=0.5, label="seeds"
        )
        if half is not None:
            ends = [mean - half, mean + half]
            marks += axes.plot(ends, [row, row], c=look.colour, marker="|", label="interval")
        marks += axes.plot([mean], [row], look.marker, ms=7, c=look.colour, label="mean")
        _mark(group, *marks)
    _name_rows(axes, groups)
    axes.set_xlabel("area under the accuracy curve")
    axes.grid(axis="x")
    caption = (
        "Area under the accuracy curve over labels, divided by their range, so that it is a mean "
        f"accuracy: the mean of {_count(runs)}, with its 95% confidence interval by Student's t "
        "where there are several, and below it a dot for each. The best is on top"
    )
    if missing_seeds(areas):
        caption += ", as far as seeds that all have can tell"
    caption += "."
    return _finished(f"{prefix}area", "Area under the accuracy curve", caption, drawing)


def _queries(runs: Runs, prefix: str, palette: Palette) -> Figure | None:
    shares = {group: _query_shares(runs, group) for group in palette.ordered(runs.groups)}
    shares = {group: share for group, share in shares.items() if len(share)}
    if not shares:
        return None
    together = pd.concat(shares.values()).fillna(0)
    classes = list(together.columns)
    caption = (
        "What each query consists of: the share of each class, mean over seeds. A bar spans the "
        "labels that its query added."
    )
    if len(classes) > MOST_CLASSES:
        most = set(together.mean().nlargest(MOST_CLASSES - 1).index)
        rest = [name for name in classes if name not in most]
        others = f"{len(rest)} other classes"
        classes = [*(name for name in classes if name in most), others]
        for share in shares.values():
            share[others] = share.reindex(columns=rest).sum(axis=1)
        caption += f" The {len(most)} classes queried most, of all groups, are told apart."
    drawing = _drawing((WIDTH, 0.3 + 1.35 * math.ceil(len(shares) / 3)))
    for (group, share), axes in zip(shares.items(), _grid(drawing, len(shares), 3), strict=True):
        labels = _labels(runs, group)
        bottom = np.zeros(len(share))
        for number, name in enumerate(classes):
            top = bottom + (share[name].to_numpy() if name in share else 0)
            axes.stairs(top, labels, baseline=bottom, fill=True, label=name).set(**fill(number))
            bottom = top
        axes.vlines(labels[1:-1], 0, 1, colors="white", linewidth=0.5)
        axes.set(
            title=_broken(group), xlim=(labels[0], labels[-1]), ylim=(0, 1), yticks=(0, 0.5, 1)
        )
        _mark(group, axes)
    drawing.supylabel("share of the query", fontsize=8)
    _add_legend(drawing, [Patch(**fill(number)) for number in range(len(classes))], classes)
    return _finished(f"{prefix}queries", "Classes of the queried images", caption, drawing)


def _query_shares(runs: Runs, group: str) -> pd.DataFrame:
    """queries x classes, mean over seeds; the last round queries nothing."""
    of_group = runs.of_group(group)
    queries = [[record["queried_classes"] for record in run.rounds[:-1]] for run in of_group]
    classes = of_group[0].result["class_names"]
    counts = np.array(queries, float).reshape(len(of_group), -1, len(classes))
    return pd.DataFrame((counts / counts.sum(axis=2, keepdims=True)).mean(axis=0), columns=classes)


def _mask(runs: Runs, prefix: str, palette: Palette) -> Figure | None:
    shares = {group: _mask_shares(runs, group) for group in palette.ordered(runs.groups)}
    shares = {group: share for group, share in shares.items() if np.nansum(share) > 0}
    if not shares:
        return None
    least = min(share.where(share > 0).min(axis=None) for share in shares.values())
    norm = LogNorm(10.0 ** max(-5, min(-1, math.floor(math.log10(least)))), 1)
    height = max(1.2, 0.5 + 0.13 * max(map(len, shares.values())))
    drawing = _drawing((WIDTH, 0.3 + height * math.ceil(len(shares) / 2)))
    grid = _grid(drawing, len(shares), 2, share_y=False)
    for (group, share), axes in zip(shares.items(), grid, strict=True):
        rows, cells = np.arange(len(share) + 1) - 0.5, share.where(share > 0).to_numpy()
        mesh = axes.pcolormesh(_labels(runs, group), rows, cells, norm=norm, cmap="cividis_r")
        mesh.set(edgecolor="face", linewidth=0.1)  # else there are gaps in PDF
        axes.set_title(_broken(group))
        axes.set_yticks(range(len(share)), list(share.index), fontsize=6.5)
        axes.set_ylim(rows[-1], rows[0])
        axes.tick_params(axis="y", length=0)
        _mark(group, axes)
    thin = 6 * drawing.get_figheight()
    bar = drawing.colorbar(mesh, ax=grid, label="share of the mask", aspect=thin)
    bar.ax.yaxis.set_major_formatter(FuncFormatter(_percent))
    bar.ax.minorticks_off()
    caption = (
        "Where the mask's weights lie: the share of them in each layer or block, from the input at "
        "the top to the output, at each query; mean over seeds, white where there are none."
    )
    return _finished(f"{prefix}mask", "Layers of the masked weights", caption, drawing)


def _percent(share: float, position: int) -> str:
    return f"{100 * share:g}%"


def _mask_shares(runs: Runs, group: str) -> pd.DataFrame:
    """layers x queries, mean over seeds; many layers are taken together by the beginnings of their
    names. Empty without masks."""
    masks = [
        {record["labelled"]: record["strategy"].get("mask_sizes", {}) for record in run.rounds[:-1]}
        for run in runs.of_group(group)
    ]
    layers = _in_order(sizes for of_seed in masks for sizes in of_seed.values())
    frames = [pd.DataFrame(of_seed, layers, dtype=float).fillna(0) for of_seed in masks]
    shares = sum(sizes / sizes.sum() for sizes in frames) / len(frames)
    parts = [layer.split(".") for layer in layers]
    names, length = layers, max(map(len, parts), default=0)
    while len(set(names)) > MOST_LAYERS and length > 1:
        length -= 1
        names = [".".join(part[:length]) for part in parts]
    return shares.groupby(names, sort=False).sum()


def _in_order(masks: Iterable[Iterable[str]]) -> list[str]:
    """The layers of all masks as they come in the network; a mask names, in that order, only those
    that it has weights of. What no mask tells is told by the numbers in names, but that a module's
    weight comes before its bias."""

    def module(layer: str) -> str:
        return re.sub(r"\.(weight|bias)$", "", layer)

    named = [list(layers) for layers in masks]
    order: list[str] = []
    of_masks = [list(dict.fromkeys(map(module, layers))) for layers in named]
    for modules in sorted(of_masks, key=len, reverse=True):
        place = 0
        for each in modules:
            if each not in order:
                for other in order[place:]:
                    if other in modules or by_numbers(other) > by_numbers(each):
                        break
                    place += 1
                order.insert(place, each)
            place = order.index(each) + 1
    all_layers = dict.fromkeys(layer for layers in named for layer in layers)
    return sorted(
        all_layers, key=lambda layer: (order.index(module(layer)), layer.endswith(".bias"))
    )


def _seconds(runs: Runs, prefix: str, palette: Palette) -> Figure:
    groups = palette.ordered(runs.groups)
    seconds = pd.DataFrame([run.result["seconds"] for run in runs.runs]).fillna(0)
    means = seconds.groupby([run.group for run in runs.runs]).mean().loc[groups]
    longest = means.sum(axis=1).max()
    units = ("seconds", 1), ("minutes", 60), ("hours", 3600)
    unit, length = next(
        each for each in reversed(units) if longest >= 2 * each[1] or each == units[0]
    )
    drawing = _drawing((WIDTH, 0.5 + _row_height(groups) * len(groups)))
    axes = drawing.subplots()
    left = np.zeros(len(groups))
    for number, stage in enumerate(means.columns):
        widths = means[stage].to_numpy() / length
        bars = axes.barh(range(len(groups)), widths, 0.6, left, label=stage, **fill(number))
        for group, bar in zip(groups, bars, strict=True):
            _mark(group, bar)
        left += widths
    for row, (group, total) in enumerate(zip(groups, left, strict=True)):
        _mark(group, _beside(axes, total, row, f"{total:.1f}"))
    _name_rows(axes, groups)
    axes.set_xlabel(f"{unit} for a run")
    stages = list(means.columns)
    _add_legend(drawing, [Patch(**fill(number)) for number in range(len(stages))], stages)
    caption = (
        f"How long a run took by stage, mean of {_count(runs)}, with the total at the end; on "
        "whatever machines they ran."
    )
    return _finished(f"{prefix}seconds", "Time by stage", caption, drawing)


@style.context(STYLE)
def penalty_figure(penalties: Penalties, title: str, note: str) -> Figure:
    """note: what has to be known."""
    matrix = penalties.matrix
    count = len(matrix)
    values = np.vstack([matrix, penalties.lost]).astype(float)
    rows = [*range(count), count + 0.2]
    norm = Normalize(0, max(1e-9, np.nanmax(values)))
    height = 1.2 + _row_height(matrix.index) * count
    drawing = _drawing((min(WIDTH, 1.8 + 0.5 * count), height))
    axes = drawing.subplots()
    shades = colormaps["Blues"]
    for place, of_row in enumerate(values):
        row, beats = rows[place], list(matrix.index[place : place + 1])
        for column, value in enumerate(of_row):
            lacks = math.isnan(value)
            shade = "white" if lacks else shades(norm(value))
            ink = "black" if is_light(to_rgb(shade)) else "white"
            text = "–" if lacks else f"{value:.2f}"
            _mark(
                [*beats, matrix.columns[column]],
                axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fc=shade, ec="white")),
                axes.text(column, row, text, color=ink, ha="center", va="center"),
            )
    axes.set(xlim=(-0.5, count - 0.5), ylim=(rows[-1] + 0.5, -0.5))
    axes.set_yticks(rows, [*map(_broken, matrix.index), "lost, mean"])
    axes.set_xticks(range(count), list(map(_broken, matrix.columns)))
    for labels in (axes.get_yticklabels()[:count], axes.get_xticklabels()):
        for group, label in zip(matrix.index, labels, strict=True):
            _mark([group], label)
    if max(map(len, matrix.columns)) > 7:
        for label in axes.get_xticklabels():
            label.set(rotation=90 if "\n" in label.get_text() else 40, rotation_mode="anchor")
            label.set(ha="right", va="center")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return _finished("penalty", title, note, drawing)


@style.context(STYLE)
def rank_figure(ranks: pd.Series, critical_difference: float, title: str, note: str) -> Figure:
    """Mean ranks, of which 1 is best, in the diagram of Demšar 2006 (JMLR 7, figure 1). note: what
    has to be known beside that."""
    ordered = ranks.sort_values(kind="stable")
    count, end = len(ordered), max(2, len(ordered))
    margin, step = 0.04 * (end - 1), _row_height(ordered.index) / 0.3
    caption = "Mean ranks: 1, at the left, is best."
    drawing = _drawing((WIDTH, 0))
    axes = drawing.subplots()
    axes.axis("off")
    line: dict[str, Any] = {"color": "black", "linewidth": 0.8, "clip_on": False}
    axes.plot([1, end], [0, 0], **line)
    for rank in range(1, end + 1):
        axes.plot([rank, rank], [0, -0.25], **line)
        axes.text(rank, -0.4, str(rank), ha="center")
    top, said = -2.5, f"critical difference {critical_difference:.2f}"
    axes.plot([1, 1 + critical_difference], [-1.7, -1.7], marker="|", label="critical", **line)
    _beside(axes, 1 + critical_difference, -1.7, said)
    caption += " A bar connects groups that differ by less than the critical difference."
    ends = [-math.inf]  # of the last bar at each height
    for first, last in _connected(ordered.to_list(), critical_difference):
        height = next((k for k, taken in enumerate(ends) if taken < first), len(ends))
        ends[height:] = [last, *ends[height + 1 :]]
        bar = [ordered.iloc[first] - margin / 4, ordered.iloc[last] + margin / 4]
        axes.plot(bar, [0.5 + 0.5 * height] * 2, c="black", lw=2.5, label="connected")
    bottom = 0.5 * len(ends)
    for place, (group, rank) in enumerate(ordered.items()):
        from_end = count - 1 - place
        row = bottom + 0.9 + step * min(place, from_end)
        parts = [_broken(group), f"{rank:.2f}"]
        side, x, gap = "right", 1 - margin, -margin / 2
        if place > from_end:
            side, x, gap = "left", end + margin, margin / 2
            parts.reverse()
        elbow = axes.plot([rank, rank, x], [0, row, row], label=group, **line)
        name = axes.text(x + gap, row, "  ".join(parts), ha=side, va="center")
        _mark(group, *elbow, name)
    bottom += 0.9 + step * math.ceil(count / 2)
    drawing.set_figheight(0.2 + 0.2 * (bottom - top))
    axes.set(xlim=(1 - margin, end + margin), ylim=(bottom, top))
    return _finished("ranks", title, f"{caption} {note}".strip(), drawing)


def _beside(axes: Axes, x: float, y: float, said: str) -> Annotation:
    """A word at the right of a point."""
    return axes.annotate(said, (x, y), xytext=(3, 0), textcoords="offset points", va="center")


def _connected(ranks: Sequence[float], critical_difference: float) -> list[tuple[int, int]]:
    """The first and last of each longest run of sorted ranks that differ by less."""
    spans: list[tuple[int, int]] = []
    for first, rank in enumerate(ranks):
        last = sum(other - rank < critical_difference for other in ranks) - 1
        if last > first and (not spans or last > spans[-1][1]):
            spans.append((first, last))
    return spans


def save(figure: Figure, folder: Path) -> None:
    """Writes `<name>.pdf`, `<name>.svg` and `<name>.png`; the same bytes for the same figure."""
    undated = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {}}
    with style.context(STYLE):
        for ending, metadata in undated.items():
            path = folder / f"{figure.name}.{ending}"
            figure.drawing.savefig(path, metadata=metadata, dpi=200)


def inline_svg(figure: Figure) -> str:
    """An `svg` element for an HTML page, as wide as its place. What is drawn of groups has the
    class `series` and, as JSON, their names as `data-groups`; ids begin with the figure's name."""
    file = io.BytesIO()
    with style.context([*STYLE, {"svg.fonttype": "none"}]):
        no_metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.drawing.savefig(file, format="svg", metadata=no_metadata)
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
    # A style element would hold for all of the page, so its rule is put where it is inherited from.
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


def _drawing(size: tuple[float, float]) -> Drawing:
    """size: in inches."""
    return Drawing(size, layout="constrained")


def _finished(name: str, title: str, caption: str, drawing: Drawing) -> Figure:
    for number, artist in enumerate(drawing.findobj(lambda artist: artist.get_gid() is not None)):
        artist.set_gid(f"series-{number}-{artist.get_gid()}")
    for text in drawing.findobj(Text):
        if hasattr(text, "set_fontfeatures"):  # before matplotlib 3.11 there are no ligatures
            # Ligatures are a font of their own in a PDF, which doubles the time that it takes.
            text.set_fontfeatures(["-liga", "-clig"])
    # Laid out again for each file, it would come out a little different each time. Any engine,
    # even one that does nothing, has each file drawn twice.
    drawing.draw_without_rendering()
    drawing.set_layout_engine(None)
    return Figure(name, title, caption, drawing)


def _mark(groups: str | Sequence[str], *artists: Artist) -> None:
    of = [groups] if isinstance(groups, str) else groups
    for artist in artists:
        artist.set_gid("&".join(quote(group, safe="") for group in of))


def _add_legend(
    drawing: Drawing, handles: Sequence[Artist], names: Sequence[str], groups: Sequence[str] = ()
) -> None:
    """Below the axes, for which the drawing grows. groups: those that the first names are of."""
    columns = max(1, LINE // (max(map(len, names)) + 8))
    rows = math.ceil(len(names) / columns)
    drawing.set_figheight(drawing.get_figheight() + 0.17 * rows)
    # Names are put in later, as those are left out that begin with an underscore.
    legend = drawing.legend(
        handles,
        ["name"] * len(names),
        loc="outside lower center",
        ncols=math.ceil(len(names) / rows),
    )
    for name, text in zip(names, legend.get_texts(), strict=True):
        text.set_text(name)
    entries = zip(groups, legend.legend_handles, legend.get_texts(), strict=False)
    for group, *artists in entries:
        _mark(group, *filter(None, artists))


def _name_rows(axes: Axes, groups: Sequence[str]) -> None:
    """Names the rows on the y axis, the first one on top."""
    axes.set_yticks(range(len(groups)), list(map(_broken, groups)))
    for group, label in zip(groups, axes.get_yticklabels(), strict=True):
        _mark(group, label)
    axes.set_ylim(len(groups) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)


def _grid(drawing: Drawing, number: int, columns: int, share_y: bool = True) -> list[Axes]:
    """So many axes over labels, in at most so many columns, the lowest of which name them."""
    rows = math.ceil(number / columns)
    columns = math.ceil(number / rows)
    grid = drawing.subplots(rows, columns, sharex=True, sharey=share_y, squeeze=False)
    for axes in grid.flat[number:]:
        axes.remove()
    for axes in grid.flat[number - columns : number]:
        axes.tick_params(labelbottom=True)
        axes.set_xlabel("labels")
    return list(grid.flat[:number])


def _labels(runs: Runs, group: str) -> list[int]:
    return [record["labelled"] for record in runs.of_group(group)[0].rounds]


def _half_interval(values: np.ndarray) -> np.ndarray | None:
    """Half the confidence interval of the mean over the first axis; NaN where values do not vary,
    which is no estimate of one; None for fewer than two, and where none vary."""
    count = len(values)
    if count < 2:
        return None
    varies = np.ptp(values, axis=0) > ROUNDING
    if not varies.any():
        return None
    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, count - 1)
    half = quantile * values.std(axis=0, ddof=1) / math.sqrt(count)
    return np.where(varies, half, math.nan)


def _count(runs: Runs) -> str:
    counts = [len(runs.of_group(group)) for group in runs.groups]
    few, many = min(counts), max(counts)
    return f"{few} to {many} seeds" if few < many else f"{few} seed{'s' * (few != 1)}"


def _broken(name: str) -> str:
    """A long name in lines."""
    return "\n".join(textwrap.wrap(name, NAME, break_on_hyphens=False)) or name


def _row_height(names: Iterable[str]) -> float:
    """Inches."""
    return 0.16 + 0.14 * max(_broken(name).count("\n") + 1 for name in names)
