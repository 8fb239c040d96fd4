"""Lines and results as small as a run's records may be."""

from __future__ import annotations

from typing import Any

DIGESTS = ("digest", "weights_digest")


def line(round: int) -> dict[str, Any]:
    return {"round": round, "labelled": 10 + round, "queried": [round], "accuracy": 1 / 3}


def result_of(rounds: int, accuracy: float = 1 / 3) -> dict[str, Any]:
    """Of so many lines."""
    return {
        "rounds": rounds,
        "labelled": 9 + rounds,
        "accuracy": accuracy,
        "balanced_accuracy": accuracy,
        "area_under_curve": accuracy,
        "seconds": {"train": 2.0},
        "class_names": ["cat", "dog"],
        "confusion_matrix": [[1, 0], [0, 1]],
    }


def without_digests(record: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in DIGESTS}
