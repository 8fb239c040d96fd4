"""What a run shows while it goes: a live line on a terminal, plain lines in a file."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn


class RunProgress:
    """Shows one run. On a terminal the last line is live; a line stays for each finished round."""

    def __init__(self, console: Console, labelled: Sequence[int]) -> None:
        """labelled: how many images are labelled in each round; their sum is the work to do, since
        the time of a round grows with its labels."""
        self.console = console
        self.labelled = labelled
        self.round = 0
        self._began = time.monotonic()
        self._work_before = 0
        self._live = Progress(
            TextColumn("round {task.fields[round]}/{task.fields[rounds]}"),
            TextColumn("{task.fields[labels]} labels"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[doing]}"),
            TextColumn("{task.fields[left]}"),
            console=console,
            transient=True,
            refresh_per_second=4,
            disable=not console.is_terminal,
        )
        self._task = self._live.add_task(
            "", total=sum(labelled), round=0, rounds=len(labelled), labels=0, doing="", left=""
        )

    def __enter__(self) -> RunProgress:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def resume_at(self, round: int) -> None:
        """Rounds before this one are done already."""
        self.round = round
        self._work_before = sum(self.labelled[:round])
        if round:
            self.console.print(f"going on after {round} finished round{'s' * (round > 1)}")
        self._show("")

    def stage(self, doing: str) -> None:
        self._show(doing)

    def epoch(self, epoch: int, train_accuracy: float) -> None:
        self._show(f"train: epoch {epoch}, accuracy {train_accuracy:.3f}")

    def finish_round(self, record: dict[str, Any]) -> None:
        self.round += 1
        cap = " (the cap)" if record["epoch_cap_hit"] else ""
        left = self._time_left()
        self.console.print(
            f"round {self.round}/{len(self.labelled)}"
            f"  {record['labelled']} labels"
            f"  accuracy {record['accuracy']:.3f}"
            f"  balanced {record['balanced_accuracy']:.3f}"
            f"  trained to {record['train_accuracy']:.3f} in {record['epochs']} epochs{cap}"
            f"  {sum(record['seconds'].values()):.1f} s" + (f"  {left}" if left else ""),
            soft_wrap=True,
        )
        self._show("")

    def _show(self, doing: str) -> None:
        if not self._live.disable:
            self._live.update(
                self._task,
                completed=sum(self.labelled[: self.round]),
                round=min(self.round + 1, len(self.labelled)),
                labels=self.labelled[min(self.round, len(self.labelled) - 1)],
                doing=doing,
                left=self._time_left(),
            )

    def _time_left(self) -> str:
        done = sum(self.labelled[: self.round])
        work = done - self._work_before
        left = sum(self.labelled) - done
        if not work or not left:
            return ""
        return f"about {duration((time.monotonic() - self._began) * left / work)} left"


def duration(seconds: float) -> str:
    """A length of time for people: 8 s, 12 min, 3 h 05 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"
