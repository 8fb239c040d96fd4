"""Sweeps on a SLURM of one node, undisturbed and disturbed: what is recorded is the same."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fm_al.launch.status import RunStatus, statuses_below
from fm_al.records.discovery import runs_below
from tests.helpers.command_line import QUICK, ROOT, Ended, fm_al
from tests.test_experiment import without_times

pytestmark = pytest.mark.usefixtures("cluster")

SLURM = ["hydra/launcher=slurm", "hydra.launcher.mem_gb=1"]
SLOW = [
    *QUICK,
    "strategy=random",
    "strategy._target_=tests.launchers.slow.Slow",
    "+strategy.seconds=0.3",
    "budget.total=300",
]
SECRET = "0123456789abcdef0123456789abcdef01234567"
PATIENCE = 180.0  # seconds; for busy machines


class Cluster:
    """Sweeps in a folder, and what becomes of them."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.outputs = folder / "outputs"

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """`fm-al -m` in the background."""
        return subprocess.Popen(
            [Path(sys.executable).with_name("fm-al"), "-m", *SLURM, *arguments],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "WANDB_API_KEY": SECRET},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> Ended:
        """`fm-al -m` to its end."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=PATIENCE)
        return Ended(process.returncode, out, err)

    def statuses(self) -> list[RunStatus]:
        return statuses_below(self.outputs)

    def wait_until(self, holds: Callable[[list[RunStatus]], Any]) -> list[RunStatus]:
        deadline = time.monotonic() + PATIENCE
        while not holds(statuses := self.statuses()):
            assert time.monotonic() < deadline, statuses
            time.sleep(0.2)
        return statuses

    def wait_for_the_middle(self, runs: int = 1) -> list[RunStatus]:
        """Until each of so many runs has finished some rounds; how they stand then."""

        def in_the_middle(statuses: list[RunStatus]) -> bool:
            assert all(status.state in ("running", "waiting") for status in statuses), statuses
            return len(statuses) == runs and all(status.rounds > 2 for status in statuses)

        return self.wait_until(in_the_middle)

    def job(self, run: Path) -> str:
        return json.loads((run / "job.json").read_text())["job"]

    def starts(self, run: Path) -> list[Any]:
        return json.loads((run / "provenance.json").read_text())["starts"]

    def assert_records_equal_undisturbed(self, *arguments: str) -> None:
        """arguments: of the same sweep, here and now, without pauses."""
        fm_al(self.folder, "-m", *arguments, "strategy.seconds=0", "output_dir=undisturbed")
        undisturbed = runs_below(self.folder / "undisturbed")
        disturbed = runs_below(self.outputs)
        assert len(disturbed) == len(undisturbed) > 0
        for run, other in zip(disturbed, undisturbed, strict=True):
            assert without_times(run) == without_times(other)


@pytest.fixture
def cluster_in(tmp_path: Path) -> Iterator[Cluster]:
    yield Cluster(tmp_path)
    subprocess.run(["scancel", "--user", str(os.getuid())], check=False)


def test_a_sweep_runs_as_an_array_and_is_not_submitted_again(cluster_in: Cluster) -> None:
    """Odd characters of a path stay characters, and secrets of the environment where they are."""
    cluster_in.outputs = cluster_in.folder / "it's $(touch broken-out) & co"
    sweep = [*QUICK, "strategy=random,margin", "seed=range(0,4)", "tracker=wandb"]
    place = [f'output_dir="{cluster_in.outputs.name}"']
    done = cluster_in.run(*sweep, *place)
    assert done.returncode == 0, done.stderr
    assert "submitted 8 runs as job " in done.stdout
    assert "finished 8 of 8: " in done.stdout
    assert all(status.state == "finished" for status in cluster_in.statuses())

    again = cluster_in.run(*sweep, *place)
    assert again.returncode == 0
    assert "8 of 8 runs are finished" in again.stdout
    assert "submitted" not in again.stdout
    assert len(list(cluster_in.outputs.glob("default/sweeps/*"))) == 1
    assert again.stdout.partition("mean ±")[2] == done.stdout.partition("mean ±")[2]

    fm_al(cluster_in.folder, "-m", *sweep, "tracker=none", "output_dir=undisturbed")
    for run in runs_below(cluster_in.folder / "undisturbed"):
        other = cluster_in.outputs / run.relative_to(cluster_in.folder / "undisturbed")
        assert without_times(run) == without_times(other)
    (start,) = cluster_in.starts(other)
    job = json.loads((other / "job.json").read_text())
    assert start["job"] == job["job"]
    assert start["node"]
    assert start["partition"]
    assert start["sweep"] == Path(job["folder"]).name
    for file in cluster_in.folder.rglob("*"):
        assert file.name != "broken-out"
        assert file.is_dir() or SECRET.encode() not in file.read_bytes(), file


def test_a_run_that_fails_by_itself_does_not_stop_the_others(cluster_in: Cluster) -> None:
    failing = [*QUICK, "strategy=random", "trainer.clamp_gradients=null"]
    failing += ["trainer.optimizer.lr=1e-3,1e37"]
    done = cluster_in.run(*failing)
    assert done.returncode == 1
    assert done.stderr.startswith("fm-al: 1 of 2 runs failed: outputs/default/")
    assert "the training loss is nan" in done.stderr
    assert done.stderr.count("\n") == 1
    states = {status.state: status for status in cluster_in.statuses()}
    assert set(states) == {"finished", "failed"}
    assert states["failed"].log is not None
    log = (cluster_in.folder / states["failed"].log).read_text()
    assert states["failed"].detail in log
    fm_al(cluster_in.folder, "-m", *failing, "output_dir=undisturbed")
    finished = states["finished"].directory.relative_to(cluster_in.outputs)
    undisturbed = cluster_in.folder / "undisturbed" / finished
    assert without_times(cluster_in.outputs / finished) == without_times(undisturbed)


def test_a_requeued_job_goes_on_without_anyones_help(cluster_in: Cluster) -> None:
    waiting = cluster_in.start(*SLOW, "seed=0,1")
    runs = cluster_in.wait_for_the_middle(2)
    requeued = cluster_in.job(runs[0].directory)
    subprocess.run(["scontrol", "requeue", requeued], check=True)
    out, err = waiting.communicate(timeout=PATIENCE)
    assert waiting.returncode == 0, out + err
    cluster_in.assert_records_equal_undisturbed(*SLOW, "seed=0,1")
    starts = cluster_in.starts(runs[0].directory)
    assert [start["job"] for start in starts] == [requeued] * 2
    assert "resuming after " in runs[0].log.read_text()  # type: ignore[union-attr]


def test_a_time_limit_is_gone_on_after(cluster_in: Cluster) -> None:
    """SLURM's shortest limit; the signal ahead of it comes within 30 seconds."""
    limit = ["hydra.launcher.timeout_min=1", "hydra.launcher.signal_delay_s=40"]
    done = cluster_in.run(*SLOW, "strategy.seconds=1", *limit)
    assert done.returncode == 0, done.stderr
    (run,) = runs_below(cluster_in.outputs)
    assert len(cluster_in.starts(run)) > 1
    cluster_in.assert_records_equal_undisturbed(*SLOW)


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("hydra.launcher.max_num_timeout=0", "too many times: .* hydra.launcher.max_num_timeout=0"),
        (
            "+hydra.launcher.additional_parameters={requeue: false}",
            "SLURM does not queue it again .*additional_parameters",
        ),
    ],
)
def test_a_time_limit_after_which_a_job_is_not_queued_again_is_a_failure(
    cluster_in: Cluster, option: str, says: str
) -> None:
    """The signal ahead of a limit is the test's; of limits up to 10 minutes it is the end."""
    waiting = cluster_in.start(*SLOW, "hydra.launcher.timeout_min=10", option)
    (run,) = cluster_in.wait_for_the_middle()
    subprocess.run(["scancel", "--signal=USR2", cluster_in.job(run.directory)], check=True)
    _, err = waiting.communicate(timeout=PATIENCE)
    assert waiting.returncode == 1
    assert re.search(says, err), err
    (status,) = cluster_in.statuses()
    assert status.state == "failed"
    assert status.rounds >= run.rounds


