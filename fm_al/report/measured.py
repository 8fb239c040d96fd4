"""What of a round is reported: accuracy and the like."""

from __future__ import annotations

from collections.abc import Mapping

from fm_al.report.runs import Runs

MEASURED: Mapping[str, str] = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro-F1",
}


def is_accuracy(runs: Runs, key: str) -> bool:
    """Whether a figure is accuracy under another name: balanced accuracy is, where the test images
    have as many of each class."""
    return key != "accuracy" and all(
        abs(record[key] - record["accuracy"]) < 1e-9 for run in runs.runs for record in run.rounds
    )


def measured(runs: Runs) -> dict[str, str]:
    """The names, by key of a record, of what is reported of a setting's runs; nothing twice."""
    return {key: name for key, name in MEASURED.items() if not is_accuracy(runs, key)}


def capitalized(name: str) -> str:
    return f"{name[0].upper()}{name[1:]}"
