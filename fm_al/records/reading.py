"""Read a run's directory without disturbing the process that writes it, and check that its files
belong together.

Records of older versions have no digests. The lines after them vouch for them, and without such
lines nothing does.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fm_al.errors import RunError
from fm_al.records.digests import chained, fingerprint
from fm_al.records.json_files import (
    damage_named,
    file_content,
    parse_object,
    read_json,
    read_object,
    shortened,
    validated,
)
from fm_al.records.notes import read_notes
from fm_al.records.result_config import Config, is_identical, refuse_another_run
from fm_al.records.schema import Failure, JobNote, Provenance, Result, Round

RESTORE = "restore it from a copy, or move the run's directory away to redo the run"
REWRITTEN = "restore it from a copy, or start the run's own command again, which rewrites it"
NEEDED_FOR_TRACKING: Mapping[str, type] = {"tracker": dict, "experiment_name": str}


@dataclass(frozen=True)
class RecordFiles:
    """provenance.json, rounds.jsonl and result.json of a run, which belong together.

    Attributes:
        provenance: None if the run has not begun.
        rounds: The finished rounds.
        result: None if the run is not finished.
        digest: Of the last line, or the fingerprint: what the next digest continues.
        end: Where the last whole line of rounds.jsonl ends, in bytes.
        torn_line: Number, from 1, of an incomplete line behind it, if there is one.
    """

    provenance: Provenance | None
    rounds: list[Round]
    result: Result | None
    digest: str
    end: int = 0
    torn_line: int | None = None


@dataclass(frozen=True)
class StoredRun:
    """What a run's directory holds.

    Attributes:
        error: Why the last start failed.
        stopped: The last start was stopped by Ctrl-C, which is no error: such a run is resumed even
            if failed runs are not to be tried again.
        job: Who is to run it.
    """

    directory: Path
    provenance: Provenance | None
    rounds: list[Round]
    result: Result | None
    error: Failure | None
    stopped: bool
    job: JobNote | None

    @property
    def config(self) -> Config:
        """The resolved configuration. Raises RunError if it can't be read."""
        return self._config({})

    @property
    def tracked_config(self) -> Config:
        """The same, if it has what a W&B view is made from; else raises RunError."""
        return self._config(NEEDED_FOR_TRACKING)

    def _config(self, needed: Mapping[str, type]) -> Config:
        try:
            return read_config(self.directory / "config.yaml", needed)
        except RunError as error:
            raise RunError(f"{error}; {REWRITTEN}") from None


def stored_run(directory: Path) -> StoredRun:
    """Reads a run's directory. A last line of rounds.jsonl that is still being written is left out.

    Raises:
        RunError: A file is damaged; the message names it.
    """
    files = read_record_files(directory)
    error, job = read_notes(directory, is_finished=files.result is not None)
    stopped = error is not None and error.kind == KeyboardInterrupt.__name__
    return StoredRun(
        directory,
        provenance=files.provenance,
        rounds=files.rounds,
        result=files.result,
        error=None if stopped else error,
        stopped=stopped,
        job=job,
    )


def finished_result(directory: Path, result_config: Config) -> Result | None:
    """Reads the result of a finished run; loads no data set.

    Returns:
        The result, or None if the run is not finished.

    Raises:
        RunError: The directory holds another run, finished or not, or the result is not that of its
            rounds.
    """
    files = read_record_files(directory)
    if files.provenance is not None:
        refuse_another_run(directory, files.provenance.result_config, result_config)
    return files.result


def seems_finished(directory: Path, result_config: Config) -> bool:
    """Whether a directory seems to hold the result of exactly this run; `finished_result` checks
    that its files are undamaged."""
    try:
        provenance = _read_provenance(directory)
    except (RunError, OSError):
        return False
    if provenance is None or not (directory / "result.json").exists():
        return False
    return is_identical(provenance.result_config, result_config)


def read_record_files(directory: Path) -> RecordFiles:
    """Reads a run's records.

    Raises:
        RunError: A file is damaged or missing, or they do not belong together.
    """
    # The result first: a run that finishes meanwhile must not seem to lack rounds.
    path, result = directory / "result.json", None
    raw_result = read_object(path, RESTORE)
    if raw_result is not None:
        with damage_named(path, RESTORE):
            result = validated(raw_result, Result)
    provenance = _read_provenance(directory)
    if provenance is None:
        return RecordFiles(None, [], result, digest="")
    files, has_digests = _read_rounds(directory, provenance, result)
    # Before there were digests, a fingerprint may have been made in another way.
    if has_digests and provenance.fingerprint != fingerprint(provenance.decides):
        raise RunError(
            f"{directory / 'provenance.json'} is damaged (its fingerprint is not that of decides); "
            f"{RESTORE}"
        )
    if raw_result is not None:
        _check_result(directory, raw_result, files, has_digests)
    return files


