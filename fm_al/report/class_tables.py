"""Tables of the classes that labels are of, and of the accuracy on frequent and rare classes."""

from __future__ import annotations

from functools import partial

import pandas as pd

from fm_al.report.class_tiers import Tiers, counts_classes, pool_counts, tiers_of
from fm_al.report.drawing import half_interval
from fm_al.report.means import AREA_OF_SHARE, by_area, compared_by, mean_cell, means_table
from fm_al.report.runs import Run, Runs
from fm_al.report.text import listed
from fm_al.report.typeset import Cell, Table

POOL = "the pool"


def class_tables(runs: Runs, prefix: str) -> list[Table]:
    """The tables of one setting whose records count the classes of pool and labels; else none."""
    if not counts_classes(runs):
        return []
    tiers = tiers_of(runs)
    tables = (
        [] if tiers is None else [_accuracies(runs, prefix, tiers), _labels(runs, prefix, tiers)]
    )
    return [*tables, _labels_of_classes(runs, prefix)]


def _accuracies(runs: Runs, prefix: str, tiers: Tiers) -> Table:
    """Accuracy on the classes of each tier, at the last number of labels and as area."""
    frames: dict[str, pd.DataFrame] = {}
    for tier in tiers.of:
        accuracy = partial(tiers.accuracy, tier)
        frames |= {tier: runs.final(accuracy), f"{tier}, area": runs.area(accuracy)}
    return means_table(
        runs,
        f"{prefix}tier_accuracy",
        f"Accuracy on {listed([*tiers.of])} classes at {runs.labels[-1]} labels, and its area",
        frames,
        ["each is the mean of the accuracies on its classes", AREA_OF_SHARE, tiers.definition],
    )


def _labels(runs: Runs, prefix: str, tiers: Tiers) -> Table:
    """Labels of each tier at the last number of labels, beside the pool."""
    rows = []
    for group in by_area(runs):
        last = [run.at(runs.labels[-1]) for run in runs.of_group(group)]
        row = [Cell(group)]
        for tier in tiers.of:
            counts = pd.Series([float(tiers.labels(tier, each)) for each in last])
            shares = pd.Series([tiers.share(tier, each) for each in last])
            row += [mean_cell(counts, "{:.1f}"), _with_interval(shares)]
        rows.append(row)
    pool = [Cell(POOL)]
    for tier, classes in tiers.of.items():
        images, share = sum(tiers.pool[number] for number in classes), tiers.pool_share(tier)
        pool += [Cell(f"{images:,.0f}", images), Cell(f"{share:.1%}", share)]
    columns = [name for tier in tiers.of for name in (f"{tier} labels", f"{tier} share")]
    return Table(
        f"{prefix}tier_labels",
        f"Labels of {listed([*tiers.of])} classes at {runs.labels[-1]} labels",
        [compared_by(runs), *columns],
        [*rows, pool],
        [
            "labels: mean ± standard deviation over seeds, the first labels included; share: of "
            "all labels, with its 95% confidence interval by Student's t; drawn at random, labels "
            "have the shares of the pool on average",
            tiers.definition,
        ],
    )


def _with_interval(shares: pd.Series) -> Cell:
    """Mean and 95% interval of fractions."""
    mean = float(shares.mean())
    half = half_interval(shares.to_numpy())
    spread = float(shares.std(ddof=1)) if len(shares) > 1 else None
    if half is None:
        return Cell(f"{mean:.1%}", mean, spread)
    low, high = max(0.0, mean - float(half)), min(1.0, mean + float(half))
    return Cell(f"{mean:.1%} ({100 * low:.1f} to {100 * high:.1f})", mean, spread)


def _labels_of_classes(runs: Runs, prefix: str) -> Table:
    """Labels of each class at the last number of labels, beside the pool."""
    names, labels = runs.runs[0].result.class_names, runs.labels[-1]

    def count(number: int, run: Run) -> float:
        return float(run.at(labels).labelled_classes[number])

    rows = [
        [
            Cell(group),
            *(
                mean_cell(pd.Series([count(number, run) for run in runs.of_group(group)]), "{:.1f}")
                for number in range(len(names))
            ),
        ]
        for group in by_area(runs)
    ]
    pool = [Cell(f"{images:,.0f}", images) for images in pool_counts(runs)]
    return Table(
        f"{prefix}class_labels",
        f"Labels of each class at {labels} labels",
        [compared_by(runs), *names],
        [*rows, [Cell(POOL), *pool]],
        [
            "mean ± standard deviation over seeds, the first labels included; last row: images of "
            "the class in the pool"
        ],
    )
