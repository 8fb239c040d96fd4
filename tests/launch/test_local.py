from __future__ import annotations

import json
import multiprocessing
import stat
import time
from collections import deque
from pathlib import Path

import pytest

from fm_al.errors import ConfigError, RunError
from fm_al.launch.job import Job
from fm_al.launch.local import LocalLauncher, run_in_process
from fm_al.records.lock import locked
from fm_al.records.notes import Assignment, assign_run
from tests.helpers.command_line import QUICK, fm_al
from tests.helpers.jobs import SWEEP, assigned_job, console, planned
from tests.helpers.made_records import without_times


@pytest.mark.slow
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


@pytest.mark.slow
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


class Stopped(Job):
    def __call__(self) -> None:
        raise KeyboardInterrupt


@pytest.mark.slow
def test_a_process_that_is_stopped_says_so_in_the_runs_directory(tmp_path: Path) -> None:
    job = Stopped({}, str(tmp_path), str(tmp_path), str(SWEEP), [], gpu=False)
    process = multiprocessing.get_context("forkserver").Process(
        target=run_in_process, args=(job, tmp_path / "1.log", None)
    )
    process.start()
    process.join()
    assert process.exitcode == 130
    assert json.loads((tmp_path / "error.json").read_text())["message"] == "stopped by Ctrl-C"


@pytest.mark.slow
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
    assert assigned_job(run) == "7"
