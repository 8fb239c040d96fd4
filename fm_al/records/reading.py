"""The files of a run's directory: what has to be in them, and whether they go together.

Each line of rounds.jsonl has a digest of its values and of the digest before it; the first goes on
from the run's fingerprint, and result.json from the last line. So a value that was changed is
noticed, wherever it stands. Lines of earlier versions have none: the lines after them vouch for
them too, and where there are none, nothing does.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import yaml
from pydantic import Field

from fm_al.errors import RunError
from fm_al.records.json_files import Record, Schema, Text, content_of, parsed, read_json, shown

logger = logging.getLogger(__name__)

RESTORE = "restore it from a copy, or move the run's directory away to redo the run"
DIGITS = 32
# Of strategies that have a regularization.
ADDED_OPTIONS = {"regularization_scale": "absolute", "labelled_weight": "mean", "temperature": 1}
OF_A_CONFIG = {"tracker": dict, "experiment_name": str}  # what is read of config.yaml

Count = Annotated[int, Field(ge=0)]
Counts = Annotated[list[Count], Field(default_factory=list)]


class Round(Schema):
    """What is read of a line, by a run that resumes and by those who look."""

    round: Count
    labelled: Count
    queried: list[Count]
    accuracy: float
    balanced_accuracy: float = 0.0
    macro_f1: float = 0.0
    loss: float = 0.0
    per_class_accuracy: Annotated[list[float | None], Field(default_factory=list)]
    queried_classes: Counts
    confusion_matrix: Annotated[list[list[Count]], Field(default_factory=list)]
    seconds: Annotated[dict[str, float], Field(default_factory=dict)]
    weights_digest: str = ""


class Result(Schema):
    """What is read of result.json, by those who sum up runs and by those who track them."""

    rounds: Count
    labelled: Count
    accuracy: float
    balanced_accuracy: float
    area_under_curve: float
    seconds: dict[str, float]
    class_names: list[str]
    confusion_matrix: list[list[Count]]


class Provenance(Schema):
    """What is read of provenance.json."""

    decides: dict[str, Any]
    starts: Annotated[list[dict[str, Any]], Field(min_length=1)]
    fingerprint: str
    software: dict[str, Any]


class Failure(Schema):
    """What is read of error.json."""

    kind: str
    message: str


class AskedFor(Schema):
    """What is read of job.json."""

    folder: Text
    job: Text | None
    log: Text | None
    cluster: Text | None = None


class Rounds(NamedTuple):
    """What rounds.jsonl holds. digest: of the last line, or the fingerprint. are_vouched_for: by
    digests. end: where the last whole line ends, in bytes. torn: the number of a line that breaks
    off there."""

    records: list[Record]
    digest: str
    are_vouched_for: bool
    end: int
    torn: int | None


def canonical(record: Record) -> str:
    return json.dumps(record, sort_keys=True, separators=(",", ":"))


def as_now(decides: Record) -> Record:
    """What decides a run, with the options that were added since it began, at the values that stand
    for what its version did."""

    def completed(node: Any) -> Any:
        if not isinstance(node, dict):
            return node
        completed_node = {key: completed(value) for key, value in node.items()}
        return ADDED_OPTIONS | completed_node if "regularization" in node else completed_node

    return decides | {"strategy": completed(decides.get("strategy"))}


def fingerprint(decides: Record) -> str:
    return hashlib.sha256(canonical(decides).encode()).hexdigest()


def chained(before: str, record: Record) -> str:
    """The digest of a record, its own left out, that follows another one."""
    values = canonical({key: value for key, value in record.items() if key != "digest"})
    return hashlib.sha256(f"{before}{values}".encode()).hexdigest()[:DIGITS]


def file_digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()[:DIGITS]


def _read_rounds(path: Path, fingerprint: str, is_finished: bool) -> Rounds:
    """Raises RunError, which names the line, for what is damaged; a line that breaks off at the end
    is none yet, unless the run is finished."""
    try:
        content = content_of(path)
    except RunError as error:
        raise RunError(f"{error}; {RESTORE}") from None
    if content is None and is_finished:
        raise RunError(f"{path} is missing; {RESTORE}")
    whole, newline, torn = (content or b"").rpartition(b"\n")
    lines = whole.split(b"\n") if newline else []
    records: list[Record] = []
    digest, are_vouched_for = fingerprint, False
    for number, line in enumerate(lines):
        try:
            record = parsed(line, Round)
            if record["round"] != number:
                raise ValueError(f"round {record['round']} where {number} belongs")
            digest = chained(digest, record)
            if are_vouched_for and "digest" not in record:
                raise ValueError("lacks its digest, which the lines before it have")
            if record.get("digest", digest) != digest:
                raise ValueError("its digest is not that of this line and those before it")
        except ValueError as error:
            raise damaged_line(path, number, str(error), is_finished) from None
        are_vouched_for = "digest" in record
        records.append(record)
    torn_line = len(lines) + 1 if torn else None
    if torn_line and is_finished:
        raise damaged_line(path, torn_line - 1, "it breaks off", is_finished)
    return Rounds(records, digest, are_vouched_for, len(whole) + len(newline), torn_line)


def damaged_line(path: Path, number: int, why: str, is_finished: bool) -> RunError:
    advice = RESTORE
    if not is_finished:
        advice = (
            "restore it from a copy, cut the file before that line to redo from there, or move the "
            "run's directory away to redo the run"
        )
    return RunError(f"{path}: line {number + 1} is damaged ({why}); {advice}")


def read_result(directory: Path) -> Record | None:
    """None where the run is not finished. `judged_rounds` says whether it is of the rounds."""
    return read_json(directory / "result.json", Result, RESTORE)


def _check_result(directory: Path, result: Record, rounds: Rounds) -> None:
    """Raises RunError where the rounds are not those that the result is of."""
    path = directory / "result.json"
    if result["rounds"] != len(rounds.records):
        raise RunError(
            f"{directory / 'rounds.jsonl'} has {len(rounds.records)} rounds, its result is of "
            f"{result['rounds']}; {RESTORE}"
        )
    if rounds.are_vouched_for or "digest" in result:
        if result.get("digest") != chained(rounds.digest, result):
            raise RunError(
                f"{path} is damaged (its digest is not that of its values and the rounds); "
                f"{RESTORE}"
            )
        return
    for key in ("labelled", "accuracy"):
        if rounds.records and result[key] != (last := rounds.records[-1][key]):
            raise RunError(
                f"{path} is damaged ({key}={shown(result[key])}: should be {shown(last)}, as in "
                f"the last round); {RESTORE}"
            )


def read_provenance(directory: Path) -> Record | None:
    """None where there is neither that nor anything that it should be of."""
    path = directory / "provenance.json"
    provenance = read_json(path, Provenance, RESTORE)
    if provenance is None and any(
        os.path.lexists(directory / name) for name in ("rounds.jsonl", "result.json")
    ):
        raise RunError(f"{path} is missing, so that nothing says what run this is; {RESTORE}")
    return provenance


def judged_rounds(directory: Path, provenance: Record | None, result: Record | None) -> Rounds:
    """Of a run that has this result, if any. Raises RunError where they don't go together."""
    path = directory / "rounds.jsonl"
    if provenance is None:
        return Rounds([], "", False, 0, None)
    rounds = _read_rounds(path, provenance["fingerprint"], is_finished=result is not None)
    # What was written before there were digests may have another fingerprint.
    if rounds.are_vouched_for and provenance["fingerprint"] != fingerprint(provenance["decides"]):
        raise RunError(
            f"{directory / 'provenance.json'} is damaged (its fingerprint is not that of decides); "
            f"{RESTORE}"
        )
    if result is not None:
        _check_result(directory, result, rounds)
    return rounds


