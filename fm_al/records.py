"""A run's directory: what is written, when, and how it is read back.

    config.yaml       the resolved configuration
    provenance.json   what decides the result, its fingerprint, and who started the run where
    rounds.jsonl      a line for each finished round, appended and flushed to disk
    result.json       the final figures; its presence says that the run is complete
    weights-<k>.pt    the network after round k, only while the next round starts from it
    job.json          which sweep asked for the run and, where it is a job of its own, which
    error.json        why the last start failed, or that it was stopped; the next one removes it
    lock              held by the process that writes the run

Every file but rounds.jsonl and lock is written to a temporary name, flushed and renamed, so that at
any moment a reader, or the next start after a kill, finds each either whole or not at all.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import logging
import math
import os
import platform
import re
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import pairwise
from pathlib import Path
from types import UnionType
from typing import Any, NamedTuple

import yaml

from fm_al.errors import ConfigError, RunError
from fm_al.files import write_whole
from fm_al.lock import Lock, Process, locked

logger = logging.getLogger(__name__)

Record = dict[str, Any]

NOT_DECIDING = ("tracker", "output_dir", "data_dir", "download", "device")
LONGEST_SHOWN = 200  # characters of a list
COMMAND = "FM_AL_COMMAND"  # in the environment of a process that stands in for another one
# What of a command may hold a key of somebody's.
CONCEALED = re.compile(
    r"^(\+*hydra\.(?:launcher\.(?:setup|teardown|srun_args|additional_parameters)|job\.env_set)"
    r"\b.*?=).*",
    re.DOTALL,
)
SOFTWARE = ("fm_al", "torch", "torchvision", "numpy", "scikit-learn", "hydra-core", "wandb")


def what_decides(config: Record, device: Record) -> Record:
    """All that a run's figures depend on: the configuration but for places and tracker, and the
    device as it was resolved; as JSON gives it back. Of a folder of images not its place counts,
    but what is in it, which `ImageData.content` tells."""
    decides = {k: v for k, v in config.items() if k not in NOT_DECIDING} | {"device": device}
    decides["dataset"] = {k: v for k, v in config["dataset"].items() if k != "root"}
    return json.loads(json.dumps(decides))


def fingerprint(decides: Record) -> str:
    canonical = json.dumps(decides, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _write_json(path: Path, value: Record) -> None:
    write_whole(path, (json.dumps(value, indent=2) + "\n").encode())


def _read_json(path: Path, **kinds: type | UnionType) -> Record | None:
    """None where there is no such file. kinds: of what it has to hold. Raises RunError for one that
    is damaged."""
    try:
        record = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RunError(
            f"{path} is damaged ({error}); remove the run's directory to redo it"
        ) from None
    if not isinstance(record, dict):
        why = "is no record"
    elif lacks := [key for key in kinds if key not in record]:
        why = f"lacks {', '.join(lacks)}"
    elif wrong := [key for key, kind in kinds.items() if not isinstance(record[key], kind)]:
        why = f"is damaged ({wrong[0]} is {json.dumps(record[wrong[0]])})"
    else:
        return record
    raise RunError(f"{path} {why}; remove the run's directory to redo it")


def finished_result(directory: Path, decides: Record) -> Record | None:
    """The result of a complete run, None if it is not complete; reads no data set.

    Raises RunError if the directory holds another run, complete or not."""
    _refuse_another_run(directory, decides)
    return _read_json(directory / "result.json")


def _refuse_another_run(directory: Path, decides: Record) -> Record | None:
    path = directory / "provenance.json"
    provenance = _read_json(path)
    if provenance is None and not (directory / "result.json").exists():
        return None
    if provenance is None or not isinstance(provenance.get("decides"), dict):
        raise RunError(f"{path} does not say what run this is; remove the run's directory")
    there = provenance["decides"]
    # What is not known before the data are read, and on another machine than the run's.
    if "dataset_content" not in decides:
        there = {k: v for k, v in there.items() if k != "dataset_content"}
    if "device" in there and "device" in decides:
        known = decides["device"]
        there = there | {"device": {k: v for k, v in there["device"].items() if k in known}}
    differ = list(_differences("", there, decides))
    if differ:
        images = decides.get("dataset_content") not in (None, there.get("dataset_content"))
        why = " (its images, or how they are decoded, have changed since)" if images else ""
        raise RunError(
            f"{directory} holds a run that differs in {', '.join(differ)}{why}; "
            "use another experiment_name, or remove that directory"
        )
    return provenance


def refuse_other_classes(directory: Path, there: object, now: list[str]) -> None:
    """Raises RunError where a run's classes are not those that its configuration names: earlier
    versions took a number for a position where it is a class's name."""
    if there != now:
        raise RunError(
            f"{directory} holds a run of the classes {json.dumps(there)[:LONGEST_SHOWN]}, and the "
            f"configuration now names {json.dumps(now)[:LONGEST_SHOWN]}; use another "
            "experiment_name, or remove that directory"
        )


