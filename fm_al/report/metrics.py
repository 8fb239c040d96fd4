"""The metrics of a round that a report shows: accuracy and its relatives."""

from __future__ import annotations

from collections.abc import Mapping

from fm_al.report.runs import Runs

# The field of a round's record, and what it is called.
METRICS: Mapping[str, str] = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro-F1",
}


def equals_accuracy(runs: Runs, metric: str) -> bool:
    """Whether a metric repeats accuracy. Balanced accuracy does if all classes have the same
    number of test images."""
    return metric != "accuracy" and all(
        abs(getattr(each, metric) - each.accuracy) < 1e-9
        for run in runs.runs
        for each in run.rounds
    )


def metrics_of(runs: Runs) -> dict[str, str]:
    """Names of the metrics to report for one setting, without those that repeat accuracy."""
    return {key: name for key, name in METRICS.items() if not equals_accuracy(runs, key)}


def capitalized(name: str) -> str:
    return f"{name[0].upper()}{name[1:]}"