def read_config(path: Path, holds: Mapping[str, type] | None = None) -> Record:
    """A run's resolved configuration. holds: kinds of what has to be in it. Raises RunError if it
    is missing or damaged."""
    content = content_of(path)
    if content is None:
        raise RunError(f"{path} is missing")
    try:
        config = yaml.load(content, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.MarkedYAMLError as error:
        line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise RunError(f"{path} is damaged ({error.problem}{line})") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RunError(f"{path} is damaged ({' '.join(str(error).split())})") from None
    if not isinstance(config, dict):
        raise RunError(f"{path} is damaged (should be a mapping)")
    kinds = holds or {}
    if wrong := [key for key, kind in kinds.items() if not isinstance(config.get(key), kind)]:
        raise RunError(f"{path} is damaged ({wrong[0]} is {config.get(wrong[0])!r})")
    return config


def read_notes(directory: Path, is_finished: bool) -> tuple[Record | None, Record | None]:
    """Why the last start failed, and who was asked to run the run. Of a finished run they decide
    nothing, so there a damaged one is only named."""
    try:
        error = read_json(
            directory / "error.json", Failure, "the run's next start removes it, as you may"
        )
        job = read_json(
            directory / "job.json",
            AskedFor,
            "it only says who was asked to run this: delete it, and start the run again",
        )
    except RunError as damage:
        if not is_finished:
            raise
        logger.warning("%s (the run is finished: no result is lost by that)", damage)
        return None, None
    return error, job