def _differences(key: str, there: Any, now: Any) -> Iterator[str]:
    if isinstance(there, dict) and isinstance(now, dict):
        for name in sorted({*there, *now}):
            full_key = f"{key}.{name}" if key else name
            yield from _differences(full_key, there.get(name), now.get(name))
    elif there != now:
        yield f"{key} ({json.dumps(there)} there, {json.dumps(now)} now)"


class RunRecords:
    """The records of one run, open for writing; made by `open_run`."""

    def __init__(
        self,
        directory: Path,
        lock: Lock,
        start: Record,
        rounds: list[Record],
        result: Record | None,
    ) -> None:
        """start: this start's entry in provenance.json."""
        self.directory = directory
        self._lock = lock
        self.start = start
        self.rounds = rounds
        self.result = result

    def add_round(self, record: Record) -> None:
        """Appends a finished round; on return it is on disk. Raises RunError if it can't be."""
        self._lock.check()
        text = json.dumps(record, separators=(",", ":"), allow_nan=False)
        line = f"{text}\n".encode()
        path = self.directory / "rounds.jsonl"
        try:
            # Not buffered: to close the file would write what was left when the disk was full.
            with path.open("ab", buffering=0) as file:
                end = file.tell()
                try:
                    left = memoryview(line)
                    while left:
                        left = left[file.write(left) :]
                    os.fsync(file.fileno())
                except OSError:
                    os.truncate(path, end)
                    raise
        except OSError as error:
            raise RunError(
                f"round {record['round'] + 1} can't be written to {path} ({error}); the rounds "
                "before it are kept: mend that and start again to go on"
            ) from error
        self.rounds.append(record)

    def finish(self, result: Record) -> None:
        """Writes the completion mark."""
        self._lock.check()
        try:
            _write_json(self.directory / "result.json", result)
        except OSError as error:
            raise RunError(
                f"the result can't be written to {self.directory} ({error}); all rounds are kept: "
                "mend that and start again"
            ) from error
        self.result = result

    def damaged(self, number: int, why: str) -> RunError:
        """The error to raise where what a round's line says can't be."""
        return _damaged(self.directory / "rounds.jsonl", number, why)

    def weights_path(self, round: int) -> Path:
        """Where the network after a round is kept."""
        return self.directory / f"weights-{round}.pt"

    def drop_weights_but(self, round: int | None) -> None:
        """Removes the networks of other rounds, or of all (None)."""
        for path in self.directory.glob("weights-*.pt"):
            if round is None or path != self.weights_path(round):
                path.unlink()


class Asked(NamedTuple):
    """Who was asked to run a run, as `ask_for` takes it."""

    sweep_folder: Path
    log: Path | None = None
    job: str | None = None
    cluster: str | None = None


