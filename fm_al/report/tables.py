"""The tables of one setting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from fm_al.records.curve import area_under_curve
from fm_al.report.comparison_tables import SAME_DIFFERENCE, comparisons, test_image_count
from fm_al.report.metrics import METRICS, capitalized, metrics_of
from fm_al.report.published import Published
from fm_al.report.runs import REFERENCE, Runs
from fm_al.report.statistics import (
    ALPHA,
    FEWEST_FOR_T,
    all_compared,
    by_mean,
    common_seeds,
    labels_needed,
    missing_seeds,
    share_saved,
    standing,
)
from fm_al.report.typeset import LEVEL, NO_NUMBER, UNTESTED, Cell, Table

AREA = "areas are divided by the range of labels, so each is a mean in [0, 1]"
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
        _areas(runs, prefix),
        *(
            table
            for metric in metrics_of(runs)
            for table in _labels_to_targets(runs, prefix, metric, targets)
        ),
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


def by_area(runs: Runs) -> list[str]:
    """The groups, the largest area under the accuracy curve first; see `by_mean`."""
    return by_mean(runs.area("accuracy"))


def _over_labels(runs: Runs, prefix: str, metric: str) -> Table:
    frames = {str(labels): runs.at(metric, labels) for labels in runs.labels}
    return _means(
        runs,
        f"{prefix}{metric}",
        f"{capitalized(METRICS[metric])} by number of labels",
        frames,
    )


def _areas(runs: Runs, prefix: str) -> Table:
    return _means(
        runs,
        f"{prefix}areas",
        f"Area under the curve over labels, {runs.labels[0]} to {runs.labels[-1]}",
        {name: runs.area(metric) for metric, name in metrics_of(runs).items()},
        [AREA],
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
    columns = [_compared_by(runs)]
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
        _means(runs, f"{prefix}per_class", f"Accuracy of each class at {labels[-1]} labels", last),
        _means(
            runs,
            f"{prefix}per_class_areas",
            f"Area under the curve of each class's accuracy, {labels[0]} to {labels[-1]} labels",
            areas,
            [AREA],
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
        [_compared_by(runs), *STAGES, "total"],
        rows,
        ["mean ± standard deviation over runs; comparable only between equal machines"],
    )


def beside_published(runs: Runs, prefix: str, published: Published) -> list[Table]:
    """Measured beside published accuracies, for the strategies and labels that have both."""
    groups = [group for group in by_area(runs) if group in published]
    labels = [n for n in runs.labels if any(n in published[group] for group in groups)]
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
            [_compared_by(runs), "", *map(str, labels)],
            rows,
            [
                "published: means of five trials of the paper's authors, read off plots to 0.005 "
                "or printed to 0.01; their code departs from the paper's mathematics"
            ],
        )
    ]


def mean_cell(values: pd.Series, form: str = "{:.3f}") -> Cell:
    """Mean ± standard deviation, without missing values."""
    there = values.dropna()
    if there.empty:
        return NO_NUMBER
    mean = float(there.mean())
    if len(there) == 1:
        return Cell(form.format(mean), mean)
    spread = float(there.std(ddof=1))
    return Cell(f"{form.format(mean)} ± {form.format(spread)}", mean, spread)


def _means(
    runs: Runs,
    name: str,
    title: str,
    frames: Mapping[str, pd.DataFrame],
    more_notes: Sequence[str] = (),
) -> Table:
    """A row for each group and a column for each frame, which marks the best groups."""
    standings = [standing(frame) for frame in frames.values()]
    groups, rows = by_area(runs), []
    for group in groups:
        row = [Cell(group)]
        for frame, stands in zip(frames.values(), standings, strict=True):
            cell = mean_cell(frame[group])
            is_best = group in stands.best and len(groups) > 1
            is_untested = group in stands.untested | stands.constant
            mark = LEVEL if group in stands.level else UNTESTED if is_untested else ""
            row.append(Cell(cell.text, cell.value, cell.spread, is_best, mark))
        rows.append(row)
    notes = _notes(runs, has_constant=any(stands.constant for stands in standings))
    return Table(name, title, [_compared_by(runs), *frames], rows, [*notes, *more_notes])


def _notes(runs: Runs, has_constant: bool) -> list[str]:
    """Notes on a table of means. has_constant: a group differs from the best by the same amount for
    every seed."""
    seeds, frame = runs.seeds, runs.final("accuracy")
    notes = [f"mean ± standard deviation over {len(seeds)} seed{'s' * (len(seeds) > 1)}"]
    lacking = missing_seeds(frame)
    if len(runs.groups) > 1 and common_seeds(frame).empty:
        notes.append("no best is marked, since no seed is common to all")
    elif len(runs.groups) > 1 and len(seeds) >= FEWEST_FOR_T:
        notes.append(
            f"bold: best of its column; {LEVEL}: not significantly worse (paired t-test over "
            f"seeds, {ALPHA}, Holm over all pairs)"
        )
        if lacking:
            notes.append(
                "the best is chosen by the seeds that all have, among groups with enough seeds to "
                "test"
            )
        reasons = [
            *([f"fewer than {FEWEST_FOR_T} pairs"] if lacking else []),
            *([SAME_DIFFERENCE] if has_constant else []),
        ]
        if reasons:
            notes.append(f"{UNTESTED}: cannot be tested against the best ({', or '.join(reasons)})")
    elif len(runs.groups) > 1:
        notes.append("bold: best of its column; too few seeds to test differences")
    for group, lacks in lacking.items():
        plural = "s" * (len(lacks) > 1)
        notes.append(
            f"{group} lacks seed{plural} {', '.join(map(str, lacks))}, so it has fewer pairs"
        )
    return notes


def _compared_by(runs: Runs) -> str:
    return ", ".join(runs.by)
