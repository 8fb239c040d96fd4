"""Figures of what runs consist of: classes of the queries, layers of the masks, time by stage."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

import numpy as np
import pandas as pd
from matplotlib.colors import LogNorm
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter

from fm_al.report.drawing import (
    WIDTH,
    Figure,
    add_legend,
    finished,
    label_grid,
    label_right,
    labels_of,
    mark,
    name_rows,
    new_figure,
    row_height,
    seed_count,
    wrapped,
)
from fm_al.report.palette import Palette, fill
from fm_al.report.runs import Runs
from fm_al.report.values import by_numbers

MOST_CLASSES = 20
MOST_LAYERS = 36


def query_figure(runs: Runs, prefix: str, palette: Palette) -> Figure | None:
    """Draw the classes of the queried images; None if nothing was queried."""
    shares = {group: _query_shares(runs, group) for group in palette.ordered(runs.groups)}
    shares = {group: share for group, share in shares.items() if len(share)}
    if not shares:
        return None
    together = pd.concat(shares.values()).fillna(0)
    classes = list(together.columns)
    caption = (
        "Fraction of every class in each query, mean over seeds. A bar spans the labels that its "
        "query added."
    )
    if len(classes) > MOST_CLASSES:
        most = set(together.mean().nlargest(MOST_CLASSES - 1).index)
        rest = [name for name in classes if name not in most]
        others = f"{len(rest)} other classes"
        classes = [*(name for name in classes if name in most), others]
        for share in shares.values():
            share[others] = share.reindex(columns=rest).sum(axis=1)
        caption += f" Only the {len(most)} classes queried most are shown separately."
    mpl = new_figure(WIDTH, 0.3 + 1.35 * math.ceil(len(shares) / 3))
    for (group, share), axes in zip(shares.items(), label_grid(mpl, len(shares), 3), strict=True):
        labels = labels_of(runs, group)
        bottom = np.zeros(len(share))
        for number, name in enumerate(classes):
            top = bottom + (share[name].to_numpy() if name in share else 0)
            axes.stairs(top, labels, baseline=bottom, fill=True, label=name).set(**fill(number))
            bottom = top
        axes.vlines(labels[1:-1], 0, 1, colors="white", linewidth=0.5)
        axes.set(
            title=wrapped(group), xlim=(labels[0], labels[-1]), ylim=(0, 1), yticks=(0, 0.5, 1)
        )
        mark(group, axes)
    mpl.supylabel("fraction of the query", fontsize=8)
    add_legend(mpl, [Patch(**fill(number)) for number in range(len(classes))], classes)
    return finished(f"{prefix}queries", "Classes of the queried images", caption, mpl)


def _query_shares(runs: Runs, group: str) -> pd.DataFrame:
    """Queries x classes, mean over seeds; the last round queries nothing."""
    of_group = runs.of_group(group)
    queries = [[each.queried_classes for each in run.rounds[:-1]] for run in of_group]
    classes = of_group[0].result.class_names
    counts = np.array(queries, float).reshape(len(of_group), -1, len(classes))
    return pd.DataFrame((counts / counts.sum(axis=2, keepdims=True)).mean(axis=0), columns=classes)


def mask_figure(runs: Runs, prefix: str, palette: Palette) -> Figure | None:
    """Draw the layers of the masked weights; None without masks."""
    shares = {group: _mask_shares(runs, group) for group in palette.ordered(runs.groups)}
    shares = {group: share for group, share in shares.items() if np.nansum(share) > 0}
    if not shares:
        return None
    least = min(share.where(share > 0).min(axis=None) for share in shares.values())
    norm = LogNorm(10.0 ** max(-5, min(-1, math.floor(math.log10(least)))), 1)
    height = max(1.2, 0.5 + 0.13 * max(map(len, shares.values())))
    mpl = new_figure(WIDTH, 0.3 + height * math.ceil(len(shares) / 2))
    grid = label_grid(mpl, len(shares), 2, share_y=False)
    for (group, share), axes in zip(shares.items(), grid, strict=True):
        rows, cells = np.arange(len(share) + 1) - 0.5, share.where(share > 0).to_numpy()
        mesh = axes.pcolormesh(labels_of(runs, group), rows, cells, norm=norm, cmap="cividis_r")
        mesh.set(edgecolor="face", linewidth=0.1)  # else there are gaps in PDF
        axes.set_title(wrapped(group))
        axes.set_yticks(range(len(share)), list(share.index), fontsize=6.5)
        axes.set_ylim(rows[-1], rows[0])
        axes.tick_params(axis="y", length=0)
        mark(group, axes)
    thin = 6 * mpl.get_figheight()
    bar = mpl.colorbar(mesh, ax=grid, label="fraction of the mask", aspect=thin)
    bar.ax.yaxis.set_major_formatter(FuncFormatter(_percent))
    bar.ax.minorticks_off()
    caption = (
        "Fraction of the mask's weights in each layer or block at each query, mean over seeds. The "
        "input is at the top, the output at the bottom. White: none."
    )
    return finished(f"{prefix}mask", "Layers of the masked weights", caption, mpl)


def _percent(share: float, position: int) -> str:
    return f"{100 * share:g}%"


def _mask_shares(runs: Runs, group: str) -> pd.DataFrame:
    """Layers x queries, mean over seeds. Many layers are merged by the starts of their names."""
    masks = [
        {each.labelled: each.strategy.get("mask_sizes", {}) for each in run.rounds[:-1]}
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
    """The layers of all masks in the network's order.

    A mask names, in that order, only layers in which it has weights. What the masks leave open is
    decided by the numbers in names; a module's weight comes before its bias.
    """

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


def seconds_figure(runs: Runs, prefix: str, palette: Palette) -> Figure:
    """Draw the time of a run by stage."""
    groups = palette.ordered(runs.groups)
    seconds = pd.DataFrame([run.result.seconds for run in runs.runs]).fillna(0)
    means = seconds.groupby([run.group for run in runs.runs]).mean().loc[groups]
    longest = means.sum(axis=1).max()
    units = ("seconds", 1), ("minutes", 60), ("hours", 3600)
    unit, length = next(
        each for each in reversed(units) if longest >= 2 * each[1] or each == units[0]
    )
    mpl = new_figure(WIDTH, 0.5 + row_height(groups) * len(groups))
    axes = mpl.subplots()
    left = np.zeros(len(groups))
    for number, stage in enumerate(means.columns):
        widths = means[stage].to_numpy() / length
        bars = axes.barh(range(len(groups)), widths, 0.6, left, label=stage, **fill(number))
        for group, bar in zip(groups, bars, strict=True):
            mark(group, bar)
        left += widths
    for row, (group, total) in enumerate(zip(groups, left, strict=True)):
        mark(group, label_right(axes, total, row, f"{total:.1f}"))
    name_rows(axes, groups)
    axes.set_xlabel(f"{unit} for a run")
    stages = list(means.columns)
    add_legend(mpl, [Patch(**fill(number)) for number in range(len(stages))], stages)
    caption = (
        f"Time of a run by stage, mean of {seed_count(runs)}, with the total at the end. Machines "
        "may differ."
    )
    return finished(f"{prefix}seconds", "Time by stage", caption, mpl)
