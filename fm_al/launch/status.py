"""What has become of runs: `fm-al-status DIR`."""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from fm_al.config import Budget
from fm_al.errors import ArgumentParser, ConfigError, RunError
from fm_al.launch.queue import SlurmJob, in_queue, unusual_wait
from fm_al.records.discovery import runs_below
from fm_al.records.lock import holder
from fm_al.records.naming import run_names
from fm_al.records.notes import STOPPED
from fm_al.records.reading import StoredRun, stored_run
from fm_al.records.result_config import Config
from fm_al.records.schema import Result
from fm_al.tracking.wandb_run import has_view, is_noted_as_whole, whole_log

logger = logging.getLogger(__name__)

State = Literal["damaged", "failed", "stale", "ending", "running", "waiting", "new", "finished"]
WIDE = 200  # characters a line, in a file
LONGEST_PAUSE = 86400.0  # seconds: a day
TAIL = 4096  # bytes of a log, in which its last line is
NOT_WHOLE = "its W&B view lacks rounds: fm-al-sync, or its own command again, completes it"
UNDER_WAY = ("running", "waiting")
STATES: tuple[State, ...] = get_args(State)
SILENT = "ended without a word: killed, cancelled or out of memory?"
STYLES = {
    "running": "cyan",
    "failed": "red",
    "stale": "yellow",
    "ending": "yellow",
    "damaged": "red",
}


@dataclass(frozen=True)
class RunStatus:
    """How a run stands.

    finished; running; waiting: for SLURM or for its turn in a sweep; failed: with an error; stale:
    it began or was asked for, and nobody runs it any more; ending: SLURM has ended its job, and its
    process is about to go; damaged: its files can't be read; new: nothing is there yet.

    rounds, of_rounds: finished ones, and all. detail: who runs it, what it waits for, or why it
    ended. log: what its job printed. unusual_wait: why its job may wait for long, in words that it
    shares with others of its array. decides: its configuration, once it has begun."""

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
    decides: Config | None = field(default=None, compare=False, repr=False)


Queue = Callable[[Iterable[SlurmJob]], Mapping[SlurmJob, str]]


def statuses_of(directories: Sequence[Path], queue: Queue = in_queue) -> list[RunStatus]:
    """How runs stand, in the order given. queue: what SLURM says of jobs. Raises RunError where it
    can't be asked."""
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
    """run: what its directory holds, or why that can't be read."""
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
    log = None
    if run.job is not None and run.job.log is not None:
        log = (run.directory / run.job.log).resolve()  # through links, as it was noted
    of_rounds = None
    if run.provenance is not None:
        try:
            budget = Budget(**run.provenance.decides["budget"])
            of_rounds = len(range(budget.initial, budget.total, budget.per_round)) + 1
        except (KeyError, TypeError, ValueError, OverflowError):
            path = run.directory / "provenance.json"
            return RunStatus(run.directory, "damaged", detail=f"{path} names no budget")
    last = run.rounds[-1] if run.rounds else None

    def status(state: State, detail: str = "") -> RunStatus:
        return RunStatus(
            run.directory,
            state,
            len(run.rounds),
            of_rounds,
            None if last is None else last.labelled,
            None if last is None else last.accuracy,
            detail,
            log,
            run.error is not None and run.error.kind == "ConfigError",
            decides=None if run.provenance is None else run.provenance.result_config,
        )

    if run.result is not None:
        return status("finished", _lack_of_view(run.directory, run.result))
    job = _job_of(run)
    if process := holder(run.directory / "lock"):
        if job is not None and process.job == job.id and job not in said:
            return status("ending", f"{process}, which SLURM has ended")
        return status("running", str(process))
    if job is not None and job in said:
        waits = status("waiting", f"job {job.id}: {said[job]}")
        return replace(waits, unusual_wait=unusual_wait(job.id, said[job]))
    if run.job is not None and job is None and run.error is None:
        sweep = run.directory / run.job.folder / "lock"
        if process := holder(sweep):
            return status("waiting", f"for its turn in the sweep of {process}")
    if run.error is not None:
        return status("failed", run.error.message)
    if run.provenance is None and job is None:
        return status("new", "its sweep ended before its turn" if run.job else "")
    return status("stale", STOPPED if run.stopped else SILENT)


def _lack_of_view(directory: Path, result: Result) -> str:
    """What is wrong with the W&B view of a finished run, unless a process is still at it."""
    if not has_view(directory):
        return ""
    try:
        if is_noted_as_whole(directory, result) or whole_log(directory, result):
            return ""
    except RunError as damage:
        return str(damage)
    return "" if holder(directory / "lock") else NOT_WHOLE