def _read_provenance(directory: Path) -> Provenance | None:
    """None if the run has not begun."""
    path = directory / "provenance.json"
    provenance = read_json(path, Provenance, RESTORE)
    if provenance is None and any(
        os.path.lexists(directory / name) for name in ("rounds.jsonl", "result.json")
    ):
        raise RunError(f"{path} is missing, so that nothing says what run this is; {RESTORE}")
    return provenance


def _read_rounds(
    directory: Path, provenance: Provenance, result: Result | None
) -> tuple[RecordFiles, bool]:
    """The records, and whether the last line has a digest. An incomplete last line does not count,
    unless the run is finished."""
    path, is_finished = directory / "rounds.jsonl", result is not None
    try:
        content = file_content(path)
    except RunError as error:
        raise RunError(f"{error}; {RESTORE}") from None
    if content is None and is_finished:
        raise RunError(f"{path} is missing; {RESTORE}")
    whole, newline, torn = (content or b"").rpartition(b"\n")
    lines = whole.split(b"\n") if newline else []
    rounds: list[Round] = []
    digest, has_digest = provenance.fingerprint, False
    for round_index, line in enumerate(lines):
        try:
            value = parse_object(line)
            record = validated(value, Round)
            if record.round != round_index:
                raise ValueError(f"round {record.round} where {round_index} belongs")
            digest = chained(digest, value)
            if has_digest and "digest" not in value:
                raise ValueError("lacks its digest, which the lines before it have")
            if value.get("digest", digest) != digest:
                raise ValueError("its digest is not that of this line and those before it")
        except ValueError as error:
            raise damaged_line(path, round_index, str(error), is_finished) from None
        has_digest = "digest" in value
        rounds.append(record)
    torn_line = len(lines) + 1 if torn else None
    if torn_line and is_finished:
        raise damaged_line(path, torn_line - 1, "it breaks off", is_finished)
    end = len(whole) + len(newline)
    return RecordFiles(provenance, rounds, result, digest, end, torn_line), has_digest


def damaged_line(path: Path, round_index: int, why: str, is_finished: bool) -> RunError:
    """The error to raise for a line of rounds.jsonl that can't be right."""
    advice = RESTORE
    if not is_finished:
        advice = (
            "restore it from a copy, cut the file before that line to redo from there, or move the "
            "run's directory away to redo the run"
        )
    return RunError(f"{path}: line {round_index + 1} is damaged ({why}); {advice}")


def _check_result(
    directory: Path, result: dict[str, Any], files: RecordFiles, has_digests: bool
) -> None:
    """Raises RunError if the result is not that of the rounds."""
    path = directory / "result.json"
    if result["rounds"] != len(files.rounds):
        raise RunError(
            f"{directory / 'rounds.jsonl'} has {len(files.rounds)} rounds, its result is of "
            f"{result['rounds']}; {RESTORE}"
        )
    if has_digests or "digest" in result:
        if result.get("digest") != chained(files.digest, result):
            raise RunError(
                f"{path} is damaged (its digest is not that of its values and the rounds); "
                f"{RESTORE}"
            )
        return
    for key in ("labelled", "accuracy"):
        if files.rounds and result[key] != (last := getattr(files.rounds[-1], key)):
            raise RunError(
                f"{path} is damaged ({key}={shortened(result[key])}: should be {shortened(last)}, "
                f"as in the last round); {RESTORE}"
            )


def read_config(path: Path, needed: Mapping[str, type]) -> Config:
    """Reads a run's resolved configuration.

    Args:
        path: Of config.yaml.
        needed: Keys that it must have, with the type of their values.

    Raises:
        RunError: It is missing or damaged.
    """
    content = file_content(path)
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
    if wrong := [key for key, kind in needed.items() if not isinstance(config.get(key), kind)]:
        raise RunError(f"{path} is damaged ({wrong[0]} is {config.get(wrong[0])!r})")
    return config
