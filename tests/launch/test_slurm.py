from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import deque
from pathlib import Path
from typing import Any

import pytest

from fm_al.errors import ConfigError, RunError
from fm_al.launch.slurm import SlurmLauncher
from fm_al.launch.sweep import Sweep
from tests.helpers.command_line import QUICK, fm_al
from tests.helpers.jobs import console, planned, printed

OPTIONS = {"timeout_min": 60, "slurm_signal_delay_s": 30}


@pytest.fixture
def sbatch(tmp_path: Path, monkeypatch) -> None:
    """A command of that name, so that there seems to be a SLURM."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sbatch").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)


@pytest.fixture
def slurm(sbatch, tmp_path: Path, monkeypatch) -> Path:
    """Commands that answer as SLURM's; sbatch refuses where the file `refused`, which is returned,
    says why."""
    refused = tmp_path / "refused"
    commands = {
        "sbatch": f"[ -e {refused} ] && {{ cat {refused} >&2; exit 1; }}\n"
        f"echo >> {tmp_path}/jobs; echo Submitted batch job $(wc -l < {tmp_path}/jobs)",
        "scontrol": "echo ClusterName = made; echo MaxArraySize = 2",
        "srun": "",
    }
    for name, lines in commands.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{lines}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "slurm.conf"))
    return refused


def test_there_has_to_be_a_slurm(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="there is no SLURM here"):
        SlurmLauncher(OPTIONS, 3, None, console())


@pytest.mark.usefixtures("sbatch")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"slurm_partition": "gpu\n#SBATCH --uid=0"}, "hydra.launcher.partition='gpu.*can't hold"),
        ({"name": "a\nb"}, "hydra.launcher.name="),
        ({"slurm_additional_parameters": {"mail-type\n": "END"}}, "additional_parameters="),
        ({"slurm_additional_parameters": {"mail-type": "E\nD"}}, "additional_parameters="),
        ({"slurm_signal_delay_s": -5}, "hydra.launcher.signal_delay_s=-5: should be at least 0"),
        ({"timeout_min": 10**22}, "hydra.launcher.timeout_min=10*: should be at most 92233720"),
        ({"nodes": 2}, "hydra.launcher.nodes=2: a run is one process, so it should be 1"),
        ({"tasks_per_node": 2}, "hydra.launcher.tasks_per_node=2"),
        ({"cpus_per_task": 0}, "hydra.launcher.cpus_per_task=0: should be at least 1"),
        ({"slurm_array_parallelism": 0}, "hydra.launcher.array_parallelism=0: should be at least"),
        ({"timeout_min": 2, "slurm_signal_delay_s": 120}, "signal_delay_s=120: .*timeout_min=2"),
        ({"slurm_cpus_per_gpu": 1}, "cpus_per_gpu=1: needs hydra.launcher.gpus_per_task; "),
        *(
            (
                {"slurm_additional_parameters": {name: "x"}},
                f"additional_parameters.{name}: fm-al sets it",
            )
            for name in ("output", "error", "array", "open-mode", "open_mode")
        ),
    ],
)
def test_what_a_job_script_can_not_hold_is_refused(options, message) -> None:
    with pytest.raises(ConfigError, match=message):
        SlurmLauncher(OPTIONS | options, 3, None, console())


@pytest.mark.usefixtures("sbatch")
@pytest.mark.parametrize(
    ("options", "gpu"),
    [
        ({}, False),
        ({"gpus_per_node": 1}, True),
        ({"slurm_gpus_per_task": 1}, True),
        ({"slurm_gres": "gpu:a100:1"}, True),
        ({"slurm_gres": "license:1"}, False),
    ],
)
def test_what_asks_for_a_gpu_is_known(options, gpu: bool) -> None:
    assert SlurmLauncher(OPTIONS | options, 3, None, console()).gpu is gpu


@pytest.mark.usefixtures("sbatch")
def test_a_job_may_be_queued_again_unless_that_is_ruled_out() -> None:
    def additional(**given: Any) -> Any:
        options = OPTIONS | {"slurm_additional_parameters": given}
        return SlurmLauncher(options, 3, None, console()).parameters["slurm_additional_parameters"]

    assert additional() == {"requeue": True}
    assert additional(mail="x", nice=0, hold=False, licenses=None) == {
        "requeue": True,
        "mail": "x",
        "nice": 0,
    }
    assert additional(requeue=None) == {}
    assert additional(requeue=False, mail="x") == {"no-requeue": True, "mail": "x"}
    for name in ("no-requeue", "no_requeue"):
        assert additional(**{name: True, "requeue": True}) == {name: True}
        assert additional(**{name: False}) == {"requeue": True}


@pytest.mark.usefixtures("sbatch")
@pytest.mark.parametrize(
    ("max_jobs", "own", "room"), [(None, 9, 5), (7, 4, 3), (20, 4, 5), (3, 4, 0)]
)
def test_jobs_of_other_sweeps_count_too(monkeypatch, max_jobs, own: int, room: int) -> None:
    monkeypatch.setattr("fm_al.launch.slurm.own_jobs", lambda: own)
    assert SlurmLauncher(OPTIONS, 3, max_jobs, console())._room(5) == room


@pytest.mark.usefixtures("sbatch")
def test_a_line_of_setup_that_fails_ends_the_job() -> None:
    setup = ["true", "export A='x # y'", 'module load "it\'s $(not) there"', "echo too far"]
    script = SlurmLauncher(OPTIONS | {"slurm_setup": setup}, 3, None, console()).parameters[
        "slurm_setup"
    ]
    ended = subprocess.run(["bash", "-c", "\n".join(script)], capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr.splitlines()[-1] == (
        "fm-al: the job ends because this line of hydra.launcher.setup failed: "
        'module load "it\'s $(not) there"'
    )


def test_a_job_script_says_that_requeueing_is_ruled_out(compose, slurm, tmp_path: Path) -> None:
    options = OPTIONS | {"slurm_additional_parameters": {"requeue": False, "hold": False}}
    SlurmLauncher(options, 3, None, console()).start(deque([planned(compose)]), tmp_path / "sweep")
    script = (tmp_path / "sweep" / "jobs" / "1_submission.sh").read_text().splitlines()
    assert [line for line in script if "requeue" in line] == ["#SBATCH --no-requeue"]
    assert not any("hold" in line for line in script)


@pytest.mark.parametrize(
    ("options", "lines"),
    [
        ({}, []),
        ({"slurm_wckey": "mine"}, ["#SBATCH --wckey=mine"]),
        ({"slurm_additional_parameters": {"wckey": "mine"}}, ["#SBATCH --wckey=mine"]),
    ],
)
def test_a_job_script_has_no_wckey_but_the_users(
    options: dict[str, Any], lines: list[str], compose, slurm, tmp_path: Path
) -> None:
    SlurmLauncher(OPTIONS | options, 3, None, console()).start(
        deque([planned(compose)]), tmp_path / "sweep"
    )
    script = (tmp_path / "sweep" / "jobs" / "1_submission.sh").read_text().splitlines()
    assert [line for line in script if "--wckey" in line] == lines


@pytest.mark.usefixtures("slurm")
def test_an_option_that_submitit_does_not_know_is_one_line(tmp_path: Path) -> None:
    (folder := tmp_path / "here").mkdir()
    arguments = ["-m", "hydra/launcher=slurm", "+hydra.launcher.nope=1", *QUICK]
    refused = fm_al(folder, *arguments, "strategy=random")
    assert refused.returncode == 2
    assert "submitit refuses an option: Unknown argument 'nope'" in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert list(folder.iterdir()) == []


@pytest.mark.usefixtures("slurm")
def test_a_key_in_a_sweeps_command_is_in_its_job_script_alone(tmp_path: Path) -> None:
    (folder := tmp_path / "here").mkdir()
    secret = "hydra.launcher={setup: ['export KEY=0123abcd']}"
    arguments = ["-m", "hydra/launcher=slurm", "hydra.sweeper.wait=false", secret, *QUICK]
    assert fm_al(folder, *arguments, "strategy=random").returncode == 0
    holders = {
        (path.parent.name, path.suffix)
        for path in folder.rglob("*")
        if path.is_file() and b"0123abcd" in path.read_bytes()
    }
    assert holders == {("jobs", ".sh")}
    (asked,) = folder.glob("outputs/default/sweeps/*/sweep.json")
    assert "hydra.launcher=..." in json.loads(asked.read_text())["command"]


@pytest.mark.parametrize("wait", ["true", "false"])
def test_a_sweep_that_sbatch_refuses_leaves_no_folder(
    wait: str, slurm: Path, tmp_path: Path
) -> None:
    slurm.write_text("sbatch: error: invalid partition specified: nowhere\n")
    arguments = ["-m", "hydra/launcher=slurm", f"hydra.sweeper.wait={wait}", *QUICK]
    (folder := tmp_path / "here").mkdir()
    refused = fm_al(folder, *arguments, "strategy=random", "seed=0,1")
    assert refused.returncode == 1
    assert "sbatch refuses: invalid partition specified: nowhere" in refused.stderr
    assert list(folder.iterdir()) == []


def test_a_sweep_of_which_sbatch_takes_a_part_keeps_its_folder(
    compose, slurm: Path, tmp_path: Path, monkeypatch
) -> None:
    submit = SlurmLauncher._submit

    def refused_afterwards(*arguments: Any) -> None:
        submit(*arguments)
        slurm.write_text("sbatch: error: Socket timed out on send/recv operation\n")

    monkeypatch.setattr(SlurmLauncher, "_submit", refused_afterwards)
    planned_runs = [planned(compose, f"seed={seed}") for seed in range(3)]
    sweep = Sweep(planned_runs, SlurmLauncher(OPTIONS, 3, None, console()), console())
    with pytest.raises(RunError, match=r"job 1 stays in the queue$"):
        sweep.start([run.directory for run in planned_runs], tmp_path / "sweep", wait=False)
    assert {path.name for path in (tmp_path / "sweep").iterdir()} == {"jobs", "lock", "sweep.json"}


def test_a_job_that_can_not_be_noted_is_said_and_the_others_are_noted(
    compose, slurm, tmp_path: Path
) -> None:
    runs = [planned(compose, f"seed={seed}") for seed in range(2)]
    (runs[0].directory / "job.json").mkdir(parents=True)
    shown = console()
    SlurmLauncher(OPTIONS, 3, None, shown).start(deque(runs), tmp_path / "sweep")
    submitted, warning = printed(shown).splitlines()
    assert submitted == "submitted 2 runs as job 1"
    assert warning.startswith(f"{runs[0].directory}: its job.json can't be written (")
    assert json.loads((runs[1].directory / "job.json").read_text())["job"] == "1_1"


def test_what_sbatch_refuses_leaves_its_runs_and_names_the_jobs_of_this_moment(
    compose, slurm: Path, tmp_path: Path, monkeypatch
) -> None:
    waiting = deque(planned(compose, f"seed={seed}") for seed in range(5))
    launcher, submit = SlurmLauncher(OPTIONS, 3, None, console()), SlurmLauncher._submit

    def refused_afterwards(*arguments: Any) -> None:
        submit(*arguments)
        slurm.write_text("sbatch: error: Socket timed out on send/recv operation\n")

    monkeypatch.setattr(SlurmLauncher, "_submit", refused_afterwards)
    message = r"sbatch refuses: Socket timed out .*\(options: hydra.launcher\)"
    with pytest.raises(RunError, match=f"^{message}; job 1 stays in the queue$"):
        launcher.start(waiting, tmp_path / "sweep")
    assert len(waiting) == 3
    with pytest.raises(RunError, match=f"^{message}$"):
        launcher.start(waiting, tmp_path / "sweep")
    pickles = sorted(path.name for path in (tmp_path / "sweep" / "jobs").glob("*.pkl"))
    assert pickles == ["1_0_submitted.pkl", "1_1_submitted.pkl"]
    slurm.unlink()
    monkeypatch.setattr(SlurmLauncher, "_submit", submit)
    launcher.start(waiting, tmp_path / "sweep")
    assert not waiting


@pytest.mark.faults
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_the_end_of_a_session_waits_until_a_submission_is_noted(number: int) -> None:
    """Though another thread could take the signal."""
    code = (
        "import os, signal, threading, time\n"
        "from fm_al.launch.slurm import _signals_held_back\n"
        # Not as inherited: under nohup a hangup is to be ignored.
        f"signal.signal({int(number)}, signal.SIG_DFL)\n"
        "threading.Thread(target=time.sleep, args=(9,), daemon=True).start()\n"
        "with _signals_held_back():\n"
        f"    os.kill(os.getpid(), {int(number)})\n"
        "    time.sleep(0.2)\n"
        "    print('noted', flush=True)\n"
        "print('too far')\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.stdout == "noted\n"
    assert ended.returncode != 0
