"""Write a run's records, as the only process that does.

Every file but rounds.jsonl and lock is written to a temporary name, flushed and renamed. So a
reader, or the next start after a kill, finds a file whole or not at all. docs/records.md lists the
files.
"""

from __future__ import annotations

import io
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from fm_al.errors import RunError
from fm_al.files import atomic_write, not_through_links, remove_partial_files, write_json
from fm_al.records.digests import chained, file_digest, fingerprint
from fm_al.records.lock import Lock, locked
from fm_al.records.notes import Assignment, assign_run, forget_failure
from fm_al.records.provenance import now, software, this_process, without_secrets
from fm_al.records.reading import (
    NEEDED_FOR_TRACKING,
    RESTORE,
    RecordFiles,
    damaged_line,
    read_config,
    read_record_files,
)
from fm_al.records.result_config import Config, refuse_another_run, refuse_other_classes
from fm_al.records.schema import Provenance, Result, Round, Start

logger = logging.getLogger(__name__)

# Files that only the holder of the lock writes, and files that other processes write too.
WRITTEN_BY_HOLDER = (
    "config.yaml",
    "provenance.json",
    "result.json",
    "weights-*",
    "wandb_logged.json",
)
WRITTEN_BY_OTHERS = ("error.json", "job.json", "lock", "wandb_run_id", "wandb_uploaded.json")
LONGEST_WRITE = 3600.0  # seconds; an older temporary file has no writer any more


class RunRecords:
    """The records of one run, open for writing; made by `open_run`.

    Attributes:
        directory: The run's directory.
        start: This start's entry in provenance.json; the last one if the run is finished.
        rounds: The finished rounds.
        result: None until the run is finished.
    """

    def __init__(self, directory: Path, lock: Lock, start: Start, files: RecordFiles) -> None:
        self.directory = directory
        self.start = start
        self.rounds = files.rounds
        self.result = files.result
        self._lock = lock
        self._digest = files.digest
        self._end = files.end
        self._rounds_file = directory / "rounds.jsonl"

    def add_round(self, record: Round) -> None:
        """Appends a finished round with its digest; it is on disk when this returns.

        Raises:
            RunError: It can't be written; the rounds before it are kept.
        """
        self._lock.check()
        value = self._with_digest(record)
        line = f"{json.dumps(value, separators=(',', ':'))}\n".encode()
        try:
            with self._appending() as file:
                left = memoryview(line)
                while left:
                    left = left[file.write(left) :]
        except OSError as error:
            raise RunError(
                f"round {record.round + 1} can't be written to {self._rounds_file} ({error}); the "
                "rounds before it are kept: mend that and start again to resume"
            ) from error
        self.rounds.append(Round.model_validate(value))
        self._digest = value["digest"]
        self._end += len(line)

    def finish(self, result: Result) -> None:
        """Writes result.json, which completes the run, with a digest that continues the rounds'.

        Raises:
            RunError: It can't be written; all rounds are kept.
        """
        self._lock.check()
        value = self._with_digest(result)
        try:
            with self._appending():  # cuts off an incomplete line behind the last round
                pass
            write_json(self.directory / "result.json", value)
        except OSError as error:
            raise RunError(
                f"the result can't be written to {self.directory} ({error}); all rounds are kept: "
                "mend that and start again"
            ) from error
        self.result = Result.model_validate(value)

    def _with_digest(self, record: Round | Result) -> dict[str, Any]:
        """The record as a reader will find it, for example with strings as keys of mappings."""
        value: dict[str, Any] = json.loads(json.dumps(record.as_json(), allow_nan=False))
        value["digest"] = chained(self._digest, value)
        return value

    @contextmanager
    def _appending(self) -> Iterator[io.FileIO]:
        """Opens rounds.jsonl at the end of its last whole line and cuts off what is behind it; also
        what was written in the block, if that fails."""
        flags = os.O_WRONLY | os.O_CREAT
        # Unbuffered: closing a buffered file would write the rest when the disk was full.
        with io.FileIO(not_through_links(str(self._rounds_file), flags), "wb") as file:
            try:
                file.truncate(self._end)
                file.seek(self._end)
                yield file
                os.fsync(file.fileno())
            except OSError:
                os.ftruncate(file.fileno(), self._end)
                raise

    def damaged(self, round_index: int, why: str) -> RunError:
        """The error to raise for a round whose line can't be right."""
        is_finished = self.result is not None
        return damaged_line(self._rounds_file, round_index, why, is_finished)

    def weights_path(self, round_index: int) -> Path:
        """Where the checkpoint after a round is."""
        return self.directory / f"weights-{round_index}.pt"

    def weights_digest(self, round_index: int) -> str:
        """The digest of the checkpoint after a round."""
        return file_digest(self.weights_path(round_index))

    def checked_weights(self) -> Path:
        """Where the checkpoint after the last round is.

        Raises:
            RunError: It is missing, or not the one that the round's line names.
        """
        last = self.rounds[-1]
        path = self.weights_path(last.round)
        # Lines of older versions have no digest of it.
        if path.is_file() and last.weights_digest in (None, file_digest(path)):
            return path
        why = "is damaged (its digest is not that in rounds.jsonl)"
        raise RunError(f"{path} {why if path.is_file() else 'is missing'}; {RESTORE}")

    def remove_weights(self, but: int | None = None) -> None:
        """Removes all checkpoints, but the one after round `but`."""
        for path in self.directory.glob("weights-*.pt"):
            if but is None or path != self.weights_path(but):
                path.unlink()


