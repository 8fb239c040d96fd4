from __future__ import annotations

import json
import logging
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from fm_al.config import check_node
from fm_al.errors import ConfigError
from fm_al.tracking.marks import run_id
from fm_al.tracking.tracker import Tracker
from fm_al.tracking.upload import DEFAULT_OPTIONS, WANDB_TRACKER
from fm_al.tracking.wandb_log import history
from fm_al.tracking.wandb_run import metrics
from fm_al.tracking.wandb_tracker import WandbTracker
from tests.helpers.configs import built
from tests.helpers.tracked_runs import (
    CLASSES,
    LAUNCH,
    folders,
    in_another_process,
    record,
    rows,
    track,
    tracker,
)
from tests.helpers.wandb_server import KEY, Server

pytestmark = pytest.mark.slow


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Any:
    caplog.set_level(logging.WARNING, logger="fm_al.tracking.wandb_tracker")
    return lambda: [entry.getMessage() for entry in caplog.records if "W&B" in entry.getMessage()]


@pytest.mark.parametrize(("name", "mode"), [("wandb", "offline"), ("online", "online")])
def test_configs_build_a_tracker_of_their_mode(name: str, mode: str) -> None:
    configured = built("tracker", name)
    assert isinstance(configured, WandbTracker)
    assert configured.mode == mode


def test_figures_are_flattened_and_classes_named() -> None:
    assert metrics(record(4), CLASSES) == {
        "round": 4,
        "labelled": 30,
        "queried_classes/cat": 2,
        "queried_classes/dog": 0,
        "queried_classes/red fox": 1,
        "accuracy": 0.04,
        "per_class_accuracy/cat": 0.5,
        "per_class_accuracy/dog": 0.25,
        "per_class_accuracy/red fox": 0.04,
        "seconds/train": 1.5,
        "seconds/query": 0.5,
        "strategy/mask/conv1.weight": 12,
    }


def test_offline_run_holds_every_round_once_with_query_tables_and_confusion_matrix(
    tmp_path: Path, warnings: Any
) -> None:
    track(tracker(), tmp_path, range(4))
    assert warnings() == []
    (folder,) = folders(tmp_path)
    assert folder.name.endswith(run_id(tmp_path))
    logged = rows(folder)
    assert [row["_step"] for row in logged] == [0, 1, 2, 3, 4]
    for expected, row in zip(map(record, range(4)), logged, strict=False):
        assert row.items() >= metrics(expected, CLASSES).items()
        table = json.loads((folder / "files" / row["query_table/path"]).read_text())
        assert table["data"] == [["cat", 2], ["dog", 0], ["red fox", 1]]
    matrix = json.loads((folder / "files" / logged[4]["confusion_matrix_table/path"]).read_text())
    assert matrix["data"][:4] == [["cat", "cat", 5], ["cat", "dog", 1], ["cat", "red fox", 0],
                                  ["dog", "cat", 2]]  # fmt: skip


def test_runs_one_after_the_other_in_one_process_are_kept_apart(tmp_path: Path) -> None:
    one = tracker()
    for name, count in [("a", 2), ("b", 3)]:
        (tmp_path / name).mkdir()
        track(one, tmp_path / name, range(count))
    assert [len(rows(folders(tmp_path / name)[0])) for name in "ab"] == [3, 4]
    assert run_id(tmp_path / "a") != run_id(tmp_path / "b")


def test_killed_and_resumed_offline_run_is_one_folder_with_every_round_once(
    tmp_path: Path, warnings: Any
) -> None:
    killed = """
        one = tracker()
        one.start(TrackedRun(directory, "n", "g", {}, CLASSES, [], LAUNCH))
        one.round(record(0))
        while not folders(directory):
            time.sleep(0.05)
        one.round(record(1))
        os.kill(os.getpid(), 9)
        """
    assert in_another_process(killed, tmp_path).returncode == -9
    (superseded,) = folders(tmp_path)
    identity = run_id(tmp_path)
    track(tracker(), tmp_path, range(2, 4), recorded=2)
    (folder,) = folders(tmp_path)
    assert folder != superseded
    assert f"-{identity}" in folder.name
    assert [row["_step"] for row in rows(folder)] == [0, 1, 2, 3, 4]
    assert warnings() == []


def test_superseded_folder_stays_when_its_replacement_can_not_be_written(tmp_path: Path) -> None:
    track(tracker(), tmp_path, range(2), result=None)
    (before,) = folders(tmp_path)
    full_disk = """
        import logging, resource, signal
        logging.basicConfig()
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        track(tracker(), directory, range(2, 40), recorded=2)
        """
    finished = in_another_process(full_disk, tmp_path)
    assert finished.returncode == 0
    assert len(finished.stderr.splitlines()) == 1
    assert "W&B tracking stopped" in finished.stderr
    assert before in folders(tmp_path)
    assert [row["_step"] for row in rows(before)] == [0, 1]


