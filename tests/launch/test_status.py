from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from fm_al.errors import RunError
from fm_al.launch.queue import SlurmJob
from fm_al.launch.status import RunStatus, count_states, short_names, statuses_of
from fm_al.records.lock import locked
from fm_al.records.notes import Assignment, assign_run, record_failure
from fm_al.records.schema import Round
from fm_al.records.writing import open_run
from tests.helpers.command_line import fm_al
from tests.helpers.made_records import a_result

BUDGET = {"initial": 10, "per_round": 10, "total": 30}
LINE = {"round": 0, "labelled": 10, "queried": [3], "accuracy": 0.25}


def opened(directory: Path) -> Any:
    return open_run(directory, {}, {"budget": BUDGET}, [], [])


def begun(directory: Path) -> Path:
    """A run with one finished round that nobody runs any more."""
    with opened(directory) as records:
        records.add_round(Round.model_validate(LINE))
    return directory


def status_of(directory: Path, **queue: str) -> RunStatus:
    said = {SlurmJob(job.removeprefix("_"), None): text for job, text in queue.items()}
    (status,) = statuses_of([directory], lambda _: said)
    return status


def test_a_finished_run_says_its_rounds_labels_and_accuracy(tmp_path: Path) -> None:
    with opened(begun(tmp_path)) as records:
        records.finish(a_result(1, 0.25))
    status = status_of(tmp_path)
    assert (status.state, status.rounds, status.of_rounds) == ("finished", 1, 3)
    assert (status.labelled, status.accuracy) == (10, 0.25)


def test_a_run_that_is_held_says_by_whom(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    with opened(tmp_path):
        status = status_of(tmp_path)
    assert status.state == "running"
    assert re.fullmatch(r"process \d+ on \S+ \(job 7\)", status.detail)


def test_a_run_whose_job_is_queued_waits_even_after_a_failure(tmp_path: Path) -> None:
    assign_run(tmp_path, Assignment(tmp_path / "sweep", tmp_path / "sweep" / "log.out", "12_3"))
    record_failure(tmp_path, RunError(), "the node went away")
    status = status_of(tmp_path, _12_3="pending (Priority)")
    assert (status.state, status.detail) == ("waiting", "job 12_3: pending (Priority)")
    assert status_of(tmp_path, _12_4="pending (Priority)").state == "failed"


def test_a_run_ends_whose_job_slurm_has_ended(tmp_path: Path, monkeypatch) -> None:
    """As after scancel: its process lives on for as long as SLURM's KillWait."""
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assign_run(tmp_path, Assignment(tmp_path / "sweep", job="7"))
    with opened(tmp_path):
        assert status_of(tmp_path, _7="starting on n1").state == "running"
        status = status_of(tmp_path)
    assert status.state == "ending"
    assert re.fullmatch(r"process \d+ on \S+ \(job 7\), which SLURM has ended", status.detail)


def test_arrays_that_wait_for_something_unusual_say_it_once(tmp_path: Path) -> None:
    assign_run(tmp_path, Assignment(tmp_path / "sweep", job="12_3"))
    assert status_of(tmp_path, _12_3="pending (Resources)").unusual_wait is None
    assert status_of(tmp_path, _12_3="pending (PartitionDown)").unusual_wait == (
        "job 12: pending (PartitionDown)"
    )
    held = status_of(tmp_path, _12_3="pending (launch failed requeued held)").unusual_wait
    assert held is not None
    assert "scontrol release" in held
    limit = status_of(tmp_path, _12_3="pending (PartitionTimeLimit)").unusual_wait
    assert limit is not None
    assert "hydra.launcher.timeout_min" in limit


def test_a_run_waits_for_its_turn_while_its_sweep_lives(tmp_path: Path) -> None:
    run, sweep = tmp_path / "run", tmp_path / "sweep"
    sweep.mkdir()
    assign_run(run, Assignment(sweep))
    with locked(sweep / "lock"):
        assert status_of(run).state == "waiting"
        assert status_of(run).detail.startswith("for its turn in the sweep of process ")
    assert (status_of(run).state, status_of(run).detail) == (
        "new",
        "its sweep ended before its turn",
    )


def test_a_failed_run_says_why_and_where_its_log_is_until_it_starts_again(tmp_path: Path) -> None:
    run = begun(tmp_path / "run")
    assign_run(run, Assignment(tmp_path / "sweep", tmp_path / "sweep" / "log.out", "12_3"))
    record_failure(run, RunError("full"), "the disk is full")
    status = status_of(run)
    assert (status.state, status.detail) == ("failed", "the disk is full")
    assert status.log == tmp_path / "sweep" / "log.out"
    with opened(run):
        assert status_of(run).state == "running"
    assert status_of(run).state == "stale"


def test_an_interrupted_run_is_stale_and_one_that_is_not_there_is_new(tmp_path: Path) -> None:
    assert status_of(begun(tmp_path / "run")).state == "stale"
    assert status_of(tmp_path / "other").state == "new"


def test_damaged_records_are_named_and_do_not_hide_the_others(tmp_path: Path) -> None:
    good, bad = begun(tmp_path / "good"), begun(tmp_path / "bad")
    (bad / "rounds.jsonl").write_text("{\n")
    odd = begun(tmp_path / "odd")
    (odd / "job.json").write_text('{"folder": "..", "job": 7, "log": null}')
    statuses = statuses_of([bad, odd, good])
    assert [status.state for status in statuses] == ["damaged", "damaged", "stale"]
    assert "rounds.jsonl: line 1 is damaged" in statuses[0].detail
    assert "job.json is damaged (job=7: should be a valid string)" in statuses[1].detail


@pytest.mark.parametrize(
    "budget",
    [
        *(3, {}, {**BUDGET, "total": 10**30}, {**BUDGET, "total": "30"}),
        *({**BUDGET, "per_round": 0}, {**BUDGET, "per_round": []}, {**BUDGET, "growth": 0.5}),
    ],
)
def test_a_budget_that_can_not_be_is_damage(tmp_path: Path, budget: Any) -> None:
    with open_run(tmp_path, {}, {"budget": budget}, [], []):
        pass
    status = status_of(tmp_path)
    assert (status.state, status.detail) == (
        "damaged",
        f"{tmp_path / 'provenance.json'} names no budget",
    )


def test_a_lock_that_can_not_be_opened_does_not_hide_the_others(tmp_path: Path) -> None:
    begun(tmp_path / "good")
    bad, loop = (begun(tmp_path / name) for name in ("bad", "loop"))
    for run in (bad, loop):
        (run / "lock").unlink()
    (bad / "lock").mkdir()
    (loop / "lock").symlink_to("lock")
    shown = fm_al(tmp_path, ".", function="status")
    assert shown.returncode == 0
    assert "3 runs: 2 damaged, 1 stale" in shown.stdout
    assert "damaged: bad\n  [Errno 21] Is a directory: 'bad/lock'" in shown.stdout


def test_the_total_counts_states() -> None:
    runs = [RunStatus(Path("a"), "failed"), RunStatus(Path("b"), "finished")]
    assert count_states([*runs, runs[0]]) == "3 runs: 2 failed, 1 finished"
    assert count_states(runs[:1]) == "1 run: 1 failed"


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        ([], []),
        (["a/b/c"], ["c"]),
        (["a/b/c/k=1,j=2"], ["c"]),
        (["a/x/k=1", "a/y/k=1"], ["x", "y"]),
        (["a/x/k=1", "a/x/k=2", "a/y/k=1"], ["x/k=1", "x/k=2", "y/k=1"]),
        (["a/x", "a/x/k=2"], ["x", "x/k=2"]),
    ],
)
def test_paths_are_named_by_what_tells_them_apart(paths, names) -> None:
    assert short_names([Path(path) for path in paths]) == names


