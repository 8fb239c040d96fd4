"""What a sweep asks of a launcher: `SerialLauncher`, `LocalLauncher` or `SlurmLauncher`."""

from __future__ import annotations

import re
from collections import deque
from pathlib import Path
from typing import Protocol

from fm_al.errors import ConfigError
from fm_al.planned_run import PlannedRun


class Launcher(Protocol):
    """Starts the runs of a sweep.

    Attributes:
        on_other_machines: Runs continue without this process, on machines that may have other
            devices.
        blocks: `start` returns only when the runs that it started have ended.
        poll: Seconds between two looks at the runs.
        silence: Seconds after which a run counts as failed when no process owns it, or when its
            files cannot be read.
    """

    on_other_machines: bool
    blocks: bool
    poll: float
    silence: float

    def start(self, waiting: deque[PlannedRun], folder: Path) -> None:
        """Take as many runs from the queue as there is room for, and start them.

        Args:
            waiting: The runs to start, in order. Runs that were not started stay in it.
            folder: The sweep's folder.

        Raises:
            RunError: If runs cannot be started at the moment. Those that were started are no longer
                in `waiting`.
            ConfigError: If the launcher's options, or the path of the folder, are invalid.
        """

    def ended(self, directory: Path) -> str | None:
        """Why the process of a run ended, as far as the launcher knows; None if it does not."""


def jobs_folder(sweep_folder: Path) -> Path:
    """Make the folder for pickles, job scripts and logs, which only its owner can read.

    Raises:
        ConfigError: If SLURM or submitit would read its path as another one.
    """
    path = str(sweep_folder.absolute())
    if strange := re.search(r"[%\\\x00-\x1f\x7f]", path):
        raise ConfigError(
            f"{path!r}: {strange[0]!r} in it means something else to SLURM; "
            "start from another folder, or use another output_dir"
        )
    folder = sweep_folder / "jobs"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder
