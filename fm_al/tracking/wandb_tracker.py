"""Keep a W&B run up to date on a thread of its own, while the experiment runs."""

from __future__ import annotations

import logging
import queue
import threading
from dataclasses import dataclass, field, replace
from typing import Any

from fm_al.errors import RunError
from fm_al.records.schema import Result, Round
from fm_al.tracking.marks import LOGGED, mark_complete, run_id
from fm_al.tracking.tracker import TrackedRun, Tracker
from fm_al.tracking.wandb_log import remove_superseded_logs
from fm_al.tracking.wandb_process import kill_service_at_exit
from fm_al.tracking.wandb_run import WandbOptions, WandbRun

logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class WandbTracker(WandbOptions, Tracker):
    """One W&B run per run's directory; each round is a row of its history at `_step` = `round`.

    The W&B run always holds every round: after an interruption, what it lacks is added from the
    records. All of wandb, its import included, happens on a thread of its own.
    """

    def __post_init__(self) -> None:
        self._view: _View | None = None

    def start(self, run: TrackedRun) -> None:
        # A copy of the rounds, since the run's own list grows.
        self._view = _View(self, replace(run, rounds=list(run.rounds)))
        self._view.begin()

    def round(self, record: Round) -> None:
        if self._view is not None:
            self._view.events.put(("round", record))

    def finish(self, result: Result | None) -> None:
        if self._view is None:
            return
        view, self._view = self._view, None
        view.events.put(("finish", result))
        timeout = self.finish_timeout
        try:
            view.thread.join(timeout)
        finally:  # Ctrl-C may end the wait
            if view.thread.is_alive():
                view.give_up(f"not finished after {timeout:g} s (tracker.finish_timeout)")


@dataclass
class _View:
    """The W&B run of a live run, and the thread that keeps it up to date."""

    options: WandbOptions
    tracked: TrackedRun
    events: queue.SimpleQueue[tuple[str, Any]] = field(default_factory=queue.SimpleQueue)
    warned: threading.Lock = field(default_factory=threading.Lock)

    def begin(self) -> None:
        try:
            # If the process is killed, the id without the mark says that there is a view to
            # complete.
            run_id(self.tracked.directory)
            (self.tracked.directory / LOGGED).unlink(missing_ok=True)
        except (RunError, OSError) as error:
            self.give_up(f"{type(error).__name__}: {error}")
        self.thread = threading.Thread(target=self._follow, name="tracker", daemon=True)
        self.thread.start()

    def give_up(self, reason: str) -> None:
        """Warns, the first time; the process then ends without waiting for the view."""
        kill_service_at_exit()
        if self.warned.acquire(blocking=False):
            logger.warning(
                "W&B tracking stopped; the run and its records are not affected: %s",
                " ".join(reason.split())[:300],
            )

    def _follow(self) -> None:
        try:
            run = WandbRun(self.options, self.tracked, self.tracked.directory)
            for record in self.tracked.rounds:
                run.log_round(record)
            while (event := self.events.get())[0] == "round":
                run.log_round(event[1])
            result = event[1]
            if result is not None:
                run.log_result(result)
            run.finish(exit_code=1 if result is None else 0)
            remove_superseded_logs(run.log)
            if result is not None:
                mark_complete(self.tracked.directory, result.rounds)
        except Exception as error:  # whatever goes wrong here, the run continues
            self.give_up(f"{type(error).__name__}: {error}")
