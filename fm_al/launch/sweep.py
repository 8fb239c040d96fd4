"""Does what is missing of many runs, here or as jobs, and says how it went."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import statistics
import sys
import time
import traceback
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from rich import box
from rich.console import Console
from rich.table import Table

from fm_al.errors import ConfigError, MethodError, RunError, RunLockedError
from fm_al.files import atomic_write
from fm_al.launch.status import (
    SILENT,
    UNDER_WAY,
    RunStatus,
    last_line,
    statuses_of,
    told_apart,
    total,
)
from fm_al.planned_run import EXPECTED_ERRORS, PlannedRun, closing_line, failure_recorded, one_line
from fm_al.records.lock import locked
from fm_al.records.naming import run_names
from fm_al.records.notes import STOPPED, Assignment, assign_run, forget_failure, record_failure
from fm_al.records.provenance import command_line
from fm_al.records.reading import stored_run
from fm_al.records.result_config import Config
from fm_al.records.schema import Result

if TYPE_CHECKING:
    from fm_al.data.base import Stored

MOST_NAMED = 5  # of the runs that are left alone, and of the reasons why runs failed
SAY_EVERY = 300.0  # seconds, in a file
REFUSED_FOR = 600.0  # seconds


class Launching(Protocol):
    """How the runs of a sweep are started: `Here`, `Local` or `Slurm`.

    on_other_machines: whether runs go on without this process, on machines that may have other
    devices. blocks: whether `start` returns only when what it started has ended. poll: seconds
    between two looks at the runs. silence: seconds after which a run has failed that nobody
    runs any more, or that can't be read."""

    on_other_machines: bool
    blocks: bool
    poll: float
    silence: float

    def start(self, waiting: deque[PlannedRun], folder: Path) -> None:
        """Takes and starts as many of the runs as there is room for. folder: the sweep's. Raises
        RunError where that can't be at the moment, and leaves the runs that were not started."""

    def ended(self, directory: Path) -> str | None:
        """What is known of a run whose process has ended; None where there is none known."""


class Here:
    """Runs one after the other in this process."""

    on_other_machines = False
    blocks = True
    poll = 1.0
    silence = 2.0

    def __init__(self, console: Console) -> None:
        self.console = console
        self._ended: dict[Path, str] = {}

    def start(self, waiting: deque[PlannedRun], folder: Path) -> None:
        if not waiting:
            return
        run = waiting.popleft()
        self.console.print(
            f"run {len(self._ended) + 1} of {len(self._ended) + 1 + len(waiting)}: {run.directory}",
            style="bold",
        )
        try:
            if run.result() is None:
                run.run(self.console, folder.name)
            self._ended[run.directory] = SILENT
        except RunLockedError as error:
            self.console.print(f"left to whoever runs it: {one_line(error)}")
            self._ended[run.directory] = SILENT
        except KeyboardInterrupt as error:
            record_failure(run.directory, error, STOPPED)
            raise
        except Exception as error:
            if isinstance(error, MethodError):
                print(error.shown, end="", file=sys.stderr)
            elif not isinstance(error, EXPECTED_ERRORS):
                traceback.print_exception(error)
            self._ended[run.directory] = one_line(error)

    def ended(self, directory: Path) -> str | None:
        return self._ended.get(directory)


