"""The upper panel of a metric's figure: how far each group is ahead of the reference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from fm_al.report.drawing import EDGE, LINE, mark, name_rows, wrapped
from fm_al.report.palette import GREY, Palette
from fm_al.report.runs import REFERENCE
from fm_al.report.statistics import Comparison, all_compared, by_mean, common_seeds


def reference_of(frame: pd.DataFrame) -> str:
    """The group that others are compared with: `random`, else the group of the smallest mean over
    the seeds that all groups have."""
    if REFERENCE in frame:
        return REFERENCE
    common = common_seeds(frame)
    return by_mean(frame if common.empty else common)[-1]


def draw_lead(
    axes: Axes,
    areas: pd.DataFrame,
    groups: Sequence[str],
    reference: str,
    metric: str,
    palette: Palette,
) -> None:
    compared = {
        other: each
        for each in all_compared(areas)
        if (other := each.against(reference)) is not None
    }
    for row, group in enumerate(groups):
        _draw_difference(
            axes, row, group, areas[group] - areas[reference], compared[group], palette
        )
    axes.axvline(0, c=GREY, lw=1, ls=(0, (3, 2)), zorder=1)
    name_rows(axes, groups)
    axes.grid(axis="x")
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    text = (
        f"area under the {metric} curve minus that of {reference} ({areas[reference].mean():.3f})"
    )
    axes.set_xlabel(wrapped(text, LINE))


def _draw_difference(
    axes: Axes,
    row: int,
    group: str,
    differences: pd.Series,
    comparison: Comparison,
    palette: Palette,
) -> None:
    look, there = palette.looks[group], differences.dropna()
    right = axes.get_yaxis_transform()
    if there.empty:
        mark(group, axes.text(0.02, row, "no seed in common", transform=right, va="center"))
        return
    sign = 1 if comparison.first == group else -1
    mean = sign * comparison.difference
    dots = axes.plot(there, np.full(len(there), row + 0.28), "o", ms=2.5, mew=0, c=look.colour)
    dots[0].set(alpha=0.5, label="seeds")
    marks: list[Artist] = [*dots]
    if comparison.interval is not None:
        ends = sorted(sign * end for end in comparison.interval)
        marks += axes.plot(ends, [row, row], c=look.colour, lw=2.4, label="interval", alpha=0.7)
        marks[-1].set(solid_capstyle="butt")
    marks += axes.plot([mean], [row], look.marker, ms=6.5, c=look.colour, label="mean")
    marks[-1].set(mec=EDGE, mew=0.5)
    said = axes.text(1.02, row, f"{mean:+.3f}", transform=right, va="center")
    if comparison.winner is not None:
        said.set_fontweight("bold")
    mark(group, *marks, said)
