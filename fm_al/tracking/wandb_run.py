"""Weights & Biases as a view of a run's records.

The records are the truth. What W&B holds can be rebuilt from them at any time, so a tracker may
fail without harm: it says so in one warning and the run goes on.
"""

from __future__ import annotations

import abc
import atexit
import functools
import json
import logging
import os
import queue
import re
import secrets
import shutil
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from fm_al.errors import RunError
from fm_al.files import atomic_write
from fm_al.records.json_files import Schema, file_content, read_json
from fm_al.records.result_config import Config
from fm_al.records.schema import Result, Round, Start

if TYPE_CHECKING:
    import wandb

logger = logging.getLogger(__name__)

RUN_ID = re.compile(r"([A-Za-z0-9_-]+)\s*")
LONGEST_NAME = 128  # characters; the W&B server refuses longer names of runs and groups
WRITING = 5.0  # seconds in which wandb should have written what it was given
LOGGED = "wandb_logged.json"
UPLOADED = "wandb_uploaded.json"
A_DAY = 86_400.0  # seconds
LAUNCH = {"sweep", "job", "node", "partition", "host"}  # what W&B is told of a start


@dataclass(frozen=True)
class TrackedRun:
    """A run as it stands at its start. directory: where its records lie; exists. name: what it is
    called. group: what it is grouped under where the tracker's options name no group. config: as
    resolved. rounds: the records of those finished before, from the first. launch: the last start,
    as provenance.json has it."""

    directory: Path
    name: str
    group: str
    config: Config
    class_names: list[str]
    rounds: list[Round]
    launch: Start


class Tracker(abc.ABC):
    """Is told of a run as it goes: `start`, a `round` for each finished one, then `finish`.

    None of these raises or waits for anything outside the process, but `finish`, which waits a
    bounded time. A tracker may be started again, for another run, once it has finished.
    """

    @abc.abstractmethod
    def start(self, run: TrackedRun) -> None:
        """Begin, or go on with, a run."""

    @abc.abstractmethod
    def round(self, record: Round) -> None:
        """A round has finished; `record`, its line in rounds.jsonl, does not change any more."""

    @abc.abstractmethod
    def finish(self, result: Result | None) -> None:
        """The run has ended: with `result`, what result.json holds, or with an error (None)."""


class NoTracker(Tracker):
    """Tracks nothing."""

    def start(self, run: TrackedRun) -> None:
        pass

    def round(self, record: Round) -> None:
        pass

    def finish(self, result: Result | None) -> None:
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
        init_timeout: Annotated[float, Field(gt=0, le=A_DAY)],
        finish_timeout: Annotated[float, Field(gt=0, le=A_DAY)],
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
        # The run's own list grows as it goes on.
        self._view = _View(self, replace(run, rounds=list(run.rounds)))
        self._view.begin()

    def round(self, record: Round) -> None:
        if self._view is not None:
            self._view.events.put(("round", record))

    def finish(self, result: Result | None) -> None:
        if self._view is None:
            return
        view, self._view = self._view, None
        view.events.put(("finish", result))
        try:
            view.thread.join(self.finish_timeout)
        finally:  # Ctrl-C may end the wait
            if view.thread.is_alive():
                reason = f"not finished after {self.finish_timeout:g} s (tracker.finish_timeout)"
                view.give_up(reason)


@dataclass
class _View:
    """The W&B run of a run that goes on, and the thread that keeps it up to date."""

    options: WandbTracker
    tracked: TrackedRun
    events: queue.SimpleQueue[tuple[str, Any]] = field(default_factory=queue.SimpleQueue)
    warned: threading.Lock = field(default_factory=threading.Lock)

    def begin(self) -> None:
        try:
            # What is noted here tells, if the process is killed, that there is a view to complete.
            run_id(self.tracked.directory)
            (self.tracked.directory / LOGGED).unlink(missing_ok=True)
        except (RunError, OSError) as error:
            self.give_up(f"{type(error).__name__}: {error}")
        self.thread = threading.Thread(target=self._follow, name="tracker", daemon=True)
        self.thread.start()

    def give_up(self, reason: str) -> None:
        """Warn, unless that was done before; the process's end does not wait for the view."""
        _given_up.set()
        if self.warned.acquire(blocking=False):
            logger.warning(
                "W&B tracking stopped; the run and its records are not affected: %s",
                " ".join(reason.split())[:300],
            )

    def _follow(self) -> None:
        try:
            run = WandbRun(self.options, self.tracked, self.tracked.directory)
            for record in self.tracked.rounds:
                run.log_round(record)
            while (event := self.events.get())[0] == "round":
                run.log_round(event[1])
            result = event[1]
            if result is not None:
                run.log_result(result)
            run.finish(exit_code=1 if result is None else 0)
            drop_other_logs(run.log)
            if result is not None:
                note_as_whole(self.tracked.directory, result.rounds)
        except Exception as error:  # whatever goes wrong in here, the run goes on
            self.give_up(f"{type(error).__name__}: {error}")


