"""A sweep in a process of its own, which continues when the session ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from fm_al.errors import RunError
from fm_al.launch.interpreter import python_command
from fm_al.launch.status import last_line
from fm_al.records.lock import holder
from fm_al.records.provenance import COMMAND, command_line


def start_detached(folder: Path) -> subprocess.Popen[bytes]:
    """Start this process's sweep again, in a process that outlives the session and leads a group
    of all that it starts. folder: the sweep's."""
    arguments = [*sys.argv[1:], "hydra.sweeper.wait=true", f"hydra.sweeper.id={folder.name}"]
    environment = {k: v for k, v in os.environ.items() if k != "HYDRA_FULL_ERROR"}
    environment[COMMAND] = json.dumps(command_line())
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(
            [*python_command(), "-m", "fm_al", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,
        )


def wait_until_started(process: subprocess.Popen[bytes], folder: Path) -> None:
    """Wait until a process holds the lock of its sweep's folder, or found nothing to do.

    Raises:
        RunError: If the process fails before.
    """
    while process.poll() is None:
        found = holder(folder / "lock")
        if found is not None and found.pid == process.pid:
            return
        time.sleep(0.1)
    if process.returncode != 0:
        said = last_line(folder / "log.txt").strip()
        raise RunError(f"process {process.pid} has ended, and the sweep with it; {said}")
