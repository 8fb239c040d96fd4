"""What a tracker is told of a run."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from pathlib import Path

from fm_al.records.result_config import Config
from fm_al.records.schema import Result, Round, Start


@dataclass(frozen=True)
class TrackedRun:
    """A run as it is when it starts.

    Attributes:
        directory: Its directory, which exists.
        name: What it is called.
        group: What it is grouped under, unless the tracker's options name a group.
        config: The resolved configuration.
        class_names: Names of the classes.
        rounds: The rounds that were finished before.
        start: This start, as in provenance.json.
    """

    directory: Path
    name: str
    group: str
    config: Config
    class_names: list[str]
    rounds: list[Round]
    start: Start


class Tracker(abc.ABC):
    """Follows a run: `start`, a `round` for each finished round, then `finish`.

    No method raises, and none but `finish` waits for anything outside the process; `finish` waits a
    bounded time. A tracker that has finished may be started for another run.
    """

    @abc.abstractmethod
    def start(self, run: TrackedRun) -> None:
        """Begins or resumes a run."""

    @abc.abstractmethod
    def round(self, record: Round) -> None:
        """Adds a finished round."""

    @abc.abstractmethod
    def finish(self, result: Result | None) -> None:
        """Ends the run: with its result, or with an error (None)."""


class NoTracker(Tracker):
    """Tracks nothing."""

    def start(self, run: TrackedRun) -> None:
        pass

    def round(self, record: Round) -> None:
        pass

    def finish(self, result: Result | None) -> None:
        pass
