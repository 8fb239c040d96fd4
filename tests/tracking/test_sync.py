from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fm_al.errors import ConfigError, RunError
from fm_al.launch.status import NOT_WHOLE, RunStatus, statuses_of
from fm_al.records.lock import locked
from fm_al.records.notes import record_failure
from fm_al.records.schema import Start
from fm_al.records.writing import open_run
from fm_al.tracking.marks import run_id
from fm_al.tracking.sync import sync
from fm_al.tracking.tracker import TrackedRun
from fm_al.tracking.wandb_tracker import WandbTracker
from tests.helpers.command_line import ROOT
from tests.helpers.tracked_runs import CLASSES, RESULT, record, rows
from tests.helpers.wandb_server import KEY, Server, known_server

pytestmark = pytest.mark.slow

NONE = {"_target_": "fm_al.tracking.NoTracker"}
OFFLINE = {
    "_target_": "fm_al.tracking.WandbTracker",
    "project": "digits",
    "entity": None,
    "group": None,
    "tags": ["a"],
    "notes": None,
    "mode": "offline",
    "init_timeout": 30,
    "finish_timeout": 60,
}
BUDGET = {"initial": 10, "per_round": 5, "total": 20}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr("fm_al.tracking.upload.CONFIRM_TIMEOUT", 0.5)
    monkeypatch.setattr("fm_al.tracking.upload.RETRIES", 1)
    with known_server(tmp_path / "of_wandb", monkeypatch) as server:
        yield server


def recorded(
    folder: Path,
    rounds: int,
    finished: bool = False,
    seed: int = 0,
    tracker: dict[str, Any] = OFFLINE,
    error: str | None = None,
) -> Path:
    """A run's directory, in which rounds are recorded up to a number of them."""
    directory = folder / "demo" / "digits-none" / "linear" / "random" / f"seed{seed}"
    config = {"seed": seed, "experiment_name": "demo", "tracker": tracker}
    with open_run(
        directory, config, {"seed": seed, "budget": BUDGET}, CLASSES, ["fm-al"]
    ) as records:
        for number in range(len(records.rounds), rounds):
            records.add_round(record(number))
        if finished:
            result = {"rounds": rounds, "labelled": 5 + 5 * rounds}
            records.finish(RESULT.model_copy(update=result))
    if error is not None:
        record_failure(directory, RunError(error), error)
    return directory


def stored(server: Server, directory: Path) -> Any:
    return server.runs[run_id(directory)]


def mark(directory: Path) -> dict[str, Any]:
    return json.loads((directory / "wandb_uploaded.json").read_text())


