"""What SLURM says when it is asked."""

from __future__ import annotations

import functools
import os
import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

from fm_al.errors import RunError

TIMEOUT = 60  # seconds for an answer
# Why jobs wait that will start by themselves before long.
USUAL = ("Priority", "Resources", "BeginTime", "Dependency", "JobArrayTaskLimit", "Cleaning")
ADVICE = {
    "held": "`scontrol release` with the job's number lets it go",
    "timelimit": "longer than its partition allows: scancel it, and start again with a smaller "
    "hydra.launcher.timeout_min; a run goes on in the next job",
}


@dataclass(frozen=True)
class SlurmJob:
    """id: `<array>_<task>` for a task of an array. cluster: which it is of, since every one counts
    its jobs from 1; None where that was not noted."""

    id: str
    cluster: str | None


def in_queue(jobs: Iterable[SlurmJob]) -> dict[SlurmJob, str]:
    """The jobs that SLURM has not ended: what it says of each, such as `pending (Priority)`. Those
    of other clusters are taken for such.

    Raises RunError where SLURM can't be asked."""
    asked_for = list(jobs)
    if not asked_for:
        return {}
    said, cluster = {}, this_cluster()
    of_id: dict[str, SlurmJob] = {}
    for job in asked_for:
        if job.cluster in (cluster, None):
            of_id[job.id] = job
        else:
            said[job] = (
                f"of cluster {job.cluster}, which can't be asked from here; if it is gone for "
                "good, remove the run's job.json"
            )
    arrays = sorted({job.split("_")[0] for job in of_id})
    if not arrays:
        return said
    asked = _asked(
        ["squeue", "--noheader", "--array", "--format=%i|%T|%r|%N|%e", f"--jobs={','.join(arrays)}"]
    )
    if asked.returncode and "Invalid job id" not in asked.stderr:  # forgotten: ended long ago
        raise _can_not_be_asked(asked.stderr)
    for line in asked.stdout.splitlines():
        id, state, reason, node, end = line.split("|", 4)
        # One that is queued again while it is completing has no end.
        if id not in of_id or (state == "COMPLETING" and end not in ("NONE", "N/A")):
            continue
        why = "" if reason == "None" else f" ({reason})"
        said[of_id[id]] = f"starting on {node}" if state == "RUNNING" else f"{state.lower()}{why}"
    return said


def unusual_wait(id: str, said: str) -> str | None:
    """Of a job and what SLURM says of it: why it, or its array, waits and what would do, unless
    that passes by itself."""
    pending = re.fullmatch(r"pending \((.*)\)", said)
    if pending is None or pending[1] in USUAL:
        return None
    advice = [text for part, text in ADVICE.items() if part in pending[1].lower()]
    return "; ".join([f"job {id.split('_')[0]}: {said}", *advice])


def own_jobs() -> int:
    """How many jobs of this user SLURM has not ended, which is what it limits. Raises RunError
    where SLURM can't be asked."""
    asked = _asked(["squeue", "--noheader", "--array", "--format=%i", f"--user={os.getuid()}"])
    if asked.returncode:
        raise _can_not_be_asked(asked.stderr)
    return len(asked.stdout.splitlines())


def this_cluster() -> str:
    """Its name. Raises RunError where SLURM can't be asked."""
    return _configured("ClusterName")


def largest_array() -> int:
    """SLURM's limit on the number of jobs in an array."""
    return max(1, int(_configured("MaxArraySize")))  # 0: it has no arrays


def _configured(name: str) -> str:
    found = re.search(rf"^{name}\s*=\s*(\S+)", _configuration(os.environ.get("SLURM_CONF")), re.M)
    if found is None:
        raise RunError(f"SLURM says nothing of its {name}")
    return found[1]


@functools.cache
def _configuration(conf: str | None) -> str:
    """conf: the environment's, by which this process knows one SLURM from another."""
    asked = _asked(["scontrol", "show", "config"])
    if asked.returncode:
        raise _can_not_be_asked(asked.stderr)
    return asked.stdout


def _asked(command: list[str]) -> subprocess.CompletedProcess[str]:
    # What narrows the user's own view of the queue does not make jobs vanish.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SQUEUE_")}
    try:
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=TIMEOUT
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _can_not_be_asked(str(error)) from None


def _can_not_be_asked(why: str) -> RunError:
    first = why.strip().partition("\n")[0]
    return RunError(
        f"SLURM can't be asked ({first[:200]}); is SLURM_CONF set, as by "
        "launchers/local_cluster start or when the jobs were submitted? If they are gone for good, "
        "remove the job.json of their runs"
    )
