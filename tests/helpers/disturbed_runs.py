"""Runs that something happens to, beside the same run undisturbed."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from fm_al.launch.status import RunStatus, statuses_of
from fm_al.planned_run import PlannedRun
from fm_al.records.schema import Round
from fm_al.tracking.wandb_log import history
from fm_al.tracking.wandb_tracker import WandbTracker
from tests.helpers.command_line import Ended
from tests.helpers.fault_runs import Start
from tests.helpers.made_records import without_times

OPTIONS = [
    "backbone=linear",
    "strategy=badge",
    "strategy._target_=tests.helpers.fault_runs.Recording",
    "trainer.max_epochs=4",
    "trainer.reset=none",
    "budget.initial=10",
    "budget.per_round=10",
    "budget.total=40",
    "tracker=none",
    "device=cpu",
    "device.threads=1",
]
ROUNDS = 4
LONGER = [*OPTIONS, "backbone=cnn", "trainer.reset=weights"]
WANDB = [*OPTIONS, "tracker=wandb"]

LOCKED = "fm_al.records.writing:locked"
FIT = "fm_al.training:Trainer.fit"
SAVE = "fm_al.experiment:save_network"
ADD_ROUND = "fm_al.records.writing:RunRecords.add_round"
REVEAL = "fm_al.strategies.base:Query.reveal"
FINISH = "fm_al.records.writing:RunRecords.finish"
PLANNED = "fm_al.launch.sweep:Sweep.start"
NEXT_RUN = "fm_al.launch.serial:SerialLauncher.start"
BEFORE_LOCKING = {
    "composing": "fm_al.cli:planned_run",
    "loading the data": "fm_al.preparation:load_data",
    "asking for versions": "fm_al.records.writing:software",
}
ONCE = {
    "provenance": "fm_al.records.writing:write_json",
    "loading the network": "fm_al.experiment:load_network",
    "result": FINISH,
}
IN_EACH_ROUND = {
    "train": FIT,
    "evaluate": "fm_al.experiment:evaluate",
    "query": "tests.helpers.fault_runs:Recording.select",
    "saving the network": SAVE,
    "the round's line": ADD_ROUND,
    "dropping the network": "fm_al.records.writing:RunRecords.remove_weights",
}
STAGES = BEFORE_LOCKING | ONCE | IN_EACH_ROUND
TRACKING = [
    f"fm_al.tracking.wandb_run:WandbRun.{name}"
    for name in ("__init__", "log_round", "log_result", "finish")
]
WRITES = [
    "os:fsync",
    "os:ftruncate",
    "os:truncate",
    "pathlib:Path.replace",
    "pathlib:Path.unlink",
]


@dataclass(frozen=True)
class Undisturbed:
    """A run that nothing happens to. seconds: that each call of a place takes."""

    directory: Path
    seconds: dict[tuple[str, int], float]

    @property
    def records(self) -> tuple[list[Any], Any]:
        return without_times(self.directory)

    def in_folder(self, folder: Path) -> Path:
        """Where the run's directory is in another folder."""
        return folder / self.directory.relative_to(self.directory.parents[6])

    def assert_equals(self, directory: Path) -> None:
        assert without_times(directory) == self.records
        assert seen_in(directory) == seen_in(self.directory)
        assert status_of(directory).state == "finished"


def undisturbed_run(folder: Path, options: list[str], places: list[str]) -> Undisturbed:
    start = Start(folder, options, places)
    entered, seconds = {}, {}
    for place, when, call in start.stops():
        if when == "entered":
            entered[place, call] = time.perf_counter()
        else:
            seconds[place, call] = time.perf_counter() - entered[place, call]
    assert start.ended().returncode == 0, start.ended()
    (result,) = folder.rglob("result.json")
    return Undisturbed(result.parent, seconds)


def seen_in(directory: Path) -> set[str]:
    """What a run's directory shows; a kill may leave hidden files."""
    return {path.name for path in directory.iterdir() if not path.name.startswith(".")}


def status_of(directory: Path) -> RunStatus:
    (status,) = statuses_of([directory])
    return status


def status_after_kill(directory: Path) -> RunStatus:
    """A process that it was just starting holds the lock for the instant until that runs a program
    of its own."""
    deadline = time.monotonic() + 10
    while (status := status_of(directory)).state == "running" and time.monotonic() < deadline:
        time.sleep(0.01)
    return status


def starts_of(directory: Path) -> list[dict[str, Any]]:
    return json.loads((directory / "provenance.json").read_text())["starts"]


def assert_one_clear_line(ended: Ended, *says: str) -> None:
    *before, line = ended.stderr.splitlines()
    assert ended.returncode == 1
    assert line.startswith("fm-al: ")
    for text in says:
        assert text in line
    unwritten = ("why the run failed can't be written there", "overrides.yaml can't be written")
    assert all(any(what in text for what in unwritten) for text in before)


def resume(directory: Path, undisturbed: Undisturbed) -> None:
    """Does what a job does that finds the run as it is."""
    config = yaml.safe_load((undisturbed.directory / "config.yaml").read_text())
    config["output_dir"] = str(directory.parent)
    PlannedRun.of(config, directory).run(Console(quiet=True))


def put(files: dict[str, bytes], directory: Path) -> Path:
    directory.mkdir()
    for name, content in files.items():
        (directory / name).write_bytes(content)
    return directory


def files_in(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def in_step() -> None:
    """Keeps a run from getting ahead of its tracker."""
    original = WandbTracker.round

    def round_in_step(self: WandbTracker, record: Round) -> None:
        original(self, record)
        assert self._view is not None
        while not self._view.events.empty() and self._view.thread.is_alive():
            time.sleep(0.001)

    WandbTracker.round = round_in_step


def interrupt() -> None:
    raise KeyboardInterrupt


def tracked_steps(directory: Path) -> list[list[int]]:
    """The steps in each of W&B's logs."""
    logs = sorted(directory.glob("wandb/offline-run-*/*.wandb"))
    return [[row["_step"] for row in history(log)] for log in logs]