def test_a_sweep_of_which_runs_are_cancelled_or_killed_is_started_again(cluster_in) -> None:
    waiting = cluster_in.start(*SLOW, "seed=0,1")
    cancelled, killed = (status.directory for status in cluster_in.wait_for_the_middle(2))
    subprocess.run(["scancel", cluster_in.job(cancelled)], check=True)
    os.kill(cluster_in.starts(killed)[-1]["process"], signal.SIGKILL)
    out, err = waiting.communicate(timeout=PATIENCE)
    assert waiting.returncode == 1
    assert "2 of 2 runs failed: " in err, out
    assert "ended without a word: killed, cancelled or out of memory?" in err
    assert [status.state for status in cluster_in.statuses()] == ["stale", "stale"]
    dry = cluster_in.run(*SLOW, "seed=0,1", "hydra.sweeper.dry_run=true")
    assert dry.stdout.count("stale after ") == 2
    assert cluster_in.run(*SLOW, "seed=0,1").returncode == 0
    cluster_in.assert_records_equal_undisturbed(*SLOW, "seed=0,1")


def test_a_sweep_that_is_cancelled_may_be_started_again_at_once(cluster_in: Cluster) -> None:
    """While the cancelled job's process has not gone yet: SLURM leaves it some time."""
    detached = cluster_in.run(*SLOW, "hydra.sweeper.wait=false")
    assert detached.returncode == 0, detached.stderr
    (run,) = cluster_in.wait_for_the_middle()
    subprocess.run(["scancel", cluster_in.job(run.directory)], check=True)
    (run,) = cluster_in.statuses()
    assert run.state in ("ending", "stale")  # on a slow machine it is gone before it is looked at
    again = cluster_in.run(*SLOW)
    assert again.returncode == 0, again.stderr
    assert "submitted 1 run as job " in again.stdout
    cluster_in.assert_records_equal_undisturbed(*SLOW)


