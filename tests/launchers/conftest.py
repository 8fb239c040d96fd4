"""A one-node SLURM for the tests that need one."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.helpers.command_line import ROOT

LOCAL_CLUSTER = ROOT / "launchers" / "local_cluster"

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def local_cluster() -> Run:
    """Runs launchers/local_cluster."""
    path = f"{os.environ['PATH']}:/usr/local/sbin:/usr/sbin"
    for program in ("munged", "slurmctld", "slurmd", "sbatch"):
        if shutil.which(program, path=path) is None:
            pytest.skip(f"no {program}: apt-get install slurmctld slurmd slurm-client munge")

    def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [LOCAL_CLUSTER, *arguments],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder whose path is short enough for the sockets in it, unlike some of pytest's."""
    with tempfile.TemporaryDirectory(prefix="fm_al-", dir="/tmp") as folder:
        yield Path(folder).resolve()


@pytest.fixture(scope="session")
def cluster(local_cluster: Run) -> Iterator[Path]:
    """The folder of a SLURM with more CPUs than there may be, and little patience."""
    folder = Path(tempfile.mkdtemp(prefix="fm_al-", dir="/tmp")).resolve()
    started = local_cluster("start", folder, "--cpus", "8", "--kill-wait", "2")
    assert started.returncode == 0, started.stderr
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SLURM_CONF", f"{folder}/slurm.conf")
        yield folder
    local_cluster("stop", folder)
    shutil.rmtree(folder)
