from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from rich.console import Console
from submitit.core.utils import UncompletedJobError

from fm_al.errors import ConfigError, RunError
from fm_al.launch.interpreter import python_command
from fm_al.launch.job import HELD_AGAIN, Job, Limits
from fm_al.launch.local import LocalLauncher, run_in_process
from fm_al.launch.planning import planned_run
from fm_al.launch.slurm import SlurmLauncher
from fm_al.launch.sweep import Sweep
from fm_al.records.lock import locked
from fm_al.records.notes import Assignment, assign_run, record_failure
from fm_al.records.schema import Round
from fm_al.records.writing import RunRecords
from tests.helpers.command_line import QUICK, fm_al
from tests.test_experiment import without_times

SWEEP = Path("sweeps/20261123-120000-ab12")
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


def console() -> Console:
    return Console(file=io.StringIO(), width=200, soft_wrap=True)


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def planned(compose, *overrides: str) -> Any:
    composed = compose(*QUICK, "strategy=random", *overrides)
    return planned_run(composed, composed.hydra.runtime.choices, [*QUICK, *overrides])


def test_a_job_runs_what_is_missing_and_says_where_and_how_it_went(compose, capsys) -> None:
    run = planned(compose)
    job = Job.of(run, SWEEP, gpu=False)
    for _ in range(2):
        with patch.object(sys, "argv", ["_submit.py", "jobs"]):
            job()
        first, *_, last = capsys.readouterr().out.splitlines()
        assert first.startswith(f"{run.directory}: process {os.getpid()} on ")
        assert last.startswith("accuracy ")
    assert run.result().labelled == 30
    provenance = json.loads((run.directory / "provenance.json").read_text())
    (start,) = provenance["starts"]
    assert start["sweep"] == SWEEP.name
    assert start["command"] == ["fm-al", *sys.argv[1:]]


def test_a_job_that_fails_says_why_in_its_log_and_in_the_runs_directory(compose, capsys) -> None:
    run = planned(compose, "trainer.optimizer.lr=1e37", "trainer.clamp_gradients=null")
    run.directory.mkdir(parents=True)
    with pytest.raises(SystemExit) as ended:
        Job.of(run, SWEEP, gpu=False)()
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith("fm-al: round 1, epoch ")
    assert json.loads((run.directory / "error.json").read_text())["kind"] == "RunError"


def test_a_class_that_is_not_on_the_node_is_a_failure_of_the_run(compose, capsys) -> None:
    run = planned(compose)
    run.directory.mkdir(parents=True)
    config = run.config | {"strategy": {"_target_": "my_own.strategies.Spread"}}
    with pytest.raises(SystemExit) as ended:
        replace(Job.of(run, SWEEP, gpu=False), config=config)()
    assert ended.value.code == 2
    message = "strategy._target_=my_own.strategies.Spread: can't be imported"
    assert message in json.loads((run.directory / "error.json").read_text())["message"]


def test_a_job_that_was_promised_a_gpu_does_not_fall_back_to_the_cpu(compose, monkeypatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    with pytest.raises(SystemExit):
        Job.of(planned(compose, "device.kind=auto"), SWEEP, gpu=True)()
    asked_for_the_cpu = planned(compose)
    Job.of(asked_for_the_cpu, SWEEP, gpu=True)()
    assert asked_for_the_cpu.result()


def test_a_job_holds_plain_data(compose) -> None:
    job = Job.of(planned(compose), SWEEP, gpu=False)
    assert json.loads(json.dumps(job.config)) == job.config
    assert job.checkpoint().function == job


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


def test_a_run_that_can_not_be_noted_does_not_keep_others_from_a_process(
    compose, tmp_path: Path
) -> None:
    bad, good = (planned(compose, f"seed={seed}") for seed in range(2))
    (bad.directory / "job.json").mkdir(parents=True)
    local, waiting = (
        LocalLauncher(1, 1, threads=1, on_gpu=False, console=console()),
        deque([bad, good]),
    )
    while waiting or local.ended(good.directory) is None:
        local.start(waiting, tmp_path / "sweep")
        time.sleep(0.1)
    assert "Is a directory" in str(local.ended(bad.directory))
    assert good.result()


@pytest.mark.parametrize("name", ["100%j", "a\\b", "two\nlines"])
def test_a_folder_that_slurm_reads_otherwise_is_refused(compose, tmp_path, name: str) -> None:
    local = LocalLauncher(1, 1, threads=1, on_gpu=False, console=console())
    with pytest.raises(ConfigError, match="means something else to SLURM"):
        local.start(deque([planned(compose)]), tmp_path / name)
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize(
    ("cores", "threads", "wanted", "at_once"),
    [(8, 2, None, 4), (2, 2, None, 1), (1, 2, None, 1), (7, 2, None, 3), (2, 2, 5, 5)],
)
def test_as_many_run_at_once_as_there_are_cores_for(
    cores: int, threads: int, wanted: int | None, at_once: int, monkeypatch
) -> None:
    monkeypatch.setattr("joblib.cpu_count", lambda: cores)
    assert LocalLauncher(wanted, 1, threads, on_gpu=False, console=console()).at_once == at_once


@pytest.mark.parametrize(
    ("visible", "gpus"),
    [
        (None, ["0", "1", "2"]),
        ("2,3", ["2", "3"]),
        ("1", ["1"]),
        ("GPU-8f1c, MIG-2a/7/0", ["GPU-8f1c", "MIG-2a/7/0"]),
    ],
)
def test_gpus_are_shared_by_their_own_names(visible, gpus: list[str], monkeypatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    local = LocalLauncher(None, 2, threads=1, on_gpu=True, console=console())
    assert (local.gpus, local.at_once) == (gpus, 2 * len(gpus))


@pytest.mark.parametrize("here_is_first", [False, True])
def test_a_python_finds_modules_where_this_one_does(tmp_path, monkeypatch, here_is_first) -> None:
    for name in ("here", "on_the_path"):
        (tmp_path / name).mkdir()
    (tmp_path / "here" / "random.py").write_text("raise SystemExit('of the current folder')")
    told = "import random, sys; print(__name__, *sys.argv[1:])"
    (tmp_path / "on_the_path" / "told.py").write_text(told)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "on_the_path"))
    if here_is_first:
        monkeypatch.syspath_prepend(str(tmp_path / "here"))
    arguments = ["-m", "told", "-m", "two words"]
    ended = subprocess.run([*python_command(), *arguments], capture_output=True, text=True)
    expected = ("", "of the current folder\n") if here_is_first else ("__main__ -m two words\n", "")
    assert (ended.stdout, ended.stderr) == expected