@contextmanager
def open_run(
    directory: Path,
    config: Record,
    decides: Record,
    class_names: list[str],
    command: list[str],
    sweep: str | None = None,
    asked: Asked | None = None,
    class_counts: Record | None = None,
) -> Iterator[RunRecords]:
    """Holds the run's directory, made where there is none, for this process alone. sweep: the id
    of the one that asked for this start. asked: what job.json is to say from now on. class_counts:
    what provenance.json says of the classes beside their names. class_names: empty where they are
    not known.

    Raises RunError if another live process holds it, if it holds a run that `decides` otherwise,
    or if its records are damaged; a torn last line of rounds.jsonl is dropped, with a warning.
    """
    directory.mkdir(parents=True, exist_ok=True)
    software = _software()  # here, since git would for an instant hold the lock beside this process
    with locked(directory / "lock") as lock:
        lock.check()
        forget_failure(directory)
        if asked is not None:
            ask_for(directory, *asked)
        for begun in directory.glob(".weights-*"):  # by a process that was killed
            begun.unlink()
        provenance = _refuse_another_run(directory, decides)
        if provenance is None:
            write_whole(directory / "config.yaml", yaml.safe_dump(config, sort_keys=False).encode())
            provenance = {
                "fingerprint": fingerprint(decides),
                "decides": decides,
                "class_names": class_names,
                **(class_counts or {}),
                "software": software,
                "starts": [],
            }
        if class_names and (classes_there := provenance.get("class_names")):
            refuse_other_classes(directory, classes_there, class_names)
        if provenance["software"] != software:
            changed = [
                f"{name} {provenance['software'].get(name)} -> {version}"
                for name, version in software.items()
                if provenance["software"].get(name) != version
            ]
            logger.warning(
                "%s was begun with other software (%s); from here on its figures may differ "
                "from those of an uninterrupted run",
                directory,
                ", ".join(changed),
            )
        rounds = _read_rounds(directory / "rounds.jsonl")
        result = _read_json(directory / "result.json")
        shown = [CONCEALED.sub(r"\1...", each) for each in command]
        start = {"time": _now(), **_this_process(), "sweep": sweep, "command": shown}
        if result is None:
            provenance["starts"].append(start)
            _write_json(directory / "provenance.json", provenance)
        yield RunRecords(directory, lock, start, rounds, result)


def ask_for(
    directory: Path,
    sweep_folder: Path,
    log: Path | None = None,
    job: str | None = None,
    cluster: str | None = None,
) -> None:
    """Notes in a run's directory, made where there is none, who was asked to run it. log: what it
    prints. job, cluster: SLURM's id of it, and the name of that SLURM."""
    directory.mkdir(parents=True, exist_ok=True)

    def from_here(path: Path) -> str:
        return os.path.relpath(path.resolve(), directory.resolve())

    asked = {
        "time": _now(),
        "folder": from_here(sweep_folder),
        "job": job,
        "cluster": cluster,
        "log": from_here(log) if log else None,
    }
    _write_json(directory / "job.json", asked)


def record_failure(directory: Path, error: BaseException, message: str) -> None:
    """Notes why a run failed, where it has a directory; says so in the log if it can't."""
    if not directory.exists():
        return
    kind = "ConfigError" if isinstance(error, ConfigError) else type(error).__name__
    failure = {"time": _now(), "kind": kind, "message": message, **_this_process()}
    try:
        _write_json(directory / "error.json", failure)
    except OSError as full:
        logger.warning("%s: why the run failed can't be written there (%s)", directory, full)


def forget_failure(directory: Path) -> None:
    (directory / "error.json").unlink(missing_ok=True)


@dataclass(frozen=True)
class StoredRun:
    """What a run's directory holds, read without disturbing who writes it. stopped: by Ctrl-C,
    which is no error: the run goes on also where failed ones are not to be tried again."""

    directory: Path
    provenance: Record | None
    rounds: list[Record]
    result: Record | None
    error: Record | None
    stopped: bool
    job: Record | None

    @property
    def config(self) -> Record:
        """The resolved configuration. Raises RunError where it can't be read."""
        path = self.directory / "config.yaml"
        try:
            config = yaml.safe_load(path.read_text())
        except (OSError, yaml.YAMLError) as error:
            raise RunError(f"{path} can't be read: {' '.join(str(error).split())}") from None
        if not isinstance(config, dict):
            raise RunError(f"{path} is no configuration")
        return config


def stored_run(directory: Path) -> StoredRun:
    """Reads a run's directory. Raises RunError, which names the file, if it is damaged; a last line
    of rounds.jsonl that is being written is left out."""
    # First, so that a run that is finished meanwhile does not seem to have rounds too few.
    result = _read_json(directory / "result.json")
    path = directory / "rounds.jsonl"
    whole, _, _ = (path.read_bytes() if path.exists() else b"").rpartition(b"\n")
    error = _read_json(directory / "error.json", kind=str, message=str)
    stopped = error is not None and error["kind"] == KeyboardInterrupt.__name__
    return StoredRun(
        directory,
        provenance=_read_json(directory / "provenance.json", decides=dict, starts=list),
        rounds=_parsed_rounds(path, whole),
        result=result,
        error=None if stopped else error,
        stopped=stopped,
        job=_read_json(directory / "job.json", folder=str, job=str | None, log=str | None),
    )


