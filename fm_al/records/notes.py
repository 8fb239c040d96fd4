"""Notes in a run's directory about its starts: job.json says who is to run it, error.json why the
last start failed. Results do not depend on them."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path

from fm_al.errors import ConfigError, RunError
from fm_al.files import write_json
from fm_al.records.json_files import read_json
from fm_al.records.provenance import now, this_process
from fm_al.records.schema import Failure, JobNote

logger = logging.getLogger(__name__)

STOPPED = "stopped by Ctrl-C"


@dataclass(frozen=True)
class Assignment:
    """Who is to run a run.

    Attributes:
        sweep_folder: Folder of the sweep.
        log: File that its job prints to.
        job: SLURM's id of the job; None if the sweep's own process runs it.
        cluster: SLURM's name of the cluster; None for the default.
    """

    sweep_folder: Path
    log: Path | None = None
    job: str | None = None
    cluster: str | None = None


def assign_run(directory: Path, assignment: Assignment) -> None:
    """Notes in a run's directory, made if it does not exist, who is to run it."""
    directory.mkdir(parents=True, exist_ok=True)

    def relative(path: Path) -> str:
        return os.path.relpath(path.resolve(), directory.resolve())

    note = JobNote(
        time=now(),
        folder=relative(assignment.sweep_folder),
        job=assignment.job,
        cluster=assignment.cluster,
        log=relative(assignment.log) if assignment.log else None,
    )
    write_json(directory / "job.json", note.as_json())


def record_failure(directory: Path, error: BaseException, message: str) -> None:
    """Notes why a run failed, if it has a directory; warns if that can't be written."""
    if not directory.exists():
        return
    kind = "ConfigError" if isinstance(error, ConfigError) else type(error).__name__
    failure = Failure(time=now(), kind=kind, message=message, **this_process())
    try:
        write_json(directory / "error.json", failure.as_json())
    except OSError as full:
        logger.warning("%s: why the run failed can't be written there (%s)", directory, full)


def forget_failure(directory: Path) -> None:
    """Removes the note of the last failure."""
    (directory / "error.json").unlink(missing_ok=True)


def read_notes(directory: Path, is_finished: bool) -> tuple[Failure | None, JobNote | None]:
    """Reads both notes, None for a missing one. A damaged note raises RunError, but is only warned
    of in a finished run, which needs neither."""
    try:
        failure = read_json(
            directory / "error.json", Failure, "the run's next start removes it, as you may"
        )
        job = read_json(
            directory / "job.json",
            JobNote,
            "it only says who is to run this: delete it, and start the run again",
        )
    except RunError as damage:
        if not is_finished:
            raise
        logger.warning("%s (the run is finished: no result is lost by that)", damage)
        return None, None
    return failure, job