def test_jobs_of_another_cluster_are_left_to_it(cluster_in: Cluster, monkeypatch) -> None:
    """Whose jobs may have the same numbers."""
    waiting = [*SLOW, "+hydra.launcher.additional_parameters={begin: now+1hour}"]
    assert cluster_in.run(*waiting, "hydra.sweeper.wait=false").returncode == 0
    (run,) = cluster_in.wait_until(lambda statuses: len(statuses) == 1)
    assert "pending (BeginTime)" in run.detail
    monkeypatch.setattr("fm_al.launch.queue.this_cluster", lambda: "another")
    (status,) = cluster_in.statuses()
    assert status.state == "waiting"
    assert "on cluster local_" in status.detail
    assert "which can't be asked from here" in status.detail


def test_so_many_jobs_as_are_allowed_are_in_the_queue(cluster_in: Cluster) -> None:
    sweep = [*QUICK, "strategy=random", "seed=range(0,3)", "hydra.sweeper.max_jobs=2"]
    first = cluster_in.run(*sweep, "hydra.sweeper.wait=false")
    assert first.returncode == 0, first.stderr
    assert "submitted 2 runs as job " in first.stdout
    assert "1 more is not submitted: start again when some have ended" in first.stdout
    rest = cluster_in.run(*sweep)
    assert rest.returncode == 0, rest.stderr
    assert "submitted 1 run as job " in rest.stdout
    assert [status.state for status in cluster_in.statuses()] == ["finished"] * 3


def test_a_file_beside_the_outputs_does_not_come_before_pythons_own(cluster_in: Cluster) -> None:
    (cluster_in.folder / "random.py").write_text("raise SystemExit('of the current folder')")
    typed = [*QUICK, "strategy=random", "hydra.launcher.setup=['export KEY=mine']"]
    done = cluster_in.run(*typed)
    assert done.returncode == 0, done.stdout
    (run,) = runs_below(cluster_in.outputs)
    (start,) = cluster_in.starts(run)
    assert start["command"] == ["fm-al", "-m", *SLURM, *typed[:-1], "hydra.launcher.setup=..."]


def test_a_set_up_that_fails_is_named(cluster_in: Cluster, monkeypatch) -> None:
    monkeypatch.setattr("fm_al.launch.slurm.SlurmLauncher.silence", 5.0)
    failing = ["hydra.launcher.setup=[module load nowhere]", "strategy=random"]
    done = fm_al(cluster_in.folder, "-m", *SLURM, *QUICK, *failing)
    assert done.returncode == 1
    assert "its last line: fm-al: the job ends because this line of hydra.launcher.setup" in (
        done.stdout
    )


def test_a_sweep_larger_than_an_array_may_be_is_several(cluster_in, monkeypatch) -> None:
    """One after the other, so that array_parallelism holds for all."""
    monkeypatch.setattr("fm_al.launch.slurm.largest_array", lambda: 2)
    done = fm_al(cluster_in.folder, "-m", *SLURM, *QUICK, "strategy=random", "seed=0,1,2")
    assert done.returncode == 0, done.stderr
    assert [line[:16] for line in done.stdout.splitlines()[:2]] == [
        "submitted 2 runs",
        "submitted 1 run ",
    ]
    (submissions,) = cluster_in.outputs.glob("default/sweeps/*/jobs")
    first, second = re.findall(r" as job (\d+)", done.stdout)
    assert "--dependency" not in (submissions / f"{first}_submission.sh").read_text()
    script = (submissions / f"{second}_submission.sh").read_text()
    assert f"#SBATCH --dependency=afterany:{first}\n" in script


def test_the_submitting_process_may_be_killed_right_after_submission(cluster_in: Cluster) -> None:
    """A second one leaves the runs alone that wait or go on, and waits for them."""
    sweep = [*SLOW, "strategy.seconds=1", "seed=0,1"]  # which last until a second one is here
    submitting = cluster_in.start(*sweep)
    assert submitting.stdout is not None
    assert submitting.stdout.readline().startswith("submitted 2 runs as job ")
    submitting.kill()
    submitting.communicate()
    second = cluster_in.run(*sweep)
    assert second.returncode == 0, second.stderr
    assert "left alone: 2 runs: " in second.stdout
    assert "submitted" not in second.stdout
    cluster_in.assert_records_equal_undisturbed(*sweep)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("partition=nowhere", "sbatch refuses: invalid partition specified: nowhere"),
        ("timeout_min=soon", "hydra.launcher.timeout_min: Value 'soon' of type 'str' could not be"),
        ("timout_min=9", "hydra.launcher.timout_min: no such option; .* did you mean hydra.launc"),
    ],
)
def test_what_slurm_can_not_do_is_one_line(cluster_in: Cluster, option: str, message: str) -> None:
    done = cluster_in.run(*QUICK, f"hydra.launcher.{option}")
    assert done.returncode in (1, 2)
    assert re.search(message, done.stderr), done.stderr
    assert done.stderr.count("\n") == 1