def area_under_curve(labelled: list[int], accuracy: list[float]) -> float:
    """Area under the accuracy over labels by the trapezoid rule, over the range of labels: in
    [0, 1]; the accuracy itself where there is one round."""
    if len(labelled) == 1:
        return accuracy[0]
    points = zip(labelled, accuracy, strict=True)
    area = math.fsum((b - a) * (y + z) / 2 for (a, y), (b, z) in pairwise(points))
    return area / (labelled[-1] - labelled[0])


def runs_below(folder: Path) -> list[Path]:
    """The directories of runs in a folder and below, sorted; through symbolic links too, but each
    once. Warns of what can't be read."""

    def unreadable(error: OSError) -> None:
        if Path(error.filename).name != "jobs":  # which is for its owner's eyes only
            logger.warning("%s can't be read (%s)", error.filename, error.strerror)

    found = []
    seen: set[Path] = set()
    starts = deque([folder])
    while starts:  # with links last: a run below a link and elsewhere has the path without it
        for path, folders, files in os.walk(starts.popleft(), onerror=unreadable):
            here = Path(path)
            is_run = "provenance.json" in files or "job.json" in files
            is_known = (place := here.resolve()) in seen
            seen.add(place)
            if is_run and not is_known:
                found.append(here)
            if is_run or is_known:
                folders.clear()
            starts.extend(here / name for name in folders if (here / name).is_symlink())
    return sorted(found)


def _read_rounds(path: Path) -> list[Record]:
    content = path.read_bytes() if path.exists() else b""
    whole, newline, torn = content.rpartition(b"\n")
    if torn:
        line_number = whole.count(b"\n") + 2 if newline else 1
        logger.warning("%s: line %d is torn; dropped, the round is redone", path, line_number)
        os.truncate(path, len(whole) + len(newline))
    return _parsed_rounds(path, whole)


def _parsed_rounds(path: Path, lines: bytes) -> list[Record]:
    rounds = []
    for number, line in enumerate(lines.split(b"\n") if lines else []):
        try:
            rounds.append(_round(number, json.loads(line)))
        except (ValueError, KeyError, TypeError) as error:
            raise _damaged(path, number, str(error)) from None
    return rounds


def _round(number: int, record: Any) -> Record:
    """A round's record, if it has what a run that goes on reads of it."""
    if record["round"] != number:
        raise ValueError(f"round {record['round']} where {number} belongs")
    if not isinstance(record["queried"], list):
        raise ValueError(f"queried is {record['queried']}")
    for name in ("labelled", "accuracy"):
        if not isinstance(record[name], (int, float)):
            raise ValueError(f"{name} is {record[name]}")
    return record


def _damaged(path: Path, number: int, why: str) -> RunError:
    return RunError(
        f"{path}: line {number + 1} is damaged ({why}); cut the file before that line to redo from "
        "there, or remove the run's directory"
    )


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _this_process() -> Record:
    process = Process.this()
    return {
        "host": process.host,
        "process": process.pid,
        "job": process.job,
        "node": process.node,
        "partition": process.partition,
    }


@functools.cache
def _software() -> Record:
    versions: Record = {"python": platform.python_version()}
    for package in SOFTWARE:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return versions | {"git_commit": _git_commit(), "source": _source()}


def _source() -> str:
    """A digest of this package's code as it is, committed or not."""
    digest = hashlib.sha256()
    package = Path(__file__).parent
    for path in sorted(package.rglob("*.py")):
        digest.update(str(path.relative_to(package)).encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _git_commit() -> str | None:
    """The commit of the checkout that this package runs from, `+` if it has changes; None where it
    runs from elsewhere, be that inside somebody else's repository."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments],
            cwd=Path(__file__).parent,
            check=True,
            capture_output=True,
            text=True,
            timeout=10,
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)
        return git("describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*")
    except (OSError, subprocess.SubprocessError):
        return None


def command_line() -> list[str]:
    """What was typed to start this process, or the one that it stands in for."""
    if COMMAND in os.environ:
        return json.loads(os.environ[COMMAND])
    return ["fm-al", *sys.argv[1:]]