class WandbRun:
    """The W&B run of a run's directory, open for the rounds from the first on."""

    def __init__(self, options: WandbTracker, tracked: TrackedRun, folder: Path) -> None:
        """folder: where wandb puts files of its own."""
        import wandb

        self.tracked = tracked
        self._logged: list[int] = []
        offline = options.mode == "offline"
        settings = quiet_settings(
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
            init_timeout=options.init_timeout,
            finish_timeout=options.finish_timeout,
            finish_timeout_raises=True,
        )
        wandb.setup(settings=settings)  # what init is given comes too late for a silent login
        _end_service_at_exit()
        self.run = wandb.init(
            project=options.project,
            entity=options.entity,
            dir=folder.absolute(),  # the service may have been started in another folder
            id=run_id(tracked.directory),
            name=tracked.name[-LONGEST_NAME:],
            notes=options.notes,
            tags=options.tags,
            config=tracked.config | {"launch": tracked.launch.model_dump(include=LAUNCH)},
            group=(options.group or tracked.group)[-LONGEST_NAME:],
            mode=options.mode,
            reinit="create_new",
            resume=None if offline else "allow",
            settings=settings,
        )
        keep_service()
        self.run.define_metric("labelled")
        self.run.define_metric("*", step_metric="labelled")

    def log_round(self, record: Round) -> None:
        """Every round is to be given, also those that the server has."""
        import wandb

        row = metrics(record, self.tracked.class_names)
        if any(record.queried_classes):
            counts = zip(self.tracked.class_names, record.queried_classes, strict=True)
            row["query"] = wandb.plot.bar(
                wandb.Table(columns=["class", "images"], data=[list(count) for count in counts]),
                label="class",
                value="images",
                title="Queried images",
            )
        self._last_round = record
        self._log(record.round, row)

    def log_result(self, result: Result) -> None:
        """The final figures into the summary, the confusion matrix into a row of its own."""
        import wandb

        self.run.summary.update(metrics(result, self.tracked.class_names))
        cells = [
            [actual, predicted, count]
            for actual, counts in zip(
                self.tracked.class_names, result.confusion_matrix, strict=True
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
        row = {"labelled": self._last_round.labelled, "confusion_matrix": chart}
        self._log(self._last_round.round + 1, row)

    def _log(self, step: int, row: dict[str, Any]) -> None:
        import wandb

        for name, value in row.items():
            if isinstance(value, wandb.plot.CustomChart):
                value.set_key(name)
                # A table that is bound is a file of the run; any other becomes an artifact as well,
                # with a copy in the home directory that offline runs leave behind.
                value.table.bind_to_run(self.run, value.spec.table_key, step)
        # The server has the row from before the run was interrupted, though not surely its tables.
        if step < self.run.starting_step:
            return
        self.run.log(row, step=step, commit=True)
        self._logged.append(step)

    def finish(self, exit_code: int) -> None:
        """Returns once all that was logged stands in wandb's log and was sent, as far as wandb
        tells; raises OSError or TimeoutError if it was not."""
        self.run.finish(exit_code=exit_code)
        log = self.log
        # finish neither waits for the log nor says when writing it failed.
        deadline = time.monotonic() + WRITING
        while [row["_step"] for row in history(log)] != self._logged:
            if time.monotonic() > deadline:
                raise OSError(f"{log} lacks rounds that were logged (is the disk full?)")
            time.sleep(0.05)

    @property
    def log(self) -> Path:
        return Path(self.run.dir).parent / f"run-{self.run.id}.wandb"


_given_up = threading.Event()  # of any view of this process


@functools.cache
def _end_service_at_exit() -> None:
    """To be called when wandb was set up: hooks are called last registered first."""
    atexit.register(_end_service)


def _end_service() -> None:
    """At its own hook wandb would wait for its service, which goes on trying for minutes to send
    what it has of a view that was given up."""
    if not _given_up.is_set():
        return
    from wandb.sdk import wandb_setup

    # Another version of wandb may not have these; its end is then waited for.
    connection = getattr(wandb_setup.singleton(), "_connection", None)
    process = getattr(getattr(connection, "_proc", None), "_process", None)
    take_hook_back = getattr(connection, "_cleanup", None)
    if process is not None and take_hook_back is not None:
        take_hook_back()
        process.kill()


def keep_service() -> None:
    """To be called when wandb was set up, or a run of it began: a process started from here would
    take this one's service for its own."""
    os.environ.pop("WANDB_SERVICE", None)


def quiet_settings(**settings: Any) -> wandb.Settings:
    """Settings by which wandb neither prints nor asks for a key."""
    # wandb tells its makers of its own errors, which holds the process's end up to 30 s.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    # wandb's own log would put a traceback on the terminal for each line a full disk refuses.
    logging.getLogger("wandb").setLevel(logging.CRITICAL)
    return wandb.Settings(console="off", quiet=True, silent=True, **settings)


def metrics(record: Round | Result, class_names: list[str]) -> dict[str, Any]:
    """Returns what a record holds to plot, by name: nested values as `seconds/train`, a class's as
    `per_class_accuracy/<class>`."""
    values = record.as_json()
    for name in type(record).names(is_metric=False):
        values.pop(name, None)
    for name in type(record).names(per_class=True):
        if name in values:
            values[name] = dict(zip(class_names, values[name], strict=True))
    return dict(_flattened(values))


def _flattened(values: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from ((f"{key}/{name}", each) for name, each in _flattened(value))
        else:
            yield key, value


def run_id(directory: Path) -> str:
    """The W&B id of the run in `directory`, drawn at random the first time."""
    file = directory / "wandb_run_id"
    content = file_content(file)
    if content is None:
        content = f"{secrets.token_hex(8)}\n".encode()
        atomic_write(file, content)
    found = RUN_ID.fullmatch(content.decode(errors="replace"))
    if found is None:
        raise RunError(
            f"{file} is damaged (should be an id of letters and digits); restore it from a copy: "
            "without it, W&B would hold the run twice"
        )
    return found[1]


class _Whole(Schema):
    """What is read of the notes on what a log, or the server, holds of a run."""

    rounds: int
    state: str


def note_as_whole(directory: Path, rounds: int) -> None:
    """Notes that the view of a finished run holds all of it."""
    content = json.dumps({"rounds": rounds, "state": "finished"}, indent=2)
    atomic_write(directory / LOGGED, f"{content}\n".encode())


def has_view(directory: Path) -> bool:
    return (directory / "wandb_run_id").exists()


def is_noted_as_whole(directory: Path, result: Result) -> bool:
    """Whether a note says that the view of a finished run, or what was uploaded, holds all of it.
    Raises RunError for a damaged note."""
    for name in (LOGGED, UPLOADED):
        note = read_json(directory / name, _Whole, "remove it to have W&B's view completed again")
        if note is not None and (note.rounds, note.state) == (result.rounds, "finished"):
            return True
    return False


def whole_log(directory: Path, result: Result) -> Path | None:
    """A log that shows that the view of a finished run holds all of it, if there is one."""
    # Earlier versions, whose results have no digest, noted nothing of what they had sent.
    logs = "offline-run-*" if result.digest else "*run-*"
    found = (directory / "wandb").glob(f"{logs}/run-*.wandb")
    return next((log for log in sorted(found) if _is_log_whole(log, result.rounds)), None)


def drop_other_logs(log: Path) -> None:
    """Removes the folders of offline runs that the one of this log replaces."""
    for other in log.parents[1].glob(f"offline-run-*-{log.stem.removeprefix('run-')}*"):
        if other != log.parent:
            shutil.rmtree(other)


def _is_log_whole(log: Path, rounds: int) -> bool:
    """Whether it reaches its end, and the row behind the last round, which is logged last."""
    step, has_ended = -1, False
    try:
        for message in _messages(log):
            if message.HasField("history"):
                step = _row(message)["_step"]
            has_ended = has_ended or message.HasField("exit")
    except (ValueError, KeyError):  # damaged
        return False
    return has_ended and step == rounds


def history(log: Path) -> Iterator[dict[str, Any]]:
    """The rows of history in a run's `.wandb` file, up to where it breaks off."""
    return (_row(message) for message in _messages(log) if message.HasField("history"))


def _row(message: Any) -> dict[str, Any]:
    return {
        item.key or "/".join(item.nested_key): json.loads(item.value_json)
        for item in message.history.item
    }


def _messages(log: Path) -> Iterator[Any]:
    """The records in a run's `.wandb` file, up to where it breaks off.

    The file is a LevelDB log: blocks of 32 KiB, in them pieces of records, each after a header of
    checksum (4 bytes), length (2) and type (1: a whole record, 2, 3, 4: its first, middle, last).
    """
    from google.protobuf.message import DecodeError
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
            try:
                yield wandb_internal_pb2.Record.FromString(record)  # type: ignore[attr-defined]
            except DecodeError:
                return
