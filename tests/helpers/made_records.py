"""Records as small as they may be, and records without what differs between equal runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fm_al.records.schema import Result, Round

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


def a_round(round_index: int) -> Round:
    """The round of a `line`."""
    return Round.model_validate(line(round_index))


def a_result(rounds: int, accuracy: float = 1 / 3) -> Result:
    """The result of `result_of`."""
    return Result.model_validate(result_of(rounds, accuracy))


def without_digests(record: dict[str, Any] | Round | Result) -> dict[str, Any]:
    value = record if isinstance(record, dict) else record.as_json()
    return {key: each for key, each in value.items() if key not in DIGESTS}


def without_times(directory: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A run's rounds and result, without what differs between equal runs."""
    rounds = [json.loads(line) for line in (directory / "rounds.jsonl").read_text().splitlines()]
    result = json.loads((directory / "result.json").read_text())
    for record in [*rounds, result]:
        del record["seconds"], record["digest"]  # which is of the seconds too
    return rounds, result