def test_a_process_that_can_not_be_started_is_one_line(compose, monkeypatch, tmp_path) -> None:
    def ended(*_: object) -> None:
        raise EOFError("unexpected EOF")

    monkeypatch.setattr("multiprocessing.forkserver.connect_to_new_process", ended)
    here = Path.cwd()
    local = LocalLauncher(1, 1, threads=1, on_gpu=False, console=console())
    with pytest.raises(RunError, match=r"^no process can be started .EOFError: unexpected EOF.; "):
        local.start(waiting := deque([planned(compose)]), tmp_path)
    assert len(waiting) == 1
    assert Path.cwd() == here


def test_a_local_sweep_gives_the_records_of_one_after_the_other(tmp_path: Path) -> None:
    """One of its runs fails; its folder is for the owner's eyes only and holds no secret."""
    sweep = ["-m", *QUICK, "seed=0,1", "strategy=random", "trainer.clamp_gradients=null"]
    failing = [*sweep, "trainer.optimizer.lr=1e-3,1e37"]
    secret = "0123456789abcdef" * 2
    local = [*failing, "hydra/launcher=local", "output_dir=local", "tracker=wandb"]
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("WANDB_API_KEY", secret)
        done = fm_al(tmp_path, *local)
    assert done.returncode == 1
    assert "2 of 4 runs failed" in done.stderr
    here = fm_al(tmp_path, *failing, "output_dir=here")
    assert here.returncode == 1
    results = sorted(tmp_path.glob("local/**/result.json"))
    assert len(results) == 2
    for result in results:
        other = tmp_path / "here" / result.relative_to(tmp_path / "local")
        assert without_times(result.parent) == without_times(other.parent)
    for file in tmp_path.rglob("*"):
        assert file.is_dir() or secret.encode() not in file.read_bytes()
    (submissions,) = tmp_path.glob("local/default/sweeps/*/jobs")
    assert stat.S_IMODE(submissions.stat().st_mode) == 0o700

    again = fm_al(tmp_path, *local, "hydra.sweeper.dry_run=true")
    assert again.stdout.count("failed: round 1") == 2
    kept = fm_al(tmp_path, *local, "hydra.sweeper.retry_failed=false")
    assert kept.returncode == 1
    assert kept.stdout.count("finished 1") == 0


def job_number(number: int, monkeypatch, folder: Path) -> None:
    """Lets this process be a job of SLURM's."""
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    monkeypatch.setenv("SUBMITIT_FOLDER", str(folder))
    monkeypatch.setenv("SLURM_JOB_ID", str(number))


def asked_job(run: Any) -> str | None:
    return json.loads((run.directory / "job.json").read_text())["job"]


def test_a_job_waits_for_a_process_that_slurm_has_not_ended_yet(
    compose, monkeypatch, capsys, tmp_path: Path
) -> None:
    run, waits = planned(compose), []
    run.directory.mkdir(parents=True)
    held = contextlib.ExitStack()
    held.enter_context(locked(run.directory / "lock"))

    def wait(seconds: float) -> None:
        if seconds == HELD_AGAIN:
            waits.append(seconds)
            held.close()

    monkeypatch.setattr("fm_al.launch.job.time.sleep", wait)
    with pytest.raises(SystemExit):
        Job.of(run, SWEEP, gpu=False)()
    assert waits == []
    job_number(7, monkeypatch, tmp_path)
    Job.of(run, SWEEP, gpu=False)()
    assert len(waits) == 1
    assert "is being written by process" in capsys.readouterr().out
    assert run.result()
    assert asked_job(run) == "7"


