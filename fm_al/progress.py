"""What a run shows: a live line on a terminal, plain lines in a file."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from fm_al.records.schema import Round


class RunProgress:
    """Shows one run: a line for each finished round and, on a terminal, a live line below them."""

    def __init__(self, console: Console, schedule: Sequence[int]) -> None:
        """Prepares a run with this number of labelled images in each round."""
        self.console = console
        self.schedule = schedule
        self.round_index = 0
        self._records: list[Round] = []  # rounds that this process ran
        self._finished_at = time.monotonic()
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
            "", total=sum(schedule), round=0, rounds=len(schedule), labels=0, doing="", left=""
        )

    def __enter__(self) -> RunProgress:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def resume_at(self, round_index: int) -> None:
        """Begins with this round; those before it are finished."""
        self.round_index = round_index
        if round_index:
            plural = "s" * (round_index > 1)
            self.console.print(f"resuming after {round_index} finished round{plural}")
        self._show("")

    def stage(self, doing: str) -> None:
        """Shows what the round is doing now."""
        self._show(doing)

    def epoch(self, epoch: int, train_accuracy: float) -> None:
        """Shows that a training epoch has ended."""
        self._show(f"train: epoch {epoch}, accuracy {train_accuracy:.3f}")

    def finish_round(self, record: Round) -> None:
        """Prints a finished round."""
        self.round_index += 1
        self._records.append(record)
        self._finished_at = time.monotonic()
        cap = " (the cap)" if record.epoch_cap_hit else ""
        left = self._time_left()
        self.console.print(
            f"round {self.round_index}/{len(self.schedule)}"
            f"  {record.labelled} labels"
            f"  accuracy {record.accuracy:.3f}"
            f"  balanced {record.balanced_accuracy:.3f}"
            f"  trained to {record.train_accuracy:.3f} in {record.epochs} epochs{cap}"
            f"  {sum(record.seconds.values()):.1f} s" + (f"  {left}" if left else ""),
            soft_wrap=True,
        )
        self._show("")

    def _show(self, doing: str) -> None:
        if not self._live.disable:
            self._live.update(
                self._task,
                completed=sum(self.schedule[: self.round_index]),
                round=min(self.round_index + 1, len(self.schedule)),
                labels=self.schedule[min(self.round_index, len(self.schedule) - 1)],
                doing=doing,
                left=self._time_left(),
            )

    def _time_left(self) -> str:
        """An estimate: training time grows with the labels, the other stages take the same time in
        every round, and the last round has no query."""
        left = self.schedule[self.round_index :]
        if not self._records or not left:
            return ""

        def seconds(stage: str) -> float:
            return sum(record.seconds.get(stage, 0.0) for record in self._records)

        training = seconds("train") * sum(left) / sum(r.labelled for r in self._records)
        others = seconds("evaluate") * len(left) + seconds("query") * (len(left) - 1)
        expected = training + others / len(self._records)
        since = time.monotonic() - self._finished_at
        return f"about {duration(max(0.0, expected - since))} left"


def duration(seconds: float) -> str:
    """A length of time in words: 8 s, 12 min, 3 h 05 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"