def test_fm_al_status_shows_every_run_the_total_and_what_is_wrong(tmp_path: Path) -> None:
    folder = tmp_path / "outputs" / "trial"
    with opened(begun(folder / "badge" / "seed0")) as records:
        records.finish(a_result(1, 0.25))
    begun(folder / "badge" / "seed1")
    record_failure(begun(folder / "random" / "seed0"), RunError(), "the disk is full")
    shown = fm_al(tmp_path, "outputs", function="status")
    assert shown.returncode == 0, shown.stderr
    rows = [line.split() for line in shown.stdout.splitlines()]
    assert ["in", "outputs/trial"] in rows
    assert ["badge/seed0", "finished", "1/3", "10", "0.250"] in rows
    assert ["badge/seed1", "stale", "1/3", "10", "0.250"] in rows
    assert "3 runs: 1 failed, 1 stale, 1 finished" in shown.stdout
    assert "failed: outputs/trial/random/seed0\n  the disk is full\n" in shown.stdout


def test_fm_al_status_shows_what_waits_for_a_slurm_that_can_not_be_asked(
    tmp_path: Path, monkeypatch, caplog
) -> None:
    assign_run(tmp_path / "run", Assignment(tmp_path / "sweep", job="12_3"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("SLURM_CONF", f"{tmp_path}/slurm.conf")
    shown = fm_al(tmp_path, ".", function="status")
    assert "waiting" in shown.stdout
    assert "job 12_3: SLURM can't be asked" in shown.stdout
    (said,) = caplog.messages
    assert re.match(r"SLURM can't be asked \(.*scontrol.*\); set SLURM_CONF as it was", said)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: there is no such folder"),
        (["."], ".: no runs are here or below"),
        *(
            (
                [".", "--every", every],
                f"--every {every}: should be greater than 0 and at most 86400",
            )
            for every in ("0", "-1", "nan", "inf", "1e+300")
        ),
    ],
)
def test_what_fm_al_status_can_not_show_is_one_line(tmp_path, arguments, message) -> None:
    shown = fm_al(tmp_path, *arguments, function="status")
    assert (shown.returncode, shown.stderr) == (2, f"fm-al: {message}\n")


def test_the_line_of_a_run_that_is_being_written_is_left_out(tmp_path: Path) -> None:
    with (begun(tmp_path) / "rounds.jsonl").open("a") as file:
        file.write(json.dumps(LINE | {"round": 1})[:-5])
    assert status_of(tmp_path).rounds == 1


def test_runs_that_share_no_folder_below_this_one_are_in_this_one(tmp_path: Path) -> None:
    begun(tmp_path / "a" / "seed0")
    begun(tmp_path / "b" / "seed0")
    assert "\nin .\n" in re.sub(r" +\n", "\n", fm_al(tmp_path, ".", function="status").stdout)
