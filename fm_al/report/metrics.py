"""The metrics of a round that a report shows: accuracy and its relatives, and calibration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fm_al.records.schema import Round
from fm_al.report.runs import Runs

# The field of a round's record, and what it is called. These have a figure and tables of their own.
METRICS: Mapping[str, str] = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro-F1",
}
LOWER = " \N{DOWNWARDS ARROW}"  # after the name of a metric whose lower values are better
# These have columns only: a worst class is noisy, and calibration is no aim of a query.
FURTHER_METRICS: Mapping[str, str] = {
    "worst_class_accuracy": "worst class",
    "expected_calibration_error": f"ECE{LOWER}",
    "brier_score": f"Brier score{LOWER}",
}
ABOUT_FURTHER: Mapping[str, str] = {
    "worst_class_accuracy": "worst class: the smallest accuracy on a class",
    "expected_calibration_error": "ECE: expected calibration error in 15 bins",
    "brier_score": "Brier score: mean squared error of the probabilities, summed over classes",
}


@dataclass(frozen=True)
class Measure:
    """A number of each round to draw.

    Attributes:
        key: Stem of the figure's files.
        name: What it is called.
        of: The field of a round's record, or a function of the record.
        about: What a caption says it is.
    """

    key: str
    name: str
    of: str | Callable[[Round], float]
    about: str


def measure(metric: str) -> Measure:
    """One of METRICS, on the test images."""
    name = METRICS[metric]
    return Measure(metric, name, metric, f"{capitalized(name)} on the test images")


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


def further_metrics_of(runs: Runs) -> dict[str, str]:
    """Names of the further metrics to report for one setting: those that tell its runs apart.

    Records of older versions lack them. The worst class of many is often never predicted at all.
    """
    return {
        key: name
        for key, name in FURTHER_METRICS.items()
        if any(getattr(each, key) > 0 for run in runs.runs for each in run.rounds)
    }


def is_never_right_on_a_class(runs: Runs) -> bool:
    """Whether the accuracy of the worst class is 0 in every round that records it."""
    recorded = [
        each.worst_class_accuracy
        for run in runs.runs
        for each in run.rounds
        if not each.lacks("worst_class_accuracy")
    ]
    return bool(recorded) and not any(recorded)


def is_lower_better(name: str) -> bool:
    """Whether lower values of the metric with this name are better."""
    return name.endswith(LOWER)


def capitalized(name: str) -> str:
    return f"{name[0].upper()}{name[1:]}"