def test_history_of_a_torn_log_ends_at_the_tear(tmp_path: Path) -> None:
    track(tracker(), tmp_path, range(30))
    (log,) = folders(tmp_path)[0].glob("*.wandb")
    content = log.read_bytes()
    assert len(content) > 32768  # more than a block, so that records in pieces occur
    torn = tmp_path / "torn.wandb"
    for length in (0, 5, 9, 2000, 32768, len(content) // 2):
        torn.write_bytes(content[:length])
        steps = [row["_step"] for row in history(torn)]
        assert steps == list(range(len(steps)))


def test_failing_init_warns_once(
    tmp_path: Path, warnings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: Any) -> None:
        raise RuntimeError("no\nsuch luck")

    monkeypatch.setattr("wandb.init", fail)
    track(tracker(), tmp_path, range(3))
    (line,) = warnings()
    assert line.endswith("RuntimeError: no such luck")


def test_directory_that_can_not_be_written_warns_once(tmp_path: Path, warnings: Any) -> None:
    (tmp_path / "wandb").write_text("in the way")
    track(tracker(), tmp_path, range(3))
    assert len(warnings()) == 1


def test_dead_server_warns_once_prints_nothing_else_and_no_key_is_written(tmp_path: Path) -> None:
    code = """
        import logging
        logging.basicConfig()
        track(tracker("online", finish_timeout=30), directory, range(3))
        """
    with socket.socket() as deaf:  # bound, so that no other process gets the port
        deaf.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        finished = in_another_process(code, tmp_path, WANDB_BASE_URL=url, WANDB_API_KEY=KEY)
    assert finished.returncode == 0
    assert finished.stdout == ""
    assert len(finished.stderr.splitlines()) == 1
    assert "W&B tracking stopped" in finished.stderr
    written = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert written
    assert not [file for file in written if KEY.encode() in file.read_bytes()]


def test_offline_run_prints_nothing_writes_no_key_and_no_data_outside(tmp_path: Path) -> None:
    home, directory = tmp_path / "home", tmp_path / "run"
    home.mkdir()
    directory.mkdir()
    finished = in_another_process(
        "track(tracker(), directory, range(3))", directory, HOME=str(home), WANDB_API_KEY=KEY
    )
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, "", "")
    written = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert not [file for file in written if KEY.encode() in file.read_bytes()]
    outside = [file for file in written if directory not in file.parents]
    assert not [file for file in outside if file.suffix != ".log"]


def test_none_does_nothing_and_imports_no_wandb(tmp_path: Path) -> None:
    code = """
        from fm_al.tracking.tracker import NoTracker
        track(NoTracker(), directory, range(2))
        assert "wandb" not in sys.modules
        """
    finished = in_another_process(code, tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert list(tmp_path.iterdir()) == []


def test_resumed_online_run_sends_only_what_the_server_lacks(tmp_path: Path) -> None:
    server = Server()
    first = "track(tracker('online'), directory, range(3), result=None)"
    # A round that had been recorded but not sent, and a new one.
    second = "track(tracker('online'), directory, range(4, 5), recorded=4, job='13')"
    for code in (first, second):
        finished = in_another_process(code, tmp_path, WANDB_BASE_URL=server.url, WANDB_API_KEY=KEY)
        assert (finished.returncode, finished.stdout, finished.stderr) == (0, "", "")
    run = server.only_run
    assert run.steps == list(range(6))
    assert [run.history[place]["accuracy"] for place in range(5)] == [0, 0.01, 0.02, 0.03, 0.04]
    assert run.options == {"seed": 3, "launch": LAUNCH.as_json() | {"job": "13"}}
    assert run.state == "finished"
    server.shutdown()


def test_tables_that_did_not_go_with_their_row_are_sent_by_the_next_start(tmp_path: Path) -> None:
    server = Server()
    code = "track(tracker('online'), directory, range(3), result=None)"
    for again in (False, True):
        in_another_process(code, tmp_path, WANDB_BASE_URL=server.url, WANDB_API_KEY=KEY)
        run = server.only_run
        assert {run.history[place]["query_table"]["path"] for place in range(3)} <= run.files
        if not again:
            run.files.clear()
    server.shutdown()


@pytest.mark.parametrize("is_silent", [True, False], ids=["silent", "refusing"])
@pytest.mark.parametrize(("init_timeout", "finish_timeout"), [(100, 1), (1, 20)])
def test_a_process_ends_as_soon_as_its_view_was_given_up(
    tmp_path: Path, is_silent: bool, init_timeout: int, finish_timeout: int
) -> None:
    code = f"""
        import logging
        from dataclasses import replace
        logging.basicConfig()
        one = tracker("online", finish_timeout={finish_timeout})
        one.init_timeout = {init_timeout}
        track(one, directory, range(3))
        print(time.time())
        """
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        if is_silent:
            server.listen(50)  # whoever connects waits for an answer
        finished = in_another_process(code, tmp_path, WANDB_BASE_URL=url, WANDB_API_KEY=KEY)
    assert time.time() - float(finished.stdout) < 5
    assert finished.returncode == 0
    (line,) = finished.stderr.splitlines()
    assert "W&B tracking stopped" in line


@pytest.mark.parametrize("name", ["init_timeout", "finish_timeout"])
@pytest.mark.parametrize("seconds", [0, 86_401, 1e300, float("inf"), float("nan")])
def test_a_timeout_is_bounded(name: str, seconds: float) -> None:
    with pytest.raises(ConfigError, match=f"tracker.{name}="):
        check_node("tracker", DEFAULT_OPTIONS | {"_target_": WANDB_TRACKER, name: seconds}, Tracker)


def test_server_that_stops_answering_is_let_go_after_the_timeout(tmp_path: Path) -> None:
    server = Server()
    server.answers.clear()
    code = """
        import logging
        logging.basicConfig()
        track(tracker("online", finish_timeout=3), directory, range(3))
        """
    finished = in_another_process(code, tmp_path, WANDB_BASE_URL=server.url, WANDB_API_KEY=KEY)
    server.answers.set()
    assert finished.returncode == 0
    assert len(finished.stderr.splitlines()) == 1
    assert "W&B tracking stopped" in finished.stderr
    server.shutdown()