@pytest.mark.parametrize("restarted", [False, True])
def test_a_job_that_waits_in_vain_ends_and_leaves_what_is_noted_of_the_run(
    compose, monkeypatch, tmp_path: Path, restarted: bool
) -> None:
    run = planned(compose)
    assign_run(run.directory, Assignment(SWEEP, job="7"))
    record_failure(run.directory, RunError(), "the disk is full")
    monkeypatch.setattr("fm_al.launch.job.HELD_FOR", 0.1)
    if restarted:
        monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    with locked(run.directory / "lock"):
        job_number(8, monkeypatch, tmp_path)
        with pytest.raises(SystemExit):
            Job.of(run, SWEEP, gpu=False)()
    assert asked_job(run) == "7"
    assert "the disk is full" in (run.directory / "error.json").read_text()


def test_a_job_waits_as_long_as_it_takes_for_itself_on_a_node_that_was_given_up(
    compose, monkeypatch, tmp_path: Path
) -> None:
    run, waits, held = planned(compose), [], contextlib.ExitStack()
    run.directory.mkdir(parents=True)
    job_number(7, monkeypatch, tmp_path)
    held.enter_context(locked(run.directory / "lock"))

    def wait(seconds: float) -> None:
        if seconds == HELD_AGAIN:
            waits.append(seconds)
            if len(waits) == 2:
                held.close()

    monkeypatch.setattr("fm_al.launch.job.HELD_FOR", 0.1)
    monkeypatch.setattr("fm_al.launch.job.time.sleep", wait)
    Job.of(run, SWEEP, gpu=False)()
    assert len(waits) == 2
    assert run.result()


class Stopped(Job):
    def __call__(self) -> None:
        raise KeyboardInterrupt


def test_a_process_that_is_stopped_says_so_in_the_runs_directory(tmp_path: Path) -> None:
    job = Stopped({}, str(tmp_path), str(tmp_path), str(SWEEP), [], gpu=False)
    process = multiprocessing.get_context("forkserver").Process(
        target=run_in_process, args=(job, tmp_path / "1.log", None)
    )
    process.start()
    process.join()
    assert process.exitcode == 130
    assert json.loads((tmp_path / "error.json").read_text())["message"] == "stopped by Ctrl-C"


def test_a_local_process_is_not_noted_in_a_run_that_another_one_holds(
    compose, tmp_path: Path
) -> None:
    run = planned(compose)
    assign_run(run.directory, Assignment(SWEEP, job="7"))
    local = LocalLauncher(1, 1, threads=1, on_gpu=False, console=console())
    with locked(run.directory / "lock"):
        local.start(deque([run]), tmp_path / "sweep")
        while local.ended(run.directory) is None:
            local.start(deque(), tmp_path / "sweep")
            time.sleep(0.1)
    assert asked_job(run) == "7"


def test_a_job_whose_time_is_too_short_for_a_round_is_not_queued_again(
    compose, monkeypatch
) -> None:
    run, add_round, true_time = planned(compose), RunRecords.add_round, time.monotonic
    job = Job.of(run, SWEEP, gpu=False, limits=Limits(240, 120, 100))

    def exit_code_of(minutes: float) -> Any:
        """Of the job, to which the signal comes after so many minutes, in the second round."""

        def add(records: RunRecords, record: Round) -> None:
            if record.round == 1:
                monkeypatch.setattr("time.monotonic", lambda: true_time() + 60 * minutes)
                assert job.checkpoint().function == job
                sys.exit("queued again")
            add_round(records, record)

        monkeypatch.setattr(RunRecords, "add_round", add)
        with pytest.raises(SystemExit) as ended:
            job()
        monkeypatch.setattr("time.monotonic", true_time)
        return ended.value.code

    assert exit_code_of(minutes=237) == "queued again"  # since it finished the first
    assert exit_code_of(minutes=200) == "queued again"  # for preemption
    error = run.directory / "error.json"
    assert not error.exists()
    assert exit_code_of(minutes=237) == 1
    message = json.loads(error.read_text())["message"]
    assert message.startswith("not one round was finished within hydra.launcher.timeout_min=240; ")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            UncompletedJobError("Job not requeued because: timed-out too many times."),
            "timed-out too many times: .* hydra.launcher.max_num_timeout=0 times",
        ),
        (
            subprocess.CalledProcessError(1, ["scontrol", "requeue", "7"]),
            "SLURM does not queue it again .*additional_parameters",
        ),
    ],
)
@pytest.mark.parametrize(
    "at", ["fm_al.records.writing.RunRecords.add_round", "fm_al.strategies.random.Random.select"]
)
def test_a_job_that_is_not_queued_again_says_which_option_would_do(
    compose, monkeypatch, at: str, error: Exception, message: str
) -> None:
    def come(*_: Any) -> None:
        raise error

    run = planned(compose)
    monkeypatch.setattr(at, come)
    with pytest.raises(SystemExit):
        Job.of(run, SWEEP, gpu=False, limits=Limits(240, 120, 0))()
    assert re.search(message, json.loads((run.directory / "error.json").read_text())["message"])


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
