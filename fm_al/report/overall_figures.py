"""Figures over all settings: pairwise penalties and mean ranks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps, style
from matplotlib.colors import Normalize, to_rgb
from matplotlib.patches import Rectangle

from fm_al.report.drawing import (
    STYLE,
    WIDTH,
    Figure,
    finished,
    label_right,
    mark,
    new_figure,
    row_height,
    wrapped,
)
from fm_al.report.palette import is_light
from fm_al.report.statistics import Penalties


@style.context(STYLE)
def penalty_figure(penalties: Penalties, title: str, note: str) -> Figure:
    """Draw how often each group beats the others. note: what a reader must know."""
    matrix = penalties.matrix
    count = len(matrix)
    values = np.vstack([matrix, penalties.lost]).astype(float)
    rows = [*range(count), count + 0.2]
    norm = Normalize(0, max(1e-9, np.nanmax(values)))
    height = 1.2 + row_height(matrix.index) * count
    mpl = new_figure(min(WIDTH, 1.8 + 0.5 * count), height)
    axes = mpl.subplots()
    shades = colormaps["Blues"]
    for place, of_row in enumerate(values):
        row, beats = rows[place], list(matrix.index[place : place + 1])
        for column, value in enumerate(of_row):
            lacks = math.isnan(value)
            shade = "white" if lacks else shades(norm(value))
            ink = "black" if is_light(to_rgb(shade)) else "white"
            text = "–" if lacks else f"{value:.2f}"
            mark(
                [*beats, matrix.columns[column]],
                axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fc=shade, ec="white")),
                axes.text(column, row, text, color=ink, ha="center", va="center"),
            )
    axes.set(xlim=(-0.5, count - 0.5), ylim=(rows[-1] + 0.5, -0.5))
    axes.set_yticks(rows, [*map(wrapped, matrix.index), "lost, mean"])
    axes.set_xticks(range(count), list(map(wrapped, matrix.columns)))
    for labels in (axes.get_yticklabels()[:count], axes.get_xticklabels()):
        for group, label in zip(matrix.index, labels, strict=True):
            mark([group], label)
    if max(map(len, matrix.columns)) > 7:
        for label in axes.get_xticklabels():
            label.set(rotation=90 if "\n" in label.get_text() else 40, rotation_mode="anchor")
            label.set(ha="right", va="center")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return finished("penalty", title, note, mpl)


@style.context(STYLE)
def rank_figure(ranks: pd.Series, critical_difference: float, title: str, note: str) -> Figure:
    """Draw mean ranks as in Demšar 2006 (JMLR 7, figure 1). note: what else a reader must know."""
    ordered = ranks.sort_values(kind="stable")
    count, end = len(ordered), max(2, len(ordered))
    margin, step = 0.04 * (end - 1), row_height(ordered.index) / 0.3
    caption = "Mean ranks; 1, at the left, is best."
    mpl = new_figure(WIDTH, 0)
    axes = mpl.subplots()
    axes.axis("off")
    line: dict[str, Any] = {"color": "black", "linewidth": 0.8, "clip_on": False}
    axes.plot([1, end], [0, 0], **line)
    for rank in range(1, end + 1):
        axes.plot([rank, rank], [0, -0.25], **line)
        axes.text(rank, -0.4, str(rank), ha="center")
    top, said = -2.5, f"critical difference {critical_difference:.2f}"
    axes.plot([1, 1 + critical_difference], [-1.7, -1.7], marker="|", label="critical", **line)
    label_right(axes, 1 + critical_difference, -1.7, said)
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
        parts = [wrapped(group), f"{rank:.2f}"]
        side, x, gap = "right", 1 - margin, -margin / 2
        if place > from_end:
            side, x, gap = "left", end + margin, margin / 2
            parts.reverse()
        elbow = axes.plot([rank, rank, x], [0, row, row], label=group, **line)
        name = axes.text(x + gap, row, "  ".join(parts), ha=side, va="center")
        mark(group, *elbow, name)
    bottom += 0.9 + step * math.ceil(count / 2)
    mpl.set_figheight(0.2 + 0.2 * (bottom - top))
    axes.set(xlim=(1 - margin, end + margin), ylim=(bottom, top))
    return finished("ranks", title, f"{caption} {note}".strip(), mpl)


def _connected(ranks: Sequence[float], critical_difference: float) -> list[tuple[int, int]]:
    """First and last index of each maximal group of sorted ranks within the critical difference."""
    spans: list[tuple[int, int]] = []
    for first, rank in enumerate(ranks):
        last = sum(other - rank < critical_difference for other in ranks) - 1
        if last > first and (not spans or last > spans[-1][1]):
            spans.append((first, last))
    return spans
