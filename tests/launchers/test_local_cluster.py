from __future__ import annotations

import contextlib
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.launchers.conftest import LOCAL_CLUSTER, Run

MACHINE = ("/etc", "/run", "/var/lib", "/var/log", "/var/spool")


@pytest.fixture
def folder(local_cluster: Run, short_path: Path) -> Iterator[Path]:
    yield short_path / "c"
    local_cluster("stop", short_path / "c")


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def sbatch(folder: Path, command: str, *options: str) -> None:
    environment = {**os.environ, "SLURM_CONF": f"{folder}/slurm.conf"}
    subprocess.run(
        ["sbatch", "--quiet", *options, f"--wrap={command}"],
        env=environment,
        cwd=folder.parent,
        check=True,
    )


def stubborn_job(folder: Path) -> None:
    """Runs a job that ignores SIGTERM and has a child with an environment of its own."""
    child = f"env -i {shutil.which('bash')} -c 'sleep 600; : {folder}'"
    sbatch(folder, f"trap '' TERM; {child} & touch ../{folder.parent.name}/runs; wait")
    until((folder.parent / "runs").exists)


def processes_of(folder: Path) -> list[str]:
    """By anything that they have from it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (process / "cmdline").read_text()
            environment = (process / "environ").read_bytes()
            here = str((process / "cwd").readlink())
            if str(folder) in command or bytes(folder) in environment or here == str(folder):
                found.append(command)
    return found


def files_of_slurm() -> set[Path]:
    """What SLURM and munge have on the machine outside of a folder of their own."""
    return {
        path
        for place in MACHINE
        for path in Path(place).rglob("*")
        if "slurm" in str(path) or "munge" in str(path)
    }


@pytest.mark.slurm
def test_start_prints_a_line_for_the_shell_and_nothing_else(
    local_cluster: Run, folder: Path
) -> None:
    first = local_cluster("start", folder)
    assert first.returncode == 0, first.stderr
    assert first.stdout == f"export SLURM_CONF={folder}/slurm.conf\n"
    status = local_cluster("status", folder)
    assert status.returncode == 0
    assert "idle" in status.stdout
    again = local_cluster("start", folder)
    assert (again.returncode, again.stdout) == (0, first.stdout)
    assert local_cluster("status", folder).stdout == status.stdout  # the same processes


@pytest.mark.slurm
def test_a_job_array_runs(cluster: Path, tmp_path: Path) -> None:
    options = ("--cpus-per-task=2", "--mem=64G", "--time=1", f"--output={tmp_path}/%a")
    sbatch(cluster, "echo $SLURM_CPUS_PER_TASK $SLURM_JOB_PARTITION", "--array=0-5%2", *options)
    outputs = [tmp_path / str(task) for task in range(6)]
    until(lambda: all(output.exists() and output.read_text() for output in outputs))
    assert {output.read_text() for output in outputs} == {"2 local\n"}


@pytest.mark.slurm
def test_stop_leaves_nothing_and_cancels_what_waits(
    local_cluster: Run, cluster: Path, folder: Path
) -> None:
    before = files_of_slurm()
    local_cluster("start", folder, "--cpus", "1")
    stubborn_job(folder)
    sbatch(folder, "true")
    assert "1 running" in local_cluster("status", folder).stdout
    assert "1 pending" in local_cluster("status", folder).stdout
    assert len(processes_of(folder)) >= 6
    stopped = local_cluster("stop", folder)
    assert stopped.returncode == 0, stopped.stderr
    assert processes_of(folder) == []
    assert files_of_slurm() == before
    assert local_cluster("status", folder).returncode == 1
    assert local_cluster("stop", folder).returncode == 0
    assert local_cluster("status", cluster).returncode == 0  # another one, which goes on

    local_cluster("start", folder)
    assert "jobs       none" in local_cluster("status", folder).stdout


@pytest.mark.slurm
def test_start_brings_back_daemons_that_were_killed(local_cluster: Run, folder: Path) -> None:
    local_cluster("start", folder)
    for daemon in ("munged", "slurmctld", "slurmd"):
        os.kill(int((folder / f"{daemon}.pid").read_text()), signal.SIGKILL)
    assert local_cluster("status", folder).stdout.count("does not run") == 3
    assert local_cluster("start", folder).returncode == 0
    assert local_cluster("status", folder).returncode == 0


@pytest.mark.slurm
@pytest.mark.parametrize("daemon", ["slurmctld", "slurmd"])
def test_stop_leaves_nothing_when_a_daemon_was_killed(
    local_cluster: Run, folder: Path, daemon: str
) -> None:
    local_cluster("start", folder)
    stubborn_job(folder)
    os.kill(int((folder / f"{daemon}.pid").read_text()), signal.SIGKILL)
    assert local_cluster("status", folder).returncode == 1
    stopped = local_cluster("stop", folder)
    assert stopped.returncode == 0, stopped.stderr
    assert processes_of(folder) == []


@pytest.mark.slurm
def test_a_daemon_that_does_not_come_up_is_named_with_the_end_of_its_log(
    local_cluster: Run, folder: Path
) -> None:
    programs = folder.parent / "bin"
    programs.mkdir()
    (programs / "slurmd").write_text("#!/bin/sh\necho no device >&2\nexit 1\n")
    (programs / "slurmd").chmod(0o755)
    failed = local_cluster("start", folder, PATH=f"{programs}:{os.environ['PATH']}")
    assert failed.returncode == 1
    assert failed.stdout == ""
    assert f"slurmd does not come up; {folder}/slurmd.log ends with\n  no device\n" in failed.stderr
    assert processes_of(folder) == []


@pytest.mark.parametrize("name", ["a b", "x" * 80, "c#"])
def test_a_path_that_slurm_cannot_take_is_refused(tmp_path: Path, name: str) -> None:
    refused = subprocess.run(
        [LOCAL_CLUSTER, "start", tmp_path / name], capture_output=True, text=True
    )
    assert refused.returncode == 1
    assert f"FOLDER can't be '{tmp_path / name}'" in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_something_else_is_refused(short_path: Path) -> None:
    (short_path / "slurm.conf").write_text("ClusterName=production\n")
    refused = subprocess.run([LOCAL_CLUSTER, "start", short_path], capture_output=True, text=True)
    assert refused.returncode == 1
    assert (
        refused.stderr == f"local_cluster: FOLDER can't be {short_path}: it holds something else\n"
    )
    assert (short_path / "slurm.conf").read_text() == "ClusterName=production\n"


def test_a_missing_program_is_named_with_its_package(
    short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda program, path: program != "slurmctld" or None)
    monkeypatch.setattr(sys, "argv", ["local_cluster", "start", str(short_path / "c")])
    line = "^local_cluster: slurmctld is not installed: apt-get install slurmctld .* munge$"
    with pytest.raises(SystemExit, match=line):
        runpy.run_path(str(LOCAL_CLUSTER), run_name="__main__")
    assert not (short_path / "c").exists()


def test_an_unknown_command_is_refused() -> None:
    refused = subprocess.run([LOCAL_CLUSTER, "restart"], capture_output=True, text=True)
    assert refused.returncode == 2
    assert "invalid choice: 'restart'" in refused.stderr