@contextmanager
def open_run(
    directory: Path,
    config: Config,
    result_config: Config,
    class_names: list[str],
    command: list[str],
    sweep: str | None = None,
    assignment: Assignment | None = None,
    class_counts: tuple[list[int], list[int]] | None = None,
    start_uses_classes: bool = False,
) -> Iterator[RunRecords]:
    """Opens a run's directory, made if it does not exist, for this process alone.

    An incomplete last line of rounds.jsonl is dropped with a warning; the next write replaces it.

    Args:
        directory: The run's directory.
        config: The resolved configuration.
        result_config: The part of it that results depend on.
        class_names: Empty if they are not known.
        command: Command line that started this process.
        sweep: Name of the sweep that started it.
        assignment: What job.json is to say from now on; None leaves it alone.
        class_counts: Images of each class in the pool and in the test set.
        start_uses_classes: Whether the first images are chosen by their classes.

    Raises:
        RunLockedError: Another live process holds the directory.
        RunError: The directory holds another run, or its records are damaged.
    """
    directory.mkdir(parents=True, exist_ok=True)
    software()  # kept for later: while the lock is held, git would hold it too for an instant
    with locked(directory / "lock") as lock:
        lock.check()
        if assignment is not None:
            assign_run(directory, assignment)
        files = read_record_files(directory)
        if files.provenance is not None:
            refuse_another_run(directory, files.provenance.result_config, result_config)
        # Nothing on disk is changed before all of it was checked.
        forget_failure(directory)
        remove_partial_files(directory, WRITTEN_BY_HOLDER)
        remove_partial_files(directory, WRITTEN_BY_OTHERS, min_age=LONGEST_WRITE)
        _write_config(directory, config, is_new=files.provenance is None)
        start = Start(time=now(), **this_process(), sweep=sweep, command=without_secrets(command))
        provenance = files.provenance
        if provenance is None:
            known: dict[str, Any] = {}
            if class_counts is not None:
                known = dict(zip(("pool_counts", "test_counts"), class_counts, strict=True))
            if start_uses_classes:
                known["start_uses_classes"] = True
            provenance = _new_provenance(result_config, class_names, known, start)
            files = replace(files, digest=provenance.fingerprint)
        elif files.result is None:
            provenance.starts.append(start)
        if class_names and provenance.class_names:
            refuse_other_classes(directory, provenance.class_names, class_names)
        if files.result is None:
            _warn_of_other_software(directory, provenance.software)
            if files.torn_line is not None:
                path = directory / "rounds.jsonl"
                logger.warning(
                    "%s: line %d is torn; dropped, the round is redone", path, files.torn_line
                )
            write_json(directory / "provenance.json", provenance.as_json())
        yield RunRecords(directory, lock, provenance.starts[-1], files)


def _new_provenance(
    result_config: Config,
    class_names: list[str],
    known: dict[str, Any],
    start: Start,
) -> Provenance:
    return Provenance(
        fingerprint=fingerprint(result_config),
        decides=result_config,
        class_names=class_names,
        **known,
        software=software(),
        starts=[start],
    )


def is_left_untidy(directory: Path) -> bool:
    """Whether `open_run` would repair something of a finished run: partial files of a killed
    process, or an unreadable config.yaml."""
    try:
        read_config(directory / "config.yaml", NEEDED_FOR_TRACKING)
    except RunError:
        return True
    return any(path.name.startswith(".") for path in directory.iterdir())


def _write_config(directory: Path, config: Config, is_new: bool) -> None:
    """Writes config.yaml if it is missing or damaged: the fingerprint proves that it is this run's
    configuration."""
    path = directory / "config.yaml"
    if not is_new:
        try:
            read_config(path, NEEDED_FOR_TRACKING)
            return
        except RunError as error:
            logger.warning("%s; it is rewritten", error)
    atomic_write(path, yaml.safe_dump(config, sort_keys=False).encode())


def _warn_of_other_software(directory: Path, before: dict[str, str | None]) -> None:
    changed = [
        f"{name} {before.get(name)} -> {version}"
        for name, version in software().items()
        if before.get(name) != version
    ]
    if changed:
        logger.warning(
            "%s was begun with other software (%s); its metrics may differ from here on from those "
            "of an uninterrupted run",
            directory,
            ", ".join(changed),
        )
