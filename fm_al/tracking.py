"""Weights & Biases as a view of a run's records.

The records are the truth. What W&B holds can be rebuilt from them at any time, so a tracker may
fail without harm: it says so in one warning and the run goes on.
"""

from __future__ import annotations

import abc
import json
import logging
import os
import queue
import secrets
import shutil
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from fm_al.files import write_whole
from fm_al.records import Record

if TYPE_CHECKING:
    import wandb

logger = logging.getLogger(__name__)

LONGEST_NAME = 128  # characters; the W&B server refuses longer names of runs and groups
WRITING = 5.0  # seconds in which wandb should have written what it was given
# Lists with an entry for each class.
PER_CLASS = ("per_class_accuracy", "labelled_classes", "queried_classes")
NOT_FIGURES = ("queried", "confusion_matrix", "class_names")


@dataclass(frozen=True)
class TrackedRun:
    """A run as it stands at its start. directory: where its records lie; exists. name: what it is
    called. group: what it is grouped under where the tracker's options name no group. config: as
    resolved. rounds: the records of those finished before, from the first."""

    directory: Path
    name: str
    group: str
    config: Record
    class_names: list[str]
    rounds: list[Record]


class Tracker(abc.ABC):
    """Is told of a run as it goes: `start`, a `round` for each finished one, then `finish`.

    None of these raises or waits for anything outside the process, but `finish`, which waits a
    bounded time. A tracker may be started again, for another run, once it has finished.
    """

    @abc.abstractmethod
    def start(self, run: TrackedRun) -> None:
        """Begin, or go on with, a run."""

    @abc.abstractmethod
    def round(self, record: Record) -> None:
        """A round has finished; `record`, its line in rounds.jsonl, does not change any more."""

    @abc.abstractmethod
    def finish(self, result: Record | None) -> None:
        """The run has ended: with `result`, what result.json holds, or with an error (None)."""


class NoTracker(Tracker):
    """Tracks nothing."""

    def start(self, run: TrackedRun) -> None:
        pass

    def round(self, record: Record) -> None:
        pass

    def finish(self, result: Record | None) -> None:
        pass


class WandbTracker(Tracker):
    """One W&B run per run's directory, each round one row of its history at `_step` = `round`.

    Everything of wandb's, its import included, happens on a thread of its own.
    """

    def __init__(
        self,
        project: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^/\\#?%:]+$")],
        entity: str | None,
        group: str | None,
        tags: list[Annotated[str, Field(min_length=1, max_length=64)]],
        notes: str | None,
        mode: Literal["offline", "online"],
        init_timeout: Annotated[float, Field(gt=0)],
        finish_timeout: Annotated[float, Field(gt=0)],
    ) -> None:
        self.project = project
        self.entity = entity
        self.group = group
        self.tags = tags
        self.notes = notes
        self.mode = mode
        self.init_timeout = init_timeout
        self.finish_timeout = finish_timeout
        self._view: _View | None = None

    def start(self, run: TrackedRun) -> None:
        self._view = _View(self, run, list(run.rounds))
        self._view.begin()

    def round(self, record: Record) -> None:
        if self._view is not None:
            self._view.events.put(("round", record))

    def finish(self, result: Record | None) -> None:
        if self._view is None:
            return
        view, self._view = self._view, None
        view.events.put(("finish", result))
        view.thread.join(self.finish_timeout)
        if view.thread.is_alive():
            view.give_up(f"not finished after {self.finish_timeout:g} s (tracker.finish_timeout)")


