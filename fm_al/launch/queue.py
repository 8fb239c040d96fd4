"""Asks SLURM about its queue and its settings."""

from __future__ import annotations

import functools
import os
import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

from fm_al.errors import RunError

TIMEOUT = 60  # seconds for an answer
# SLURM's reasons that resolve by themselves.
USUAL = ("Priority", "Resources", "BeginTime", "Dependency", "JobArrayTaskLimit", "Cleaning")
ADVICE = {
    "held": "`scontrol release` with the job's number releases it",
    "timelimit": "longer than its partition allows: scancel it, and run the same command again "
    "with a smaller hydra.launcher.timeout_min; a long run resumes in the next job",
}


@dataclass(frozen=True)
class SlurmJob:
    """A job.

    Attributes:
        id: `<array>_<task>` for a task of an array.
        cluster: The cluster's name, since each counts its jobs from 1; None if it is not known.
    """

    id: str
    cluster: str | None


def in_queue(jobs: Iterable[SlurmJob]) -> dict[SlurmJob, str]:
    """Ask SLURM which jobs have not ended.

    Args:
        jobs: The jobs to ask for.

    Returns:
        What SLURM says of each that has not ended, such as `pending (Priority)`. Jobs of other
        clusters count as such.

    Raises:
        RunError: If SLURM cannot be asked.
    """
    wanted = list(jobs)
    if not wanted:
        return {}
    said, cluster = {}, this_cluster()
    of_id: dict[str, SlurmJob] = {}
    for job in wanted:
        if job.cluster in (cluster, None):
            of_id[job.id] = job
        else:
            said[job] = (
                f"on cluster {job.cluster}, which can't be asked from here; if it no longer "
                "exists, delete the run's job.json"
            )
    arrays = sorted({job.split("_")[0] for job in of_id})
    if not arrays:
        return said
    asked = _asked(
        ["squeue", "--noheader", "--array", "--format=%i|%T|%r|%N|%e", f"--jobs={','.join(arrays)}"]
    )
    if asked.returncode and "Invalid job id" not in asked.stderr:  # forgotten: ended long ago
        raise _unreachable(asked.stderr)
    for line in asked.stdout.splitlines():
        job_id, state, reason, node, end = line.split("|", 4)
        # A job that is queued again while it is completing has no end.
        if job_id not in of_id or (state == "COMPLETING" and end not in ("NONE", "N/A")):
            continue
        why = "" if reason == "None" else f" ({reason})"
        said[of_id[job_id]] = (
            f"starting on {node}" if state == "RUNNING" else f"{state.lower()}{why}"
        )
    return said


def unusual_wait(job_id: str, said: str) -> str | None:
    """Why a job, or its array, is blocked and what to do; None if the reason resolves by itself.
    said: what SLURM says of the job."""
    pending = re.fullmatch(r"pending \((.*)\)", said)
    if pending is None or pending[1] in USUAL:
        return None
    advice = [text for part, text in ADVICE.items() if part in pending[1].lower()]
    return "; ".join([f"job {job_id.split('_')[0]}: {said}", *advice])


def own_jobs() -> int:
    """How many jobs this user has in the queue, which is what SLURM limits. Raises RunError if
    SLURM cannot be asked."""
    asked = _asked(["squeue", "--noheader", "--array", "--format=%i", f"--user={os.getuid()}"])
    if asked.returncode:
        raise _unreachable(asked.stderr)
    return len(asked.stdout.splitlines())


def this_cluster() -> str:
    """The cluster's name. Raises RunError if SLURM cannot be asked."""
    return _configured("ClusterName")


def largest_array() -> int:
    """SLURM's limit on the number of jobs in an array."""
    return max(1, int(_configured("MaxArraySize")))  # 0 if it has no arrays


def _configured(name: str) -> str:
    found = re.search(rf"^{name}\s*=\s*(\S+)", _configuration(os.environ.get("SLURM_CONF")), re.M)
    if found is None:
        raise RunError(f"`scontrol show config` does not show {name}")
    return found[1]


@functools.cache
def _configuration(conf: str | None) -> str:
    """SLURM's settings. conf: the environment's SLURM_CONF, to cache them by cluster."""
    asked = _asked(["scontrol", "show", "config"])
    if asked.returncode:
        raise _unreachable(asked.stderr)
    return asked.stdout


def _asked(command: list[str]) -> subprocess.CompletedProcess[str]:
    # A user's own filters of the queue must not hide jobs.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SQUEUE_")}
    try:
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=TIMEOUT
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _unreachable(str(error)) from None


def _unreachable(why: str) -> RunError:
    first = why.strip().partition("\n")[0]
    return RunError(
        f"SLURM can't be asked ({first[:200]}); set SLURM_CONF as it was when the jobs were "
        "submitted (launchers/local_cluster start prints it), or, if the cluster no longer exists, "
        "delete the job.json of its runs"
    )
