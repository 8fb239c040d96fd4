"""Runs as a tracker is told of them, and what it leaves on disk."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

from fm_al.records.schema import Result, Round, Start
from fm_al.tracking.tracker import TrackedRun, Tracker
from fm_al.tracking.wandb_log import history
from fm_al.tracking.wandb_tracker import WandbTracker
from tests.helpers.command_line import ROOT
from tests.helpers.configs import built

CLASSES = ["cat", "dog", "red fox"]
LAUNCH = Start(sweep="s1", job="12_3", node="n7", partition="gpu", host="h")
RESULT = Result(
    rounds=4,
    labelled=25,
    seconds={"train": 6.0},
    accuracy=0.4,
    balanced_accuracy=0.4,
    area_under_curve=0.25,
    class_names=CLASSES,
    confusion_matrix=[[5, 1, 0], [2, 4, 0], [0, 0, 6]],
)


def record(round_index: int) -> Round:
    return Round(
        round=round_index,
        labelled=10 + 5 * round_index,
        queried=[7, 8, 9],
        queried_classes=[2, 0, 1],
        accuracy=round_index / 100,
        per_class_accuracy=[0.5, 0.25, round_index / 100],
        seconds={"train": 1.5, "query": 0.5},
        digest="d" * 32,
        weights_digest="w" * 32,
        strategy={"mask": {"conv1.weight": 12}},
    )


def tracker(mode: str = "offline", finish_timeout: float = 60) -> WandbTracker:
    return built("tracker", "wandb", mode=mode, init_timeout=5, finish_timeout=finish_timeout)


def track(
    tracker: Tracker,
    directory: Path,
    rounds: range,
    recorded: int = 0,
    result: Result | None = RESULT,
    job: str = "12_3",
) -> None:
    """What the experiment's loop tells a tracker that resumes after `recorded` rounds."""
    before = [record(round) for round in range(recorded)]
    name = "digits/random/seed0"
    launch = LAUNCH.model_copy(update={"job": job, "command": ["fm-al"]})
    tracker.start(TrackedRun(directory, name, "default", {"seed": 3}, CLASSES, before, launch))
    for round in rounds:
        tracker.round(record(round))
    tracker.finish(result)


def in_another_process(
    code: str, directory: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Runs `code` with this module's names and `directory` at hand."""
    program = "import os, sys, time\nfrom pathlib import Path\n"
    program += "from tests.helpers.tracked_runs import *\n"
    program += f"directory = Path({str(directory)!r})\n" + textwrap.dedent(code)
    return subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def folders(directory: Path) -> list[Path]:
    return sorted((directory / "wandb").glob("offline-run-*"))


def rows(folder: Path) -> list[dict[str, Any]]:
    (log,) = folder.glob("*.wandb")
    return list(history(log))