@dataclass
class Sweep:
    """Runs, and how they go. results: of those that are finished. failures: how those stand that
    ended otherwise."""

    planned: Sequence[PlannedRun]
    launching: Launching
    console: Console
    results: dict[Path, Result] = field(default_factory=dict)
    failures: dict[Path, RunStatus] = field(default_factory=dict)
    _said: set[str] = field(default_factory=set, init=False)
    _refused_since: float | None = field(default=None, init=False)
    _silent_since: dict[Path, float] = field(default_factory=dict, init=False)

    def sort_out(self, retry_failed: bool) -> dict[Path, RunStatus]:
        """Notes what is finished and what can't be, leaves alone what is run or asked for elsewhere
        and, unless it is to be tried again, what failed; how the others stand, which are to be
        done."""
        contents: dict[str, Stored | None] = {}
        for run in self.planned:
            try:
                result = run.result(contents)
            except (RunError, OSError) as error:  # damaged, or another run
                self._note_failure(RunStatus(run.directory, "failed", detail=one_line(error)))
                continue
            if result is not None:
                self.results[run.directory] = result
        if self.results:
            self.console.print(f"{len(self.results)} of {len(self.planned)} runs are finished")
        left, missing = [], {}
        for status in statuses_of(self._unended()):
            if status.state in UNDER_WAY:
                left.append(status)
            elif status.state == "failed" and not retry_failed:
                self._note_failure(status)
            else:
                missing[status.directory] = status
        if left:
            self.console.print(f"left alone: {total(left)}")
        for status in left[:MOST_NAMED]:
            self.console.print(f"  {status.directory}: {status.detail}")
        return missing

    def _unended(self) -> list[Path]:
        ended = {*self.results, *self.failures}
        return [run.directory for run in self.planned if run.directory not in ended]

    def tell(self, missing: Iterable[RunStatus]) -> None:
        """Lists what would be started, and why."""
        listed = list(missing)
        self.console.print(f"would start {len(listed)} of {len(self.planned)} runs")
        for status in listed:
            begun = f" after {status.rounds} of {status.of_rounds} rounds" * (status.rounds > 0)
            detail = f": {status.detail}" if status.detail else ""
            self.console.print(f"  {status.directory}  {status.state}{begun}{detail}")

    def start(self, missing: Iterable[Path], folder: Path, wait: bool) -> None:
        """Starts runs, and waits for all that have not ended. folder: the sweep's own. First
        completes what finished runs have beside their results."""
        for run in self.planned:
            if run.directory in self.results and not run.complete(
                self.console, self.results[run.directory]
            ):
                break  # the others would wait for the same server
        chosen = set(missing)
        waiting = deque(run for run in self.planned if run.directory in chosen)
        if not waiting:
            if wait:
                self._follow(waiting, folder)
            return
        with self._made(folder, waiting), locked(folder / "lock"):
            asked = {"command": command_line(), "runs": [str(run.directory) for run in waiting]}
            content = (json.dumps(asked, indent=2) + "\n").encode()
            atomic_write(folder / "sweep.json", content, mode=0o600)
            if not self.launching.on_other_machines:
                waiting = deque(self.ask_for_all(waiting, folder))
            if wait:
                self._follow(waiting, folder)
                return
            self.launching.start(waiting, folder)
            if waiting:
                more = f"{len(waiting)} more {'is' if len(waiting) == 1 else 'are'}"
                self.console.print(f"{more} not submitted: start again when some have ended")

    @contextlib.contextmanager
    def _made(self, folder: Path, waiting: deque[PlannedRun]) -> Iterator[None]:
        """Makes the sweep's folder, which is gone again if no cluster took any of what waits."""
        asked_for = len(waiting)
        new = [each for each in (folder, *folder.parents) if not each.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        try:
            yield
        except (ConfigError, RunError):
            if new and self.launching.on_other_machines and len(waiting) == asked_for:
                shutil.rmtree(folder)
                for parent in new[1:]:
                    with contextlib.suppress(OSError):  # not empty: somebody else's by now
                        parent.rmdir()
            raise

    def ask_for_all(self, runs: Iterable[PlannedRun], folder: Path) -> list[PlannedRun]:
        """Notes that runs wait for their turn in the sweep of this folder. Those of which that
        can't be noted have failed; the others."""
        asked = []
        for run in runs:
            try:
                with failure_recorded(run.directory):
                    assign_run(run.directory, Assignment(folder))
                    forget_failure(run.directory)
                asked.append(run)
            except OSError as error:
                self._note_failure(RunStatus(run.directory, "failed", detail=one_line(error)))
        return asked

    def _follow(self, waiting: deque[PlannedRun], folder: Path) -> None:
        """Until all runs have ended: starts those that wait as there is room for them, and says how
        each ends."""
        asked_for, last_said = len(waiting), time.monotonic()
        with contextlib.ExitStack() as stack:
            line = None
            if not self.launching.blocks:
                line = stack.enter_context(self.console.status("", spinner="line"))
            while self._unended():
                self._start_more(waiting, folder, is_first=len(waiting) == asked_for)
                statuses = self._look({run.directory for run in waiting})
                so_far = f"{len(self.results)} finished; not yet: {total(statuses)}"
                if line is not None:
                    line.update(so_far)
                if not self.console.is_terminal and time.monotonic() - last_said >= SAY_EVERY:
                    self.console.print(so_far)
                    last_said = time.monotonic()
                if not (self.launching.blocks and waiting):
                    time.sleep(self.launching.poll)

    def _start_more(self, waiting: deque[PlannedRun], folder: Path, is_first: bool) -> None:
        """Raises RunError where the first ones can't be started, or later ones for long, with none
        under way."""
        try:
            self.launching.start(waiting, folder)
            self._refused_since = None
        except RunError as error:
            if self._refused_since is None:
                self._refused_since = time.monotonic()
            is_lasting = time.monotonic() - self._refused_since > REFUSED_FOR
            if is_first or (is_lasting and len(self._unended()) == len(waiting)):
                raise
            self._say_once(f"{one_line(error)}; trying again")

    def _look(self, turn_to_come: set[Path]) -> list[RunStatus]:
        """How those runs stand whose turn has come; notes which of them have ended."""
        try:
            statuses = statuses_of([run for run in self._unended() if run not in turn_to_come])
        except RunError as error:  # SLURM's controller is away for a while
            self._say_once(f"{one_line(error)}; asking again")
            return []
        for status in statuses:
            if status.unusual_wait:
                self._say_once(status.unusual_wait)
            self._note(status, self._is_silent(status))
        return statuses

    def _is_silent(self, status: RunStatus) -> bool:
        """Whether nobody has run it, or it could not be read, for longer than a file system may
        take."""
        if status.state not in ("stale", "new", "damaged"):
            self._silent_since.pop(status.directory, None)
            return False
        since = self._silent_since.setdefault(status.directory, time.monotonic())
        return time.monotonic() - since >= self.launching.silence

    def _say_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self.console.print(text)

    def _note(self, status: RunStatus, is_silent: bool) -> None:
        """Notes the end of a run, if it has come, and says so."""
        directory, last_words = status.directory, self.launching.ended(status.directory)
        if status.state == "finished":
            try:
                result = stored_run(directory).result
            except (RunError, OSError):
                return  # if that lasts, the run's next status says so
            assert result is not None
            self.results[directory] = result
            self.console.print(
                f"finished {len(self.results)} of {len(self.planned)}: {directory}\n"
                f"  {closing_line(result)}"
            )
        elif status.state in ("waiting", "stale", "new") and last_words:
            record_failure(directory, RunError(), last_words)
            self._note_failure(replace(status, state="failed", detail=last_words))
        elif status.state == "failed" or is_silent:
            self._note_failure(replace(status, detail=status.detail or SILENT))

    def _note_failure(self, status: RunStatus) -> None:
        self.failures[status.directory] = status
        self.console.print(f"failed: {status.detail}: {status.directory}")
        if status.log is not None:
            self.console.print(f"  log: {status.log}\n{last_line(status.log)}", end="")

    def close(self) -> None:
        """Prints what came of it. Raises RunError if a run failed, ConfigError if all did, for
        configurations that can't be."""
        if self.results:
            # In the order of the sweep, not in that in which the runs ended.
            planned = [run for run in self.planned if run.directory in self.results]
            results = {run.directory: self.results[run.directory] for run in planned}
            self.console.print(summary(results, {run.directory: run.config for run in planned}))
        folder = os.path.commonpath([run.directory for run in self.planned])
        self.console.print(f"records: {folder}")
        if self.failures:
            failed_alike: dict[str, list[Path]] = {}
            for directory, status in self.failures.items():
                failed_alike.setdefault(status.detail, []).append(directory)
            listed = "; ".join(
                f"{first}{_and_more(len(others))}: {why}"
                for why, (first, *others) in islice(failed_alike.items(), MOST_NAMED)
            )
            if len(failed_alike) > MOST_NAMED:
                listed += f"; and {len(failed_alike) - MOST_NAMED} other reasons, see above"
            all_config = all(status.is_config_error for status in self.failures.values())
            kind = ConfigError if all_config and not self.results else RunError
            raise kind(f"{len(self.failures)} of {len(self.planned)} runs failed: {listed}")


def _and_more(others: int) -> str:
    return f" and {others} other{'s' * (others > 1)}" if others else ""


def summary(results: dict[Path, Result], configs: dict[Path, Config]) -> Table:
    """A row for the runs that differ in nothing but the seed: mean and standard deviation over the
    seeds of the final accuracy, balanced accuracy and area under the accuracy curve. results,
    configs: of the runs of these directories."""
    table = Table(
        title="mean ± standard deviation over seeds; area: under the accuracy curve",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for column in ("run", "seeds", "labels", "accuracy", "balanced", "area"):
        is_name = column == "run"
        table.add_column(
            column,
            justify="left" if is_name else "right",
            no_wrap=not is_name,
            overflow="fold",
        )
    by_setting: dict[Path, list[Path]] = {}
    for directory in results:
        by_setting.setdefault(directory.parent, []).append(directory)
    firsts = [first for first, *_ in by_setting.values()]
    by_folder = told_apart(list(by_setting))
    names = run_names(firsts, [configs[first] for first in firsts], by_folder, with_seed=False)
    for name, directories in zip(names, by_setting.values(), strict=True):
        runs = [results[directory] for directory in directories]
        table.add_row(
            name,
            str(len(runs)),
            str(runs[0].labelled),
            *(
                _mean_and_deviation([getattr(run, figure) for run in runs])
                for figure in ("accuracy", "balanced_accuracy", "area_under_curve")
            ),
        )
    return table


def _mean_and_deviation(values: list[float]) -> str:
    mean = f"{statistics.fmean(values):.3f}"
    return f"{mean} ± {statistics.stdev(values):.3f}" if len(values) > 1 else mean
