"""How runs stand, from their records, their locks and SLURM's queue."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

from fm_al.budget import Budget
from fm_al.errors import RunError
from fm_al.launch.queue import SlurmJob, in_queue, unusual_wait
from fm_al.records.discovery import runs_below
from fm_al.records.lock import holder
from fm_al.records.notes import STOPPED
from fm_al.records.reading import StoredRun, stored_run
from fm_al.records.result_config import Config
from fm_al.records.schema import Result
from fm_al.tracking.marks import has_view, is_marked_complete
from fm_al.tracking.wandb_log import complete_log

logger = logging.getLogger(__name__)

State = Literal["damaged", "failed", "stale", "ending", "running", "waiting", "new", "finished"]
LONGEST_LINE = 200  # characters of a log's line that are shown
TAIL = 4096  # bytes at the end of a log in which its last line is looked for
NOT_WHOLE = "its W&B view lacks rounds: fm-al-sync, or its own command again, completes it"
UNDER_WAY = ("running", "waiting")
STATES: tuple[State, ...] = get_args(State)
NO_EXIT_MESSAGE = "ended without a word: killed, cancelled or out of memory?"


@dataclass(frozen=True)
class RunStatus:
    """How a run stands.

    The states are: `finished`; `running`; `waiting` for SLURM, or for its turn in a sweep; `failed`
    with an error; `stale`: started or queued, but no live process owns it; `ending`: SLURM has
    ended the job, and its process is still shutting down; `damaged`: a file cannot be read; `new`:
    not started yet.

    Attributes:
        directory: The run's directory.
        state: See above.
        rounds: How many rounds are finished.
        of_rounds: How many the run has in all; None if it has not started.
        labelled: Labels after the last finished round.
        accuracy: Test accuracy after it.
        detail: Who runs it, what it waits for, or why it ended.
        log: The file that its job prints to.
        is_config_error: Whether its configuration was the reason why it failed.
        unusual_wait: Why its job may wait for long, in words that all jobs of its array share.
        result_config: The part of its configuration that affects results, once it has started.
    """

    directory: Path
    state: State
    rounds: int = 0
    of_rounds: int | None = None
    labelled: int | None = None
    accuracy: float | None = None
    detail: str = ""
    log: Path | None = None
    is_config_error: bool = False
    unusual_wait: str | None = None
    result_config: Config | None = field(default=None, compare=False, repr=False)


Queue = Callable[[Iterable[SlurmJob]], Mapping[SlurmJob, str]]


def statuses_of(directories: Sequence[Path], queue: Queue = in_queue) -> list[RunStatus]:
    """How runs stand.

    Args:
        directories: The runs.
        queue: Asks SLURM for the state of jobs.

    Returns:
        A status for each run, in order.

    Raises:
        RunError: If SLURM cannot be asked.
    """
    stored: dict[Path, StoredRun | Exception] = {}
    for directory in directories:
        try:
            stored[directory] = stored_run(directory)
        except (RunError, OSError) as error:
            stored[directory] = error
    unended = [run for run in stored.values() if isinstance(run, StoredRun) and run.result is None]
    said = queue({job for run in unended if (job := _job_of(run))})
    return [_status_or_damage(directory, run, said) for directory, run in stored.items()]


def _status_or_damage(
    directory: Path, run: StoredRun | Exception, said: Mapping[SlurmJob, str]
) -> RunStatus:
    """run: what its directory holds, or why that cannot be read."""
    if isinstance(run, StoredRun):
        try:
            return _status(run, said)
        except (RunError, OSError) as error:  # of a lock
            run = error
    return RunStatus(directory, "damaged", detail=str(run))


def _job_of(run: StoredRun) -> SlurmJob | None:
    if run.job is None or run.job.job is None:
        return None
    return SlurmJob(run.job.job, run.job.cluster)


def _status(run: StoredRun, said: Mapping[SlurmJob, str]) -> RunStatus:
    last = run.rounds[-1] if run.rounds else None
    known = RunStatus(
        run.directory,
        state="stale",
        rounds=len(run.rounds),
        of_rounds=_all_rounds(run),
        labelled=None if last is None else last.labelled,
        accuracy=None if last is None else last.accuracy,
        log=_log_of(run),
        is_config_error=run.error is not None and run.error.kind == "ConfigError",
        result_config=None if run.provenance is None else run.provenance.result_config,
    )
    state, detail = _state(run, said)
    job = _job_of(run)
    wait = None
    if state == "waiting" and job is not None and job in said:
        wait = unusual_wait(job.id, said[job])
    return replace(known, state=state, detail=detail, unusual_wait=wait)


def _all_rounds(run: StoredRun) -> int | None:
    if run.provenance is None:
        return None
    try:
        return Budget(**run.provenance.decides["budget"]).rounds
    except (KeyError, TypeError, ValueError, OverflowError):
        raise RunError(f"{run.directory / 'provenance.json'} names no budget") from None


def _log_of(run: StoredRun) -> Path | None:
    if run.job is None or run.job.log is None:
        return None
    return (run.directory / run.job.log).resolve()  # through links, as it was noted


def _state(run: StoredRun, said: Mapping[SlurmJob, str]) -> tuple[State, str]:
    """The state of a run, and its detail. said: what SLURM says of jobs."""
    if run.result is not None:
        return "finished", _lack_of_view(run.directory, run.result)
    job = _job_of(run)
    if process := holder(run.directory / "lock"):
        if job is not None and process.job == job.id and job not in said:
            return "ending", f"{process}, which SLURM has ended"
        return "running", str(process)
    if job is not None and job in said:
        return "waiting", f"job {job.id}: {said[job]}"
    is_left_to_sweep = job is None and run.error is None
    if run.job is not None and is_left_to_sweep:
        process = holder(run.directory / run.job.folder / "lock")
        if process is not None:
            return "waiting", f"for its turn in the sweep of {process}"
    if run.error is not None:
        return "failed", run.error.message
    if run.provenance is None and job is None:
        return "new", "its sweep ended before its turn" if run.job else ""
    return "stale", STOPPED if run.stopped else NO_EXIT_MESSAGE


def _lack_of_view(directory: Path, result: Result) -> str:
    """What the W&B view of a finished run lacks, unless a process is still writing it."""
    if not has_view(directory):
        return ""
    try:
        if is_marked_complete(directory, result) or complete_log(directory, result):
            return ""
    except RunError as damage:
        return str(damage)
    return "" if holder(directory / "lock") else NOT_WHOLE


def statuses_below(folder: Path) -> list[RunStatus]:
    """How the runs in a folder and below stand, those that need attention first. If SLURM cannot be
    asked, its jobs count as waiting."""

    def said_or_unknown(jobs: Iterable[SlurmJob]) -> Mapping[SlurmJob, str]:
        known = list(jobs)
        try:
            return in_queue(known)
        except RunError as error:
            logger.warning("%s", error)
            return dict.fromkeys(known, "SLURM can't be asked")

    statuses = statuses_of(runs_below(folder), said_or_unknown)
    return sorted(statuses, key=lambda status: STATES.index(status.state))


def last_line(log: Path) -> str:
    """The last line of a log, for people. It may be SLURM's."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - TAIL))
            lines = stream.read().decode(errors="replace").split("\n")
    except OSError:
        return ""
    said = [line.strip() for line in lines if line.strip()]
    return f"  its last line: {said[-1][:LONGEST_LINE]}\n" if said else ""


def short_names(paths: Sequence[Path]) -> list[str]:
    """Each path by the folders in which it differs from the others; a single one by its last
    folder that is not a list of options."""
    levels = list(zip(*(path.parts for path in paths), strict=False))
    if any(len(path.parts) != len(levels) for path in paths):
        shared = os.path.commonpath([path.parent for path in paths])
        return [str(path.relative_to(shared)) for path in paths]
    last = [level for level in levels if "=" not in level[0]][-1:]
    differ = [level for level in levels if len(set(level)) > 1] or last
    if not differ:
        return [path.resolve().name for path in paths]
    return ["/".join(parts) for parts in zip(*differ, strict=True)]


def count_states(statuses: Sequence[RunStatus]) -> str:
    """How many runs there are in each state, as text."""
    counts = Counter(status.state for status in statuses)
    parts = [f"{counts[state]} {state}" for state in STATES if counts[state]]
    return f"{len(statuses)} run{'s' * (len(statuses) != 1)}: {', '.join(parts)}"
