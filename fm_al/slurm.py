"""What SLURM says when it is asked."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable

from fm_al.errors import RunError

TIMEOUT = 60  # seconds for an answer


def in_queue(jobs: Iterable[str]) -> dict[str, str]:
    """The jobs that SLURM has not ended: what it says of each, such as `pending (Priority)`.

    Raises RunError where SLURM can't be asked."""
    arrays = sorted({job.split("_")[0] for job in jobs})
    if not arrays:
        return {}
    command = ["squeue", "--noheader", "--array", "--format=%i|%T|%r|%N|%e"]
    command.append(f"--jobs={','.join(arrays)}")
    # What narrows the user's own view of the queue does not make jobs vanish.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SQUEUE_")}
    try:
        asked = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=TIMEOUT
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _can_not_be_asked(str(error)) from None
    if asked.returncode and "Invalid job id" not in asked.stderr:  # forgotten: ended long ago
        raise _can_not_be_asked(asked.stderr)
    said = {}
    for line in asked.stdout.splitlines():
        job, state, reason, node, end = line.split("|", 4)
        # One that is queued again while it is completing has no end.
        if state == "COMPLETING" and end not in ("NONE", "N/A"):
            continue
        why = "" if reason == "None" else f" ({reason})"
        said[job] = f"starting on {node}" if state == "RUNNING" else f"{state.lower()}{why}"
    return said


def _can_not_be_asked(why: str) -> RunError:
    return RunError(
        f"SLURM can't be asked for its jobs ({' '.join(why.split())[:200]}); is SLURM_CONF set, as "
        "when they were submitted? If they are gone for good, remove the job.json of their runs"
    )


def largest_array() -> int:
    """SLURM's limit on the number of jobs in an array."""
    asked = subprocess.run(
        ["scontrol", "show", "config"], capture_output=True, text=True, timeout=TIMEOUT
    )
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", asked.stdout, re.MULTILINE)
    if found is None:
        raise RunError(f"SLURM can't be asked for its limits: {' '.join(asked.stderr.split())}")
    return max(1, int(found[1]))  # 0: it has no arrays
