from __future__ import annotations

import contextlib
import json
import os
import pickle
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from submitit.core.utils import UncompletedJobError

from fm_al.errors import RunError
from fm_al.launch.job import HELD_AGAIN, Job, Limits
from fm_al.records.lock import locked
from fm_al.records.notes import Assignment, assign_run, record_failure
from fm_al.records.writing import RunRecords
from tests.helpers.jobs import SWEEP, assigned_job, planned


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


def test_a_job_that_was_queued_by_an_earlier_version_can_be_loaded(compose) -> None:
    job = Job.of(planned(compose), SWEEP, gpu=False, limits=Limits(240, 120, 100))
    earlier = pickle.dumps(job, protocol=0).replace(b"fm_al.launch.job", b"fm_al.jobs")
    assert b"fm_al.jobs" in earlier
    assert pickle.loads(earlier) == job  # noqa: S301 (of this test)


def test_a_job_holds_plain_data(compose) -> None:
    job = Job.of(planned(compose), SWEEP, gpu=False)
    assert json.loads(json.dumps(job.config)) == job.config
    assert job.checkpoint().function == job


def job_number(number: int, monkeypatch, folder: Path) -> None:
    """Lets this process be a job of SLURM's."""
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    monkeypatch.setenv("SUBMITIT_FOLDER", str(folder))
    monkeypatch.setenv("SLURM_JOB_ID", str(number))


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
    assert assigned_job(run) == "7"


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
    assert assigned_job(run) == "7"
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


def test_a_job_whose_time_is_too_short_for_a_round_is_not_queued_again(
    compose, monkeypatch
) -> None:
    run, add_round, true_time = planned(compose), RunRecords.add_round, time.monotonic
    job = Job.of(run, SWEEP, gpu=False, limits=Limits(240, 120, 100))

    def exit_code_of(minutes: float) -> Any:
        """Of the job, to which the signal comes after so many minutes, in the second round."""

        def add(records: RunRecords, record: Any) -> None:
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
