"""The tables of one setting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from fm_al.records.curve import area_under_curve
from fm_al.report.bound_tables import bound_row, bound_table
from fm_al.report.class_tables import class_tables
from fm_al.report.comparison_tables import comparisons, test_image_count
from fm_al.report.means import AREA, AREA_OF_SHARE, by_area, compared_by, mean_cell, means_table
from fm_al.report.metrics import (
    ABOUT_FURTHER,
    METRICS,
    capitalized,
    further_metrics_of,
    metrics_of,
)
from fm_al.report.published import Published
from fm_al.report.runs import REFERENCE, Runs
from fm_al.report.statistics import all_compared, labels_needed, share_saved
from fm_al.report.typeset import NO_NUMBER, Cell, Table

STAGES = ("train", "evaluate", "query")


def tables_of_setting(runs: Runs, prefix: str, targets: Sequence[float]) -> list[Table]:
    """Make the tables of one setting.

    Args:
        runs: The runs of one setting.
        prefix: Start of the tables' file names.
        targets: Values of each metric to count the labels for, beside random's last value.
    """
    return [
        *(_over_labels(runs, prefix, metric) for metric in metrics_of(runs)),
        *_final_metrics(runs, prefix),
        _areas(runs, prefix),
        *bound_table(runs, prefix),
        *(
            table
            for metric in metrics_of(runs)
            for table in _labels_to_targets(runs, prefix, metric, targets)
        ),
        *class_tables(runs, prefix),
        *_per_class(runs, prefix),
        *(_differences(runs, prefix) if len(runs.groups) > 1 else []),
        _seconds(runs, prefix),
    ]


def _differences(runs: Runs, prefix: str) -> list[Table]:
    return [
        comparisons(
            f"{prefix}area_differences",
            "Differences of the area under the accuracy curve",
            all_compared(runs.area("accuracy")),
        ),
        comparisons(
            f"{prefix}final_differences",
            f"Differences of the accuracy at {runs.labels[-1]} labels",
            all_compared(runs.final("accuracy")),
            test_image_count(runs),
        ),
    ]


def _over_labels(runs: Runs, prefix: str, metric: str) -> Table:
    frames = {str(labels): runs.at(metric, labels) for labels in runs.labels}
    return means_table(
        runs,
        f"{prefix}{metric}",
        f"{capitalized(METRICS[metric])} by number of labels",
        frames,
    )


def _final_metrics(runs: Runs, prefix: str) -> list[Table]:
    """All metrics at the last number of labels; none if `_over_labels` shows them all."""
    further = further_metrics_of(runs)
    if not further and not runs.bounds:
        return []
    metrics = metrics_of(runs) | further
    return [
        means_table(
            runs,
            f"{prefix}metrics",
            f"Metrics at {runs.labels[-1]} labels",
            {name: runs.final(metric) for metric, name in metrics.items()},
            [ABOUT_FURTHER[metric] for metric in further],
            bound_row(runs, list(metrics)),
        )
    ]


def _areas(runs: Runs, prefix: str) -> Table:
    further = further_metrics_of(runs)
    metrics = metrics_of(runs) | further
    return means_table(
        runs,
        f"{prefix}areas",
        f"Area under the curve over labels, {runs.labels[0]} to {runs.labels[-1]}",
        {name: runs.area(metric) for metric, name in metrics.items()},
        [AREA if "brier_score" in further else AREA_OF_SHARE],
    )


def _labels_to_targets(
    runs: Runs, prefix: str, metric: str, targets: Sequence[float]
) -> list[Table]:
    """A table of the labels that each target takes; none without a target."""
    reference = REFERENCE if REFERENCE in runs.groups else None
    values = {labels: runs.at(metric, labels) for labels in runs.labels}
    wanted: dict[str, float | pd.Series] = {f"{target:g}": target for target in targets}
    if reference is not None:
        # A target for each seed: then random always reaches it, and no pair is lost.
        wanted = {f"{reference}'s last": runs.final(metric)[reference]} | wanted
    if not wanted:
        return []
    columns = [compared_by(runs)]
    rows = {group: [Cell(group)] for group in by_area(runs)}
    for name, target in wanted.items():
        columns.append(f"labels for {name}")
        needed = labels_needed(values, target)
        for group, row in rows.items():
            row.append(_needed_cell(needed[group], _seeds_with_target(values, group, target)))
        if reference is not None:
            columns.append(f"saved for {name}")
            saved = share_saved(needed, reference)
            for group, row in rows.items():
                row.append(NO_NUMBER if group == reference else _saved_cell(saved[group]))
    article = "an" if metric == "accuracy" else "a"
    title = f"Labels needed to reach {article} {METRICS[metric]}"
    notes = _target_notes(METRICS[metric], reference)
    return [Table(f"{prefix}labels_needed_{metric}", title, columns, list(rows.values()), notes)]


def _target_notes(metric: str, reference: str | None) -> list[str]:
    notes = [
        f"labels: the first measured number of labels with this {metric}, mean ± standard "
        "deviation over the seeds that reach it, and how many do; nothing is interpolated",
    ]
    if reference is not None:
        notes += [
            f"{reference}'s last: the final {metric} of {reference}, seed by seed",
            f"saved: 1 - labels / labels of {reference}, over the seeds where both reach it; "
            "their number is in brackets",
        ]
    return notes


def _seeds_with_target(
    values: Mapping[int, pd.DataFrame], group: str, target: float | pd.Series
) -> int:
    """How many seeds of a group have a target at all."""
    has_target = next(iter(values.values()))[group].notna()
    if isinstance(target, pd.Series):
        has_target &= target.notna()
    return int(has_target.sum())


def _needed_cell(needed: pd.Series, seeds: int) -> Cell:
    reached = int(needed.count())
    if not seeds:
        return NO_NUMBER
    if not reached:
        return Cell(f"never (0 of {seeds})", seeds=0)
    cell = mean_cell(needed, "{:.0f}")
    return Cell(f"{cell.text} ({reached} of {seeds})", cell.value, cell.spread, seeds=reached)


def _saved_cell(saved: pd.Series) -> Cell:
    if not saved.count():
        return NO_NUMBER
    cell = mean_cell(saved, "{:.0%}")
    return Cell(f"{cell.text} ({saved.count()})", cell.value, cell.spread, seeds=saved.count())


def _per_class(runs: Runs, prefix: str) -> list[Table]:
    names, labels = runs.class_names, runs.labels
    if names is None:
        return []
    at = {
        run: np.array([run.at(each).per_class_accuracy for each in labels], float)
        for run in runs.runs
    }
    last = {
        name: runs.framed({run: values[-1, number] for run, values in at.items()})
        for number, name in enumerate(names)
    }
    areas = {
        name: runs.framed(
            {run: area_under_curve(labels, list(each[:, number])) for run, each in at.items()}
        )
        for number, name in enumerate(names)
    }
    return [
        means_table(
            runs, f"{prefix}per_class", f"Accuracy of each class at {labels[-1]} labels", last
        ),
        means_table(
            runs,
            f"{prefix}per_class_areas",
            f"Area under the curve of each class's accuracy, {labels[0]} to {labels[-1]} labels",
            areas,
            [AREA_OF_SHARE],
        ),
    ]


def _seconds(runs: Runs, prefix: str) -> Table:
    rows = []
    for group in by_area(runs):
        of_runs = [run.result.seconds for run in runs.of_group(group)]
        stages = [pd.Series([float(each.get(stage, 0)) for each in of_runs]) for stage in STAGES]
        total = pd.Series([float(sum(each.values())) for each in of_runs])
        rows.append([Cell(group), *(mean_cell(each, "{:.1f}") for each in [*stages, total])])
    return Table(
        f"{prefix}seconds",
        "Seconds by stage, of a whole run",
        [compared_by(runs), *STAGES, "total"],
        rows,
        ["mean ± standard deviation over runs; comparable only between equal machines"],
    )


def beside_published(
    runs: Runs, prefix: str, published: Published, most: int | None = None
) -> list[Table]:
    """Measured beside published accuracies, for the strategies and labels that have both.

    Args:
        runs: The runs of one setting.
        prefix: Start of the table's file name.
        published: Published accuracies by group and number of labels.
        most: The most numbers of labels, evenly chosen; None for all.
    """
    groups = [group for group in by_area(runs) if group in published]
    labels = [n for n in runs.labels if any(n in published[group] for group in groups)]
    if most is not None and len(labels) > most:
        labels = [labels[n] for n in np.linspace(0, len(labels) - 1, most).round().astype(int)]
    if not labels:
        return []
    frames = [runs.at("accuracy", n) for n in labels]
    rows = []
    for group in groups:
        rows.append([Cell(group), Cell("measured"), *(mean_cell(each[group]) for each in frames)])
        there = [published[group].get(n) for n in labels]
        cells = [NO_NUMBER if each is None else Cell(f"{each:.3f}", each) for each in there]
        rows.append([Cell(group), Cell("published"), *cells])
    return [
        Table(
            f"{prefix}published",
            "Accuracy by number of labels, measured and published",
            [compared_by(runs), "", *map(str, labels)],
            rows,
            [
                "published: means of five trials of the paper's authors, read off plots to 0.005 "
                "or printed to 0.01; their code departs from the paper's mathematics"
            ],
        )
    ]
