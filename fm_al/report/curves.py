"""Figures of a metric over the number of labels, and of the area under it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure as MplFigure
from matplotlib.gridspec import GridSpec
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from fm_al.report.drawing import (
    EDGE,
    WIDTH,
    Figure,
    add_legend,
    finished,
    half_interval,
    labels_of,
    mark,
    name_rows,
    new_figure,
    row_height,
    seed_count,
    wrapped,
)
from fm_al.report.leads import draw_lead, reference_of
from fm_al.report.metrics import Measure, capitalized
from fm_al.report.palette import GREY, Look, Palette
from fm_al.report.published import Published
from fm_al.report.runs import Runs, value_of
from fm_al.report.statistics import ALPHA, FEWEST_FOR_T, by_mean, missing_seeds

MOST_MARKS = 8  # on a line
MOST_COLUMNS = 4  # of panels
LONG_NAME = 18  # characters; longer names get wider panels
# By number of columns: characters of a name in a line, and the height of a panel in inches.
PANELS = {1: (76, 2.6), 2: (37, 1.8), 3: (25, 1.35), 4: (18, 1.15)}
HANDLE = 6  # characters that a line of the key takes beside its name
LIGHT = "#BEBEBE"  # the other groups' means in a panel
PUBLISHED_STYLE: Mapping[str, Any] = {"ls": ":", "lw": 1, "mfc": "white", "ms": 4.5}
LEVEL_STYLE: Mapping[str, Any] = {"color": "black", "ls": (0, (6, 1.5, 1, 1.5)), "lw": 0.8}
LEVEL_BAND: Mapping[str, Any] = {"color": "black", "alpha": 0.12, "lw": 0}


@dataclass(frozen=True)
class Level:
    """A horizontal line to compare with.

    Attributes:
        name: What it is.
        about: The sentence of the caption.
        mean: Where it is.
        half: Half its 95% interval; None without one.
    """

    name: str
    about: str
    mean: float
    half: float | None = None

    @property
    def ends(self) -> tuple[float, float]:
        half = self.half or 0
        return self.mean - half, self.mean + half


def metric_figure(
    runs: Runs,
    prefix: str,
    measure: Measure,
    palette: Palette,
    published: Published,
    level: Level | None = None,
) -> Figure:
    """Draw how far each group is ahead of the reference, above a panel of its own for each group.

    Args:
        runs: The runs of one setting.
        prefix: Start of the figure's file names.
        measure: What to draw.
        palette: Looks of the groups.
        published: Values by group and number of labels, drawn beside the measured ones.
        level: A line in every panel.
    """
    areas = runs.area(measure.of)
    groups, reference = by_mean(areas), reference_of(areas)
    curves = {group: _Curve.of(runs, group, measure) for group in groups}
    points = _points(published, groups, runs.labels[-1])
    others = [group for group in groups if group != reference]
    layout = _PanelLayout.of(groups)
    lead_height = 0.6 + 0.75 * row_height(others) * len(others) if others else 0
    mpl = new_figure(WIDTH, layout.height + lead_height)
    place = GridSpec(1, 1, mpl)[0]
    if others:
        halves = GridSpec(2, 1, mpl, height_ratios=[lead_height, layout.height])
        place = halves[1]
        lead = mpl.add_subplot(halves[0])
        draw_lead(lead, areas, others, reference, measure.name, palette)
    cells = place.subgridspec(layout.rows, layout.columns)
    grid = cells.subplots(sharex=True, sharey=True, squeeze=False)
    panels, empty = list(grid.flat[: len(groups)]), list(grid.flat[len(groups) :])
    for group, axes in zip(groups, panels, strict=True):
        if level is not None:
            _draw_level(axes, level)
        _draw_panel(axes, group, curves, reference, points.get(group, []), palette)
        axes.set_title(
            wrapped(group, layout.name_length), loc="left", fontweight="bold", fontsize=7.5
        )
        mark(group, axes)
    _limit_heights(grid[0, 0], curves, points, level)
    for axes in grid[-1]:
        if axes not in empty:
            axes.set_xlabel("labels")
    for axes in grid[:, 0]:
        axes.set_ylabel(measure.name)
    key = _key(curves, reference, bool(points), level)
    _add_key(mpl, empty, key, layout.name_length - HANDLE)
    title = f"{capitalized(measure.name)} over labels"
    caption = _caption(runs, measure, curves, reference, bool(points), level)
    return finished(f"{prefix}{measure.key}", title, caption, mpl)


@dataclass(frozen=True)
class _PanelLayout:
    """rows, columns: of the grid. name_length: characters of a name in a line. height: inches."""

    rows: int
    columns: int
    name_length: int
    height: float

    @classmethod
    def of(cls, groups: Sequence[str]) -> _PanelLayout:
        most = MOST_COLUMNS if max(map(len, groups)) <= LONG_NAME else MOST_COLUMNS - 1
        rows = math.ceil(len(groups) / most)
        columns = math.ceil(len(groups) / rows)
        name_length, height = PANELS[columns]
        lines = max(wrapped(group, name_length).count("\n") for group in groups)
        return cls(rows, columns, name_length, 0.35 + (height + 0.13 * lines) * rows)


@dataclass(frozen=True)
class _Curve:
    """A metric of one group: seeds x rounds, its mean over seeds and half its interval."""

    labels: Sequence[int]
    values: np.ndarray
    mean: np.ndarray
    half: np.ndarray | None

    @classmethod
    def of(cls, runs: Runs, group: str, measure: Measure) -> _Curve:
        values = np.array(
            [[value_of(each, measure.of) for each in run.rounds] for run in runs.of_group(group)]
        )
        half = half_interval(values) if len(values) >= FEWEST_FOR_T else None
        return cls(labels_of(runs, group), values, values.mean(axis=0), half)


def _points(
    published: Published, groups: Sequence[str], last: int
) -> dict[str, list[tuple[int, float]]]:
    """Published points of each group, up to the last measured number of labels."""
    found = {
        group: sorted(point for point in published[group].items() if point[0] <= last)
        for group in groups
        if group in published
    }
    return {group: points for group, points in found.items() if points}


def _draw_level(axes: Axes, level: Level) -> None:
    axes.axhline(level.mean, label="level", zorder=1.5, **LEVEL_STYLE)
    if level.half is not None:
        axes.axhspan(*level.ends, zorder=1, **LEVEL_BAND)


def _draw_panel(
    axes: Axes,
    group: str,
    curves: Mapping[str, _Curve],
    reference: str,
    points: Sequence[tuple[int, float]],
    palette: Palette,
) -> None:
    for other, curve in curves.items():
        if other not in (group, reference):
            mark(other, *axes.plot(curve.labels, curve.mean, c=LIGHT, lw=0.5, label="other"))
    if reference != group:
        curve = curves[reference]
        [line] = axes.plot(curve.labels, curve.mean, c=GREY, lw=0.9, label="reference")
        line.set(linestyle=(0, (3, 2)), zorder=2.1)
        mark(reference, line)
    _draw_curve(axes, group, curves[group], palette.looks[group])
    if points:
        look = palette.looks[group]
        mark(
            group,
            *axes.plot(
                *zip(*points, strict=True),
                color=look.colour,
                marker=look.marker,
                zorder=2.6,
                label="published",
                **PUBLISHED_STYLE,
            ),
        )
    axes.grid(axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10], integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(4))


def _draw_curve(axes: Axes, group: str, curve: _Curve, look: Look) -> None:
    if curve.half is not None:
        low, high = curve.mean - curve.half, curve.mean + curve.half
        band = axes.fill_between(curve.labels, low, high, color=look.colour)
        band.set(alpha=0.2, linewidth=0)
        mark(group, band)
    elif len(curve.values) > 1:
        seeds = axes.plot(curve.labels, curve.values.T, c=look.colour, alpha=0.4, lw=0.5)
        for seed in seeds:
            seed.set_label("seed")
        mark(group, *seeds)
    [edge] = axes.plot(curve.labels, curve.mean, c=EDGE, lw=2.4, label="edge", zorder=3)
    [line] = axes.plot(curve.labels, curve.mean, c=look.colour, lw=1.6, label="mean", zorder=3)
    line.set(marker=look.marker, markersize=4.5, mec=EDGE, mew=0.4)
    line.set(markevery=math.ceil(len(curve.labels) / MOST_MARKS))
    mark(group, edge, line)


def _limit_heights(
    axes: Axes,
    curves: Mapping[str, _Curve],
    points: Mapping[str, Sequence[tuple[int, float]]],
    level: Level | None,
) -> None:
    heights = [accuracy for of_group in points.values() for _, accuracy in of_group]
    heights += level.ends if level is not None else ()
    for curve in curves.values():
        half = 0 if curve.half is None else np.nan_to_num(curve.half)
        heights += [(curve.mean - half).min(), (curve.mean + half).max()]
        if curve.half is None:
            heights += [curve.values.min(), curve.values.max()]
    margin = 0.05 * max(0.02, max(heights) - min(heights))
    axes.set_ylim(max(min(heights) - margin, -0.01), min(max(heights) + margin, 1.01))


def _caption(
    runs: Runs,
    measure: Measure,
    curves: Mapping[str, _Curve],
    reference: str,
    has_points: bool,
    level: Level | None,
) -> str:
    metric = measure.name
    has_bands = any(curve.half is not None for curve in curves.values())
    sentences = []
    if len(curves) > 1:
        sentences += [
            f"Top: area under the {metric} curve minus that of {reference}, paired by seed.",
            "Large marks and numbers are means, small dots are seeds.",
        ]
        if has_bands:
            sentences += [
                "Bars are 95% confidence intervals by Student's t.",
                f"Bold differences are significant (paired t-test, {ALPHA}, Holm over all pairs).",
            ]
        sentences.append("Below: one panel per group, the largest area first.")
    sentences.append(
        f"{measure.about} over the number of labels, mean of "
        f"{seed_count(runs)}{', with its 95% confidence interval' * has_bands}."
    )
    if any(curve.half is None and len(curve.values) > 1 for curve in curves.values()):
        sentences.append("Faint lines are seeds where they are too few for an interval.")
    if has_points:
        sentences.append("Hollow marks on dotted lines are the published values.")
    if level is not None:
        sentences.append(level.about)
    if max(len(curve.labels) for curve in curves.values()) > MOST_MARKS:
        sentences.append("Not every measured value has a mark.")
    return " ".join([*sentences, "Nothing is smoothed."])


def _key(
    curves: Mapping[str, _Curve], reference: str, has_points: bool, level: Level | None
) -> dict[str, Artist]:
    key: dict[str, Artist] = {"mean": Line2D([], [], color="black", marker="o", ms=4, lw=1.8)}
    if any(curve.half is not None for curve in curves.values()):
        key["95% interval"] = Patch(fc="black", alpha=0.2)
    if has_points:
        key["published"] = Line2D([], [], color="black", marker="o", **PUBLISHED_STYLE)
    if len(curves) > 1:
        key[reference] = Line2D([], [], color=GREY, lw=0.9, ls=(0, (3, 2)))
    if len(curves) > 2:
        key["the others"] = Line2D([], [], color=LIGHT, lw=0.8)
    if level is not None:
        key[level.name] = Line2D([], [], **LEVEL_STYLE)
    return key


def _add_key(
    mpl: MplFigure, empty: Sequence[Axes], key: Mapping[str, Artist], name_length: int
) -> None:
    """Explain the panels' lines in an empty cell of the grid, or below all panels. name_length:
    characters of a name in a line of a cell."""
    for axes in empty:  # name the ticks of the panel above
        axes.tick_params(length=0, labelleft=False, labelbottom=False, labeltop=True)
        axes.spines[:].set_visible(False)
        axes.grid(visible=False)
    if empty:
        names = [wrapped(name, name_length) for name in key]
        legend = empty[0].legend(
            key.values(), names, loc="upper left", handlelength=2.5, borderaxespad=0.2
        )
        legend.set_in_layout(False)
    else:
        add_legend(mpl, list(key.values()), list(key))


def area_figure(runs: Runs, prefix: str, palette: Palette) -> Figure:
    """Draw the area under the accuracy curve of every group, the best at the top."""
    areas = runs.area("accuracy")
    groups = by_mean(areas)
    mpl = new_figure(WIDTH, 0.5 + row_height(groups) * len(groups))
    axes = mpl.subplots()
    for row, group in enumerate(groups):
        values, look = areas[group].dropna().to_numpy(), palette.looks[group]
        mean, half = values.mean(), half_interval(values)
        below = np.full(len(values), row + 0.25)
        marks = axes.plot(
            values, below, "o", ms=3.5, mew=0, c=look.colour, alpha=0.5, label="seeds"
        )
        if half is not None:
            ends = [mean - half, mean + half]
            marks += axes.plot(ends, [row, row], c=look.colour, marker="|", label="interval")
        marks += axes.plot([mean], [row], look.marker, ms=7, c=look.colour, label="mean")
        mark(group, *marks)
    name_rows(axes, groups)
    axes.set_xlabel("area under the accuracy curve")
    axes.grid(axis="x")
    caption = (
        "Area under the accuracy curve, divided by the range of labels, so that it is a mean "
        f"accuracy. Large marks are means of {seed_count(runs)}, with 95% confidence intervals by "
        "Student's t if there are several; dots are seeds. The best is at the top"
    )
    if missing_seeds(areas):
        caption += ", by the seeds that all groups have"
    caption += "."
    return finished(f"{prefix}area", "Area under the accuracy curve", caption, mpl)