def in_a_session(folder: Path) -> subprocess.Popen[str]:
    """`fm-al-sync` with all its processes in a group of their own."""
    program = "import sys; from fm_al.tracking.sync import sync; sys.exit(sync(sys.argv[1:]))"
    return subprocess.Popen(
        [sys.executable, "-c", program, str(folder)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def test_finished_run_is_uploaded_whole_and_then_left_alone(
    tmp_path: Path, server: Server, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    for name, value in [("JOB_ID", "77"), ("JOB_PARTITION", "gpu")]:
        monkeypatch.setenv(f"SLURM_{name}", value)
    directory = recorded(tmp_path, 3, finished=True)
    assert sync([str(tmp_path)]) == 0
    assert capsys.readouterr().out == "1 uploaded\n"
    run = stored(server, directory)
    assert (run.project, run.group, run.name) == (
        "digits",
        "demo",
        "demo/digits-none/linear/random/seed0",
    )
    assert run.steps == [0, 1, 2, 3]
    assert [run.history[place]["accuracy"] for place in range(3)] == [0, 0.01, 0.02]
    assert {run.history[place]["query_table"]["path"] for place in range(3)} <= run.files
    assert run.history[3]["confusion_matrix_table"]["path"] in run.files
    assert json.loads(run.summary)["area_under_curve"] == 0.25
    assert run.state == "finished"
    assert run.options["tracker"] == OFFLINE
    assert run.options["launch"].items() >= {"job": "77", "partition": "gpu"}.items()
    assert mark(directory) == {
        **{"project": "digits", "entity": "team", "group": "demo"},
        **{"rounds": 3, "state": "finished"},
    }
    requests = server.requests
    assert sync([str(tmp_path)]) == 0
    assert capsys.readouterr().out == "nothing was uploaded; 1 uploaded before\n"
    assert server.requests == requests


def test_what_the_view_of_a_finished_run_lacks_is_uploaded_all_the_same(
    tmp_path: Path, server: Server
) -> None:
    directory = recorded(tmp_path, 3, finished=True)
    run_id(directory)  # its tracker began, and was killed
    assert status_of(directory).detail == NOT_WHOLE
    assert sync([str(tmp_path)]) == 0
    assert stored(server, directory).steps == [0, 1, 2, 3]
    assert status_of(directory).detail == ""


def status_of(directory: Path) -> RunStatus:
    (status,) = statuses_of([directory])
    return status


def test_run_that_goes_on_is_completed_by_later_passes(tmp_path: Path, server: Server) -> None:
    for rounds, finished, error, state in [
        (2, False, None, "preempted"),
        (3, False, "out of memory", "failed"),
        (5, True, None, "finished"),
    ]:
        directory = recorded(tmp_path, rounds, finished, error=error)
        assert sync([str(tmp_path)]) == 0
        run = stored(server, directory)
        assert run.steps == list(range(rounds + finished))
        assert mark(directory)["rounds"] == rounds
        assert run.state == state


def test_killed_upload_is_completed_without_doubled_rounds(tmp_path: Path, server: Server) -> None:
    directories = [recorded(tmp_path, 6, finished=True, seed=seed) for seed in range(3)]
    for taken in (2, 3, 5):
        server.rows_taken = taken
        process = in_a_session(tmp_path)
        assert server.stopped.wait(60)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        server.stopped.clear()
        server.answers.set()
    server.rows_taken = 10**6
    assert 0 < sum(len(run.history) for run in server.runs.values()) < 21
    assert sync([str(tmp_path)]) == 0
    assert len(server.runs) == 3
    for directory in directories:
        assert stored(server, directory).steps == list(range(7))
        assert mark(directory)["state"] == "finished"


def test_two_at_the_same_time_upload_each_round_once(tmp_path: Path, server: Server) -> None:
    directories = [recorded(tmp_path, 2, finished=True, seed=seed) for seed in range(6)]
    both = [in_a_session(tmp_path) for _ in range(2)]
    printed = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], printed
    assert len(server.runs) == 6
    for directory in directories:
        assert stored(server, directory).steps == [0, 1, 2]
        assert mark(directory)["state"] == "finished"


def test_run_that_another_uploads_is_left_to_it(
    tmp_path: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = recorded(tmp_path, 2)
    with locked(directory / "wandb_sync.lock"):
        assert sync([str(tmp_path)]) == 0
    assert "1 left to another fm-al-sync" in capsys.readouterr().out
    assert server.runs == {}


def test_mark_of_an_upload_that_is_damaged_is_named(
    tmp_path: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged, good = (recorded(tmp_path, 2, seed=seed) for seed in range(2))
    (damaged / "wandb_uploaded.json").write_text("[]\n")
    assert sync([str(tmp_path)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"{damaged}: {damaged}/wandb_uploaded.json is damaged (should be an object, is []); "
        "remove it to upload the run again",
        "1 uploaded; 1 failed",
    ]
    assert stored(server, good).steps == [0, 1]


def test_run_that_fails_does_not_stop_the_others(
    tmp_path: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    refused, damaged, good = (recorded(tmp_path, 2, seed=seed) for seed in range(3))
    (damaged / "rounds.jsonl").write_text("{}\n")
    server.rows_refused_of.add(run_id(refused))
    assert sync([str(tmp_path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{damaged}/rounds.jsonl: ") or str(damaged) in lines[0]
    assert lines[1:] == [
        f"{refused}: W&B has 0 of 2 rows (running); start again for the rest",
        "1 uploaded; 2 failed",
    ]
    assert stored(server, good).steps == [0, 1]
    assert not (refused / "wandb_uploaded.json").exists()
    server.rows_refused_of.clear()
    assert sync([str(tmp_path)]) == 1
    assert stored(server, refused).steps == [0, 1]


def test_server_that_is_gone_ends_the_pass(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fm_al.tracking.sync.AT_ONCE", 1)
    server.rows_refused_of = {run_id(recorded(tmp_path, 1, seed=seed)) for seed in range(9)}
    server.keys_taken = 1
    with pytest.raises(RunError, match="W&B can't be used from here"):
        sync([str(tmp_path)])
    assert len(server.runs) < 9


def test_runs_without_wandb_are_uploaded_where_a_project_is_named(
    tmp_path: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = recorded(tmp_path, 2, tracker=NONE)
    assert sync([str(tmp_path)]) == 0
    assert "1 without W&B (--project NAME uploads them)" in capsys.readouterr().out
    assert server.runs == {}
    named = ["--project", "p", "--entity", "team", "--group", "g"]
    assert sync([str(tmp_path), *named]) == 0
    run = stored(server, directory)
    assert (run.project, run.group, run.steps) == ("p", "g", [0, 1])
    requests = server.requests
    assert sync([str(tmp_path), *named]) == 0
    assert sync([str(tmp_path)]) == 0
    assert server.requests == requests


def test_run_that_uploads_by_itself_is_left_alone_while_it_lives(
    tmp_path: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = recorded(tmp_path, 2, tracker=OFFLINE | {"mode": "online"})
    with locked(directory / "lock"):
        assert sync([str(tmp_path)]) == 0
    assert "1 running and uploading by themselves" in capsys.readouterr().out
    assert server.runs == {}
    assert sync([str(tmp_path)]) == 0
    assert stored(server, directory).steps == [0, 1]


def test_runs_without_a_round_and_folders_without_runs_are_nothing_to_do(
    tmp_path: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sync([str(tmp_path)]) == 0
    recorded(tmp_path, 0)
    assert sync([str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "nothing was uploaded; there are no runs",
        "nothing was uploaded; 1 without a finished round",
    ]
    assert server.requests == 0


def test_options_that_can_not_be_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such folder"):
        sync([str(tmp_path / "none")])
    with pytest.raises(ConfigError, match=r"tracker\.project"):
        sync([str(tmp_path), "--project", "a/b"])


@pytest.mark.parametrize("trouble", ["no key", "refused key", "no server"])
def test_without_key_or_server_it_ends_once_damaged_runs_are_named(
    tmp_path: Path,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    trouble: str,
) -> None:
    recorded(tmp_path, 2)
    damaged = recorded(tmp_path, 2, seed=1)
    (damaged / "rounds.jsonl").write_text("{}\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    if trouble == "no key":
        monkeypatch.delenv("WANDB_API_KEY")
    if trouble == "refused key":
        server.keys_taken = 0
    if trouble == "no server":
        server.shutdown()
        server.server_close()
    with pytest.raises(RunError) as raised:
        sync([str(tmp_path)])
    assert f"{damaged}/rounds.jsonl: line 1 is damaged" in capsys.readouterr().out
    expected = "there is no W&B API key" if trouble == "no key" else "W&B can't be used from here"
    assert str(raised.value).startswith(expected)
    assert "\n" not in str(raised.value)


def test_offline_mode_of_the_environment_does_not_keep_from_uploading(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    directory = recorded(tmp_path, 2)
    assert sync([str(tmp_path)]) == 0
    assert stored(server, directory).steps == [0, 1]


def test_folder_of_an_offline_run_stays_and_wandb_sync_skips_it(
    tmp_path: Path, server: Server
) -> None:
    """Of a run that goes on, while it goes on."""
    directory = recorded(tmp_path, 2)
    tracker = WandbTracker(**{key: OFFLINE[key] for key in OFFLINE if key != "_target_"})
    rounds = [record(number) for number in range(4)]
    tracker.start(TrackedRun(directory, "n", "g", {}, CLASSES, rounds[:2], Start()))
    going_on = in_a_session(tmp_path)
    assert going_on.wait(60) == 0
    assert stored(server, directory).steps == [0, 1]
    recorded(tmp_path, 4)
    for number in (2, 3):
        tracker.round(rounds[number])
    tracker.finish(None)
    assert sync([str(tmp_path)]) == 0
    (folder,) = (directory / "wandb").iterdir()
    assert [row["_step"] for row in rows(folder)] == [0, 1, 2, 3]
    command = [sys.executable, "-m", "wandb", "sync", folder]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert stored(server, directory).steps == [0, 1, 2, 3]
    written = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert not [file for file in written if KEY.encode() in file.read_bytes()]
