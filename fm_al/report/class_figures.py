"""Figures of the classes that labels are of, and of the accuracy on rare classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from fm_al.records.naming import cut
from fm_al.report.bound_tables import bound_level
from fm_al.report.class_tiers import Tiers, counts_classes, tiers_of
from fm_al.report.curves import Level, metric_figure
from fm_al.report.drawing import (
    WIDTH,
    Figure,
    finished,
    label_grid,
    labels_of,
    mark,
    new_figure,
    wrapped,
)
from fm_al.report.metrics import Measure, capitalized
from fm_al.report.palette import Palette
from fm_al.report.runs import Runs
from fm_al.report.text import listed

MOST_NAMED = 20  # classes; more have too little room for names
LONGEST_CLASS = 14  # characters
TICKS_PER_INCH = 3  # of the colour bar


def tier_figures(runs: Runs, prefix: str, palette: Palette) -> list[Figure]:
    """Draw the accuracy on the rarest classes of one setting, and their share of the labels; none
    for classes that are level, or records that do not count them."""
    tiers = tiers_of(runs)
    if tiers is None or len(runs.labels) < 2:
        return []
    rarest = tiers.rarest
    accuracy = Measure(
        f"{rarest}_accuracy",
        f"{rarest} accuracy",
        partial(tiers.accuracy, rarest),
        f"{capitalized(rarest)} accuracy (mean of the accuracies on the {rarest} classes)",
    )
    share = Measure(
        f"{rarest}_share",
        f"{rarest} share",
        partial(tiers.share, rarest),
        f"{capitalized(rarest)} share (fraction of the labels that are of the {rarest} classes)",
    )
    in_pool = Level(
        "share in the pool",
        "The dash-dotted line is their share in the pool.",
        tiers.pool_share(rarest),
    )
    levels = {accuracy: bound_level(runs, accuracy.of), share: in_pool}
    figures = []
    for measure, level in levels.items():
        if runs.area(measure.of).notna().equals(runs.area("accuracy").notna()):
            figures.append(metric_figure(runs, prefix, measure, palette, {}, level))
    return figures


def class_figure(runs: Runs, prefix: str, palette: Palette) -> Figure | None:
    """Draw how many labels each class has over the budget; None if records do not count them, or
    nothing is queried."""
    groups = palette.ordered(runs.groups)
    if not counts_classes(runs) or any(len(labels_of(runs, group)) < 2 for group in groups):
        return None
    names, tiers = runs.runs[0].result.class_names, tiers_of(runs)
    order = [*range(len(names))]
    if tiers is not None:
        order.sort(key=lambda number: -tiers.pool[number])
    counts = {group: _mean_counts(runs, group)[order] for group in groups}
    most = max(2.0, *(float(each.max()) for each in counts.values()))
    norm = LogNorm(1, most)
    height = min(2.2, max(1.1, 0.35 + 0.09 * len(names)))
    mpl = new_figure(WIDTH, 0.3 + height * math.ceil(len(groups) / 3))
    grid = label_grid(mpl, len(groups), 3)
    for group, axes in zip(groups, grid, strict=True):
        shown = np.ma.masked_equal(counts[group], 0)
        mesh = axes.pcolormesh(
            labels_of(runs, group), range(len(names)), shown, norm=norm, cmap="cividis_r",
            shading="nearest",
        )  # fmt: skip
        mesh.set(edgecolor="face", linewidth=0.1)  # else there are gaps in PDF
        axes.set_title(wrapped(group))
        axes.set_ylim(len(names) - 0.5, -0.5)
        mark(group, axes)
    places, row_names = _row_names([names[number] for number in order], tiers)
    for axes in grid:
        axes.set_yticks(places, row_names)
        axes.tick_params(axis="y", length=0, labelsize=6.5)
        if tiers is not None:
            across = axes.get_yaxis_transform()
            axes.hlines(_ends(tiers)[:-1] - 0.5, 0, 1, "white", lw=1.5, transform=across)
    bar = mpl.colorbar(mesh, ax=grid, label="labels", aspect=6 * mpl.get_figheight())
    has_room = 3 * math.log10(most) < TICKS_PER_INCH * mpl.get_figheight()
    bar.ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if has_room else (1,)))
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    caption = (
        "Labelled images of each class over the number of labels, the first labels included, mean "
        "over seeds, on a log scale. White: none."
    )
    if tiers is not None:
        caption += (
            " The class with the most images in the pool is at the top. White lines are between "
            f"{listed([*tiers.of])} classes."
        )
    return finished(f"{prefix}class_labels", "Labels of each class", caption, mpl)


def _mean_counts(runs: Runs, group: str) -> np.ndarray:
    """Labels of each class in each round, mean over seeds: classes x rounds."""
    counts = [[each.labelled_classes for each in run.rounds] for run in runs.of_group(group)]
    return np.array(counts, float).mean(axis=0).T


def _row_names(names: Sequence[str], tiers: Tiers | None) -> tuple[Sequence[float], Sequence[str]]:
    """Rows to name, and their names: all classes, or the middle of each tier for many."""
    if len(names) <= MOST_NAMED:
        return range(len(names)), [cut(name, LONGEST_CLASS) for name in names]
    if tiers is None:
        return [], []
    ends = _ends(tiers)
    return (np.array([0, *ends[:-1]]) + ends - 1) / 2, [*tiers.of]


def _ends(tiers: Tiers) -> np.ndarray:
    """Where each tier ends, in rows from the top."""
    return np.cumsum([len(classes) for classes in tiers.of.values()])
