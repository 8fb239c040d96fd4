"""What training on the whole pool reaches, and how much of it a strategy reaches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from fm_al.report.curves import Level
from fm_al.report.drawing import half_interval
from fm_al.report.means import by_area, compared_by, mean_cell
from fm_al.report.metrics import metrics_of
from fm_al.report.runs import Metric, Runs, value_of
from fm_al.report.typeset import NO_NUMBER, Cell, Table


def bound_name(runs: Runs) -> str:
    """What the upper bound is called, with its number of labels."""
    labels = sorted({run.rounds[-1].labelled for run in runs.bounds})
    return f"whole pool, {' or '.join(f'{each:,}' for each in labels)} labels"


def bound_values(runs: Runs, metric: Metric) -> pd.Series:
    """A metric of training on the whole pool, by seed, without runs that lack it."""
    values = {run.seed: value_of(run.rounds[-1], metric) for run in runs.bounds}
    return pd.Series(values, dtype=float).dropna()


def bound_level(runs: Runs, metric: Metric) -> Level | None:
    """The line of the upper bound in a figure; None without one."""
    values = bound_values(runs, metric)
    if values.empty:
        return None
    half = half_interval(values.to_numpy())
    seeds = f"{len(values)} seed{'s' * (len(values) > 1)}"
    interval = ", with its 95% confidence interval" * (half is not None)
    about = (
        f"The dash-dotted line is training on the {bound_name(runs)}: mean of {seeds}{interval}."
    )
    return Level(
        bound_name(runs), about, float(values.mean()), None if half is None else float(half)
    )


def bound_row(runs: Runs, metrics: Sequence[Metric]) -> list[list[Cell]]:
    """The row of the upper bound below a table with these columns; none without one."""
    if not runs.bounds:
        return []
    cells = [mean_cell(bound_values(runs, metric)) for metric in metrics]
    return [[Cell(bound_name(runs)), *cells]]


def bound_table(runs: Runs, prefix: str) -> list[Table]:
    """The fraction of the upper bound that every group reaches; none without a bound."""
    if not runs.bounds:
        return []
    metrics = metrics_of(runs)
    rows = []
    for group in by_area(runs):
        row = [Cell(group)]
        for metric in metrics:
            reached = (runs.final(metric)[group] / bound_values(runs, metric)).dropna()
            row.append(_fraction_cell(reached))
        rows.append(row)
    seeds = [run.seed for run in runs.bounds]
    return [
        Table(
            f"{prefix}of_whole_pool",
            f"Fraction of training on the whole pool that {runs.labels[-1]} labels reach",
            [compared_by(runs), *metrics.values()],
            rows,
            [
                "metric / metric of the same seed's run on the "
                f"{bound_name(runs)}; mean ± standard deviation over the seeds that have both "
                f"({len({*seeds} & {*runs.seeds})} of {len(runs.seeds)})"
            ],
        )
    ]


def _fraction_cell(reached: pd.Series) -> Cell:
    if reached.empty or not np.isfinite(reached).all():
        return NO_NUMBER
    return mean_cell(reached, "{:.1%}")
