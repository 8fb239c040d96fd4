"""Does what is missing of many runs, by a launcher, and says how it went."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from fm_al.errors import ConfigError, RunError
from fm_al.files import write_json
from fm_al.launch.launcher import Launcher
from fm_al.launch.run_directory import note_overrides
from fm_al.launch.status import (
    NO_EXIT_MESSAGE,
    UNDER_WAY,
    RunStatus,
    count_states,
    last_line,
    statuses_of,
)
from fm_al.launch.summary import failure_of_sweep, shared_options, summary
from fm_al.planned_run import PlannedRun, closing_line, failure_recorded, one_line
from fm_al.records.directory import output_dir_named
from fm_al.records.lock import locked
from fm_al.records.notes import Assignment, assign_run, forget_failure, record_failure
from fm_al.records.provenance import command_line
from fm_al.records.reading import stored_run
from fm_al.records.schema import Result

if TYPE_CHECKING:
    from fm_al.data.base import Stored

MOST_NAMED = 5  # of the runs that are left alone
SAY_EVERY = 300.0  # seconds, in a file
REFUSED_FOR = 600.0  # seconds


@dataclass
class Sweep:
    """The runs of a sweep, and how they stand.

    Attributes:
        planned: The runs, in order.
        launcher: Starts them.
        console: Where the sweep prints.
        overrides: The overrides of each run, by its directory.
        results: The results of finished runs.
        failures: How the runs stand that failed.
    """

    planned: Sequence[PlannedRun]
    launcher: Launcher
    console: Console
    overrides: Mapping[Path, Sequence[str]] = field(default_factory=dict)
    results: dict[Path, Result] = field(default_factory=dict)
    failures: dict[Path, RunStatus] = field(default_factory=dict)
    _said: set[str] = field(default_factory=set, init=False)
    _refused_since: float | None = field(default=None, init=False)
    _silent_since: dict[Path, float] = field(default_factory=dict, init=False)

    def triage(self, retry_failed: bool) -> dict[Path, RunStatus]:
        """Find out which runs are finished, failed, running elsewhere, or still to be done.

        Args:
            retry_failed: Whether runs that failed before are to be done again.

        Returns:
            How the runs stand that are to be done, by their directories.
        """
        contents: dict[str, Stored | None] = {}
        for run in self.planned:
            try:
                result = run.result(contents)
            except (RunError, OSError) as error:  # damaged, or another run's directory
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
            self.console.print(f"left alone: {count_states(left)}")
        for status in left[:MOST_NAMED]:
            self.console.print(f"  {status.directory}: {status.detail}")
        return missing

    def _unended(self) -> list[Path]:
        ended = {*self.results, *self.failures}
        return [run.directory for run in self.planned if run.directory not in ended]

    def print_plan(self, missing: Iterable[RunStatus]) -> None:
        """List the runs that would be started, and how they stand."""
        listed = list(missing)
        self.console.print(f"would start {len(listed)} of {len(self.planned)} runs")
        for status in listed:
            begun = f" after {status.rounds} of {status.of_rounds} rounds" * (status.rounds > 0)
            detail = f": {status.detail}" if status.detail else ""
            self.console.print(f"  {status.directory}  {status.state}{begun}{detail}")

    def start(self, missing: Iterable[Path], folder: Path, wait: bool) -> None:
        """Start runs, after completing the W&B views of finished ones.

        Args:
            missing: The directories of the runs to start.
            folder: The sweep's own folder.
            wait: Whether to wait until all runs of the sweep have ended.

        Raises:
            RunError: If the launcher cannot start them.
            ConfigError: If the launcher's options are invalid.
        """
        for run in self.planned:
            if run.directory in self.results and not run.complete(
                self.console, self.results[run.directory]
            ):
                break  # the others would wait for the same W&B server
        chosen = set(missing)
        waiting = deque(run for run in self.planned if run.directory in chosen)
        if not waiting:
            if wait:
                self._follow(waiting, folder)
            return
        with self._made(folder, waiting), locked(folder / "lock"):
            asked = {"command": command_line(), "runs": [str(run.directory) for run in waiting]}
            write_json(folder / "sweep.json", asked, mode=0o600)
            if not self.launcher.on_other_machines:
                waiting = deque(self.assign_all(waiting, folder))
            if wait:
                self._follow(waiting, folder)
                return
            self._launch(waiting, folder)
            if waiting:
                self.console.print(
                    f"{len(waiting)} more to submit: run the same command again when some have "
                    "ended"
                )

    @contextlib.contextmanager
    def _made(self, folder: Path, waiting: deque[PlannedRun]) -> Iterator[None]:
        """Make the sweep's folder, and remove it again if a cluster refuses all of its runs."""
        n_runs = len(waiting)
        new = [each for each in (folder, *folder.parents) if not each.exists()]
        with output_dir_named(self.planned[0].config["output_dir"]):
            folder.mkdir(parents=True, exist_ok=True)
        try:
            yield
        except (ConfigError, RunError):
            if new and self.launcher.on_other_machines and len(waiting) == n_runs:
                shutil.rmtree(folder)
                for parent in new[1:]:
                    with contextlib.suppress(OSError):  # not empty: another process uses it
                        parent.rmdir()
            raise

    def assign_all(self, runs: Iterable[PlannedRun], folder: Path) -> list[PlannedRun]:
        """Note in the runs' directories that they wait for their turn in the sweep of a folder.

        Returns:
            The runs for which that succeeded. The others have failed.
        """
        assigned = []
        for run in runs:
            try:
                with failure_recorded(run.directory):
                    assign_run(run.directory, Assignment(folder))
                    forget_failure(run.directory)
                    self._note_overrides(run)
                assigned.append(run)
            except OSError as error:
                self._note_failure(RunStatus(run.directory, "failed", detail=one_line(error)))
        return assigned

    def _follow(self, waiting: deque[PlannedRun], folder: Path) -> None:
        """Start runs as there is room for them and say how each ends, until all have ended."""
        n_runs, last_said = len(waiting), time.monotonic()
        with contextlib.ExitStack() as stack:
            line = None
            if not self.launcher.blocks:
                line = stack.enter_context(self.console.status("", spinner="line"))
            while self._unended():
                self._start_more(waiting, folder, is_first=len(waiting) == n_runs)
                statuses = self._look({run.directory for run in waiting})
                so_far = f"{len(self.results)} finished; not yet: {count_states(statuses)}"
                if line is not None:
                    line.update(so_far)
                if not self.console.is_terminal and time.monotonic() - last_said >= SAY_EVERY:
                    self.console.print(so_far)
                    last_said = time.monotonic()
                if not (self.launcher.blocks and waiting):
                    time.sleep(self.launcher.poll)

    def _start_more(self, waiting: deque[PlannedRun], folder: Path, is_first: bool) -> None:
        """Raises RunError if the first runs cannot be started, or if later ones cannot for long and
        none is under way."""
        try:
            self._launch(waiting, folder)
            self._refused_since = None
        except RunError as error:
            if self._refused_since is None:
                self._refused_since = time.monotonic()
            is_lasting = time.monotonic() - self._refused_since > REFUSED_FOR
            if is_first or (is_lasting and len(self._unended()) == len(waiting)):
                raise
            self._say_once(f"{one_line(error)}; trying again")

    def _launch(self, waiting: deque[PlannedRun], folder: Path) -> None:
        """Start as many runs as there is room for."""
        before = list(waiting)
        try:
            self.launcher.start(waiting, folder)
        finally:
            if self.launcher.on_other_machines:  # the others' are noted when they are assigned
                for run in before[: len(before) - len(waiting)]:
                    self._note_overrides(run)

    def _note_overrides(self, run: PlannedRun) -> None:
        note_overrides(run.directory, self.overrides.get(run.directory, ()))

    def _look(self, turn_to_come: set[Path]) -> list[RunStatus]:
        """How the runs stand whose turn has come. Notes which of them have ended."""
        try:
            statuses = statuses_of([run for run in self._unended() if run not in turn_to_come])
        except RunError as error:  # SLURM's controller may be away for a while
            self._say_once(f"{one_line(error)}; asking again")
            return []
        for status in statuses:
            if status.unusual_wait:
                self._say_once(status.unusual_wait)
            self._note(status, self._is_silent(status))
        return statuses

    def _is_silent(self, status: RunStatus) -> bool:
        """Whether no process has owned the run, or its files could not be read, for longer than a
        slow file system explains."""
        if status.state not in ("stale", "new", "damaged"):
            self._silent_since.pop(status.directory, None)
            return False
        since = self._silent_since.setdefault(status.directory, time.monotonic())
        return time.monotonic() - since >= self.launcher.silence

    def _say_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self.console.print(text)

    def _note(self, status: RunStatus, is_silent: bool) -> None:
        """Note and print the end of a run, if it has ended."""
        directory, last_words = status.directory, self.launcher.ended(status.directory)
        if status.state == "finished":
            try:
                result = stored_run(directory).result
            except (RunError, OSError):
                return  # if that lasts, the run's next status is `damaged`
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
            self._note_failure(replace(status, detail=status.detail or NO_EXIT_MESSAGE))

    def _note_failure(self, status: RunStatus) -> None:
        self.failures[status.directory] = status
        self.console.print(f"failed: {status.detail}: {status.directory}")
        if status.log is not None:
            self.console.print(f"  log: {status.log}\n{last_line(status.log)}", end="")

    def summarize_or_raise(self) -> None:
        """Print the table of finished runs.

        Raises:
            ConfigError: If all runs failed because of their configuration.
            RunError: If a run failed.
        """
        if self.results:
            # In the order of the sweep, not in that in which the runs ended.
            planned = [run for run in self.planned if run.directory in self.results]
            results = {run.directory: self.results[run.directory] for run in planned}
            configs = {run.directory: run.config for run in planned}
            if shared := shared_options([*self.overrides.values()]):
                self.console.print(f"all runs: {shared}")
            self.console.print(summary(results, configs, self.overrides))
        folder = os.path.commonpath([run.directory for run in self.planned])
        self.console.print(f"records: {folder}")
        if self.failures:
            raise failure_of_sweep(self.failures, len(self.planned), bool(self.results))
