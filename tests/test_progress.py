from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from fm_al.progress import RunProgress, duration
from fm_al.records.schema import Round


def record(labelled: int, cap: bool = False) -> Round:
    return Round(
        round=0,
        labelled=labelled,
        queried=[],
        accuracy=0.5,
        balanced_accuracy=0.25,
        train_accuracy=1.0,
        epochs=7,
        epoch_cap_hit=cap,
        seconds={"train": labelled * 1.0, "evaluate": 2.0, "query": 10.0},
    )


def test_a_file_gets_a_plain_line_for_each_finished_round(monkeypatch) -> None:
    """What is left: training grows with the labels, the other stages don't, and the last round has
    no query. Rounds of an earlier process tell nothing about this one's speed."""
    clock = iter(range(0, 1000, 1))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    console = Console(file=io.StringIO(), width=40)
    with RunProgress(console, [10, 20, 30, 40]) as progress:
        progress.resume_at(1)
        progress.stage("train")
        progress.epoch(1, 0.5)
        progress.finish_round(record(20))
        progress.finish_round(record(30))
        progress.finish_round(record(40, cap=True))
    written = console.file.getvalue()
    assert written.splitlines() == [
        "resuming after 1 finished round",
        "round 2/4  20 labels  accuracy 0.500  balanced 0.250  trained to 1.000 in 7 epochs  32.0 s"
        "  about 83 s left",  # 30 + 40, 2 x 2 and 10, less a second
        "round 3/4  30 labels  accuracy 0.500  balanced 0.250  trained to 1.000 in 7 epochs  42.0 s"
        "  about 41 s left",
        "round 4/4  40 labels  accuracy 0.500  balanced 0.250  trained to 1.000 in 7 epochs"
        " (the cap)  52.0 s",
    ]


def test_a_terminal_shows_round_labels_stage_and_training_accuracy() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
    with RunProgress(console, [10, 20]) as progress:
        progress.resume_at(0)
        progress.stage("train")
        progress.epoch(3, 0.75)
        progress._live.refresh()
        progress.finish_round(record(10))
        progress.stage("query")
        progress._live.refresh()
    written = console.file.getvalue()
    assert "round 1/2 10 labels" in written
    assert "train: epoch 3, accuracy 0.750" in written
    assert "round 2/2 20 labels" in written
    assert "query about " in written


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (99, "99 s"), (101, "2 min"), (7500, "2 h 05 min")]
)
def test_durations_are_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text
