"""Runs one after the other, in this process."""

from __future__ import annotations

import sys
import traceback
from collections import deque
from pathlib import Path

from rich.console import Console

from fm_al.errors import MethodError, RunLockedError
from fm_al.launch.status import NO_EXIT_MESSAGE
from fm_al.planned_run import EXPECTED_ERRORS, PlannedRun, one_line
from fm_al.records.notes import STOPPED, record_failure


class SerialLauncher:
    """Runs one after the other, in this process."""

    on_other_machines = False
    blocks = True
    poll = 1.0
    silence = 2.0

    def __init__(self, console: Console) -> None:
        self.console = console
        self._ended: dict[Path, str] = {}

    def start(self, waiting: deque[PlannedRun], folder: Path) -> None:
        """Run the first run that waits, to its end."""
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
            self._ended[run.directory] = NO_EXIT_MESSAGE
        except RunLockedError as error:
            self.console.print(f"left to the process that runs it: {one_line(error)}")
            self._ended[run.directory] = NO_EXIT_MESSAGE
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