@dataclass
class _View:
    """The W&B run of one run's directory, and the thread that keeps it up to date."""

    options: WandbTracker
    tracked: TrackedRun
    rounds: list[Record]
    events: queue.SimpleQueue[tuple[str, Any]] = field(default_factory=queue.SimpleQueue)
    logged: list[int] = field(default_factory=list)
    warned: threading.Lock = field(default_factory=threading.Lock)

    def begin(self) -> None:
        self.thread = threading.Thread(target=self._follow, name="tracker", daemon=True)
        self.thread.start()

    def give_up(self, reason: str) -> None:
        """Warn, unless that was done before."""
        if self.warned.acquire(blocking=False):
            logger.warning(
                "W&B tracking stopped; the run and its records are not affected: %s",
                " ".join(reason.split())[:300],
            )

    def _follow(self) -> None:
        try:
            run = self._open()
            for record in self.rounds:
                self._log_round(run, record)
            while (event := self.events.get())[0] == "round":
                self.rounds.append(event[1])
                self._log_round(run, event[1])
            self._close(run, event[1])
        except Exception as error:  # whatever goes wrong in here, the run goes on
            self.give_up(f"{type(error).__name__}: {error}")

    def _open(self) -> wandb.Run:
        import wandb

        offline = self.options.mode == "offline"
        # wandb's own log would put a traceback on the terminal for each line a full disk refuses.
        logging.getLogger("wandb").setLevel(logging.CRITICAL)
        settings = wandb.Settings(
            # Nothing on the terminal, and no question for a key either.
            console="off",
            quiet=True,
            silent=True,
            # The records say who ran what, where and with which versions.
            disable_code=True,
            disable_git=True,
            disable_job_creation=True,
            label_disable=True,
            save_code=False,
            x_disable_machine_info=True,
            x_disable_meta=True,
            x_disable_stats=True,
            x_save_requirements=False,
            symlink=False,
            use_dot_wandb=False,
            init_timeout=self.options.init_timeout,
            finish_timeout=self.options.finish_timeout,
            finish_timeout_raises=True,
        )
        wandb.setup(settings=settings)  # what init is given comes too late for a silent login
        run = wandb.init(
            project=self.options.project,
            entity=self.options.entity,
            dir=self.tracked.directory,
            id=run_id(self.tracked.directory),
            name=self.tracked.name[-LONGEST_NAME:],
            notes=self.options.notes,
            tags=self.options.tags,
            config=self.tracked.config,
            group=(self.options.group or self.tracked.group)[-LONGEST_NAME:],
            mode=self.options.mode,
            reinit="create_new",
            resume=None if offline else "allow",
            settings=settings,
        )
        # A process started from here would take this one's service for its own.
        os.environ.pop("WANDB_SERVICE", None)
        run.define_metric("labelled")
        run.define_metric("*", step_metric="labelled")
        return run

    def _log_round(self, run: wandb.Run, record: Record) -> None:
        import wandb

        row = dict(figures(record, self.tracked.class_names))
        if any(record["queried_classes"]):
            counts = zip(self.tracked.class_names, record["queried_classes"], strict=True)
            row["query"] = wandb.plot.bar(
                wandb.Table(columns=["class", "images"], data=[list(count) for count in counts]),
                label="class",
                value="images",
                title="Queried images",
            )
        self._log(run, record["round"], row)

    def _log_result(self, run: wandb.Run, result: Record) -> None:
        import wandb

        run.summary.update(dict(figures(result, self.tracked.class_names)))
        cells = [
            [actual, predicted, count]
            for actual, counts in zip(
                self.tracked.class_names, result["confusion_matrix"], strict=True
            )
            for predicted, count in zip(self.tracked.class_names, counts, strict=True)
        ]
        if len(cells) > wandb.Table.MAX_ROWS:  # the rest would be cut off
            cells = [cell for cell in cells if cell[2]]
        columns = ("Actual", "Predicted", "nPredictions")
        chart = wandb.plot_table(
            "wandb/confusion_matrix/v1",
            wandb.Table(columns=[*columns], data=cells),
            fields={column: column for column in columns},
            string_fields={"title": "Confusion matrix of the test set"},
        )
        last = self.rounds[-1]
        row = {"labelled": last["labelled"], "confusion_matrix": chart}
        self._log(run, last["round"] + 1, row)

    def _log(self, run: wandb.Run, step: int, row: Record) -> None:
        import wandb

        if step < run.starting_step:  # the server has it, from before the run was interrupted
            return
        for name, value in row.items():
            if isinstance(value, wandb.plot.CustomChart):
                value.set_key(name)
                # A table that is bound is a file of the run; any other becomes an artifact as well,
                # with a copy in the home directory that offline runs leave behind.
                value.table.bind_to_run(run, value.spec.table_key, step)
        run.log(row, step=step, commit=True)
        self.logged.append(step)

    def _close(self, run: wandb.Run, result: Record | None) -> None:
        if result is not None:
            self._log_result(run, result)
        run.finish(exit_code=1 if result is None else 0)
        folder = Path(run.dir).parent
        self._wait_for(folder / f"run-{run.id}.wandb")
        for other in (self.tracked.directory / "wandb").glob(f"offline-run-*-{run.id}*"):
            if other != folder:
                shutil.rmtree(other)

    def _wait_for(self, log: Path) -> None:
        """Return once all that was logged stands in `log`: finish neither waits for that nor
        says when it failed."""
        deadline = time.monotonic() + WRITING
        while [row["_step"] for row in history(log)] != self.logged:
            if time.monotonic() > deadline:
                raise OSError(f"{log} lacks rounds that were logged (is the disk full?)")
            time.sleep(0.05)


def figures(record: Record, class_names: list[str]) -> Iterator[tuple[str, Any]]:
    """What a record holds to plot, nested ones as `seconds/train`, `per_class_accuracy/<class>`."""
    for key, value in record.items():
        if key in NOT_FIGURES:
            continue
        if key in PER_CLASS:
            value = dict(zip(class_names, value, strict=True))
        if isinstance(value, dict):
            yield from ((f"{key}/{name}", figure) for name, figure in figures(value, class_names))
        else:
            yield key, value


def run_id(directory: Path) -> str:
    """The W&B id of the run in `directory`, drawn at random the first time."""
    file = directory / "wandb_run_id"
    if not file.exists():
        write_whole(file, f"{secrets.token_hex(8)}\n".encode())
    return file.read_text().strip()


def history(log: Path) -> Iterator[Record]:
    """The rows of history in a run's `.wandb` file, up to where it breaks off.

    The file is a LevelDB log: blocks of 32 KiB, in them pieces of records, each after a header of
    checksum (4 bytes), length (2) and type (1: a whole record, 2, 3, 4: its first, middle, last).
    """
    from wandb.proto import wandb_internal_pb2

    content = log.read_bytes()
    position, record = 7, b""  # after the file's own header
    while position + 7 <= len(content):
        if (left := 32768 - position % 32768) < 7:
            position += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, position)
        piece = content[position + 7 : position + 7 + length]
        if len(piece) < length or kind not in (1, 2, 3, 4):
            return
        position += 7 + length
        record = piece if kind in (1, 2) else record + piece
        if kind in (1, 4):
            message = wandb_internal_pb2.Record.FromString(record)  # type: ignore[attr-defined]
            if message.HasField("history"):
                yield {
                    item.key or "/".join(item.nested_key): json.loads(item.value_json)
                    for item in message.history.item
                }