def statuses_below(folder: Path) -> list[RunStatus]:
    """How the runs in a folder and below stand, those first that need a look. Where SLURM can't be
    asked, runs that may be in its queue are."""

    def said_or_unknown(jobs: Iterable[SlurmJob]) -> Mapping[SlurmJob, str]:
        asked_for = list(jobs)
        try:
            return in_queue(asked_for)
        except RunError as error:
            logger.warning("%s", error)
            return dict.fromkeys(asked_for, "SLURM can't be asked")

    statuses = statuses_of(runs_below(folder), said_or_unknown)
    return sorted(statuses, key=lambda status: STATES.index(status.state))


def table(statuses: Sequence[RunStatus]) -> Table:
    """A row for each run."""
    rows = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    rows.add_column("run", overflow="fold")
    for column in ("state", "round", "labels", "accuracy"):
        rows.add_column(column, no_wrap=True, justify="left" if column == "state" else "right")
    rows.add_column("", overflow="fold")
    directories = [status.directory for status in statuses]
    decides = [status.decides for status in statuses]
    names = run_names(directories, decides, told_apart(directories))
    for name, status in zip(names, statuses, strict=True):
        rows.add_row(
            name,
            Text(status.state, STYLES.get(status.state, "")),
            f"{status.rounds}/{status.of_rounds}" if status.of_rounds else "",
            "" if status.labelled is None else str(status.labelled),
            "" if status.accuracy is None else f"{status.accuracy:.3f}",
            status.detail if status.state in (*UNDER_WAY, "ending", "new", "finished") else "",
        )
    return rows


def troubles(statuses: Sequence[RunStatus]) -> str:
    """What is wrong with the runs with which something is."""
    return "".join(
        f"{status.state}: {status.directory}\n  {status.detail}\n"
        + (f"  log: {status.log}\n{last_line(status.log)}" if status.log else "")
        for status in statuses
        if status.state in ("damaged", "failed", "stale")
    )


def last_line(log: Path) -> str:
    """The last thing that a log says, for people; that of SLURM's among them."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - TAIL))
            lines = stream.read().decode(errors="replace").split("\n")
    except OSError:
        return ""
    said = [line.strip() for line in lines if line.strip()]
    return f"  its last line: {said[-1][:WIDE]}\n" if said else ""


def told_apart(paths: Sequence[Path]) -> list[str]:
    """Each path by the folders in which it differs from others; one path by its last folder that is
    no list of overrides."""
    levels = list(zip(*(path.parts for path in paths), strict=False))
    if any(len(path.parts) != len(levels) for path in paths):
        shared = os.path.commonpath([path.parent for path in paths])
        return [str(path.relative_to(shared)) for path in paths]
    last = [level for level in levels if "=" not in level[0]][-1:]
    differ = [level for level in levels if len(set(level)) > 1] or last
    if not differ:  # the folder that one is in
        return [path.resolve().name for path in paths]
    return ["/".join(parts) for parts in zip(*differ, strict=True)]


def total(statuses: Sequence[RunStatus]) -> str:
    """How many runs stand how."""
    counts = Counter(status.state for status in statuses)
    parts = [f"{counts[state]} {state}" for state in STATES if counts[state]]
    return f"{len(statuses)} run{'s' * (len(statuses) != 1)}: {', '.join(parts)}"


def show(arguments: Sequence[str]) -> None:
    """`fm-al-status DIR`."""
    parser = ArgumentParser(
        prog="fm-al-status", description="What has become of the runs below a folder."
    )
    parser.add_argument(
        "folder", type=Path, metavar="DIR", help="outputs, an experiment's folder, or any below"
    )
    parser.add_argument(
        "--every", type=float, metavar="SECONDS", help="refresh the table until no run goes on"
    )
    given = parser.parse_args(arguments)
    folder: Path = given.folder
    if not folder.is_dir():
        raise ConfigError(f"{folder}: there is no such folder")
    if given.every is not None and not 0 < given.every <= LONGEST_PAUSE:
        raise ConfigError(
            f"--every {given.every:g}: should be greater than 0 and at most {LONGEST_PAUSE:g}"
        )
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console.width = WIDE
    statuses = statuses_below(folder)
    if not statuses:
        raise ConfigError(f"{folder}: no runs are here or below")

    def shown(rows: int | None = None) -> RenderableType:
        shared = os.path.commonpath([status.directory for status in statuses]) or os.curdir
        header = f"{total(statuses)}\nin {shared}"
        left_out = len(statuses) - rows if rows is not None and rows < len(statuses) else 0
        footer = f"and {left_out} more" if left_out else ""
        return Group(Text(header), table(statuses[:rows]), Text(footer))

    if given.every is None or not console.is_terminal:
        console.print(shown())
    else:
        room = max(1, console.height - 8)
        with Live(shown(room), console=console, auto_refresh=False) as live:
            while any(status.state in UNDER_WAY for status in statuses):
                time.sleep(given.every)
                statuses = statuses_below(folder) or statuses
                live.update(shown(room), refresh=True)
    console.print(troubles(statuses), end="", soft_wrap=True)
