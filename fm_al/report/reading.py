"""Read the finished runs below a folder, and leave out what cannot be used.

A run is used only if everything that a report takes from its records is there and makes sense.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from fm_al.errors import ConfigError, RunError
from fm_al.records.naming import option_names
from fm_al.records.reading import as_now
from fm_al.records.writing import Record, StoredRun, runs_below, stored_run
from fm_al.report.runs import LeftOut
from fm_al.report.text import all_printable, printable
from fm_al.report.values import MISSING, cut, flattened, matches

# Keys that stand for the option of that name, and the configuration behind it. BAIT alone trains
# before its first query in the FisherMask authors' code.
OPTIONS: Mapping[str, tuple[str, ...]] = {
    "dataset": ("dataset", "dataset_content"),
    "imbalance": ("imbalance",),
    "backbone": ("backbone",),
    "strategy": ("strategy", "budget.train_before_first_query"),
}
LIKE_A_RUN = {"config.yaml", "rounds.jsonl", "result.json"}

Count = Annotated[int, Field(ge=0, lt=2**63)]
Share = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, AfterValidator(printable)]  # a class folder's may have line breaks
Seconds = Annotated[float, Field(ge=0, lt=2**63)]


class _Read(BaseModel):
    """What a report reads of a record, which may hold more."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _Recorded(_Read):
    mask_sizes: dict[Name, Count] = {}


class _Round(_Read):
    labelled: Count
    accuracy: Share
    balanced_accuracy: Share
    macro_f1: Share
    per_class_accuracy: list[Share | None]
    queried_classes: list[Count]
    strategy: _Recorded


class _Result(_Read):
    rounds: Count
    confusion_matrix: list[list[Count]] = []
    class_names: list[Name]
    seconds: Annotated[dict[str, Seconds], Field(min_length=1)]


class _Option(_Read):
    target: Annotated[str, Field(alias="_target_", pattern=r"\.")]
    name: str | None = None


class _Budget(_Read):
    initial: Count
    per_round: Annotated[Count, Field(ge=1)]
    total: Count
    train_before_first_query: bool = True


class _Device(_Read):
    kind: str


class _Decides(_Read):
    dataset: _Option
    imbalance: _Option
    backbone: _Option
    strategy: _Option
    budget: _Budget
    device: _Device
    seed: Count
    experiment_name: Annotated[str, Field(min_length=1)]


class _Software(_Read):
    torch: str | None


class _Start(_Read):
    time: str
    host: str
    command: list[str]


class _Provenance(_Read):
    decides: _Decides
    software: _Software
    starts: list[_Start]


@dataclass(frozen=True)
class FinishedRun:
    """A finished run, not yet named.

    Attributes:
        directory: Where it is.
        provenance: The whole provenance.json.
        rounds: What a report reads of its rounds.
        result: What a report reads of its result.
        options: Names of the options of some groups, such as `dataset`.
        flat: What decides its results, by dotted keys.
        rounds_as_stored: Its rounds, whole.
    """

    directory: Path
    provenance: Record
    rounds: Sequence[Record]
    result: Record
    options: Mapping[str, str]
    flat: Mapping[str, Any]
    rounds_as_stored: Sequence[Record]

    @property
    def seed(self) -> int:
        return int(self.flat["seed"])

    def value(self, key: str) -> Any:
        """The value of a key of the configuration, or MISSING."""
        return self.options[key] if key in self.options else self.flat.get(key, MISSING)

    def part(self, keys: Iterable[str]) -> dict[str, Any]:
        """The values at and below these keys."""
        prefixes = tuple(f"{key}." for key in keys)
        return {k: v for k, v in self.flat.items() if f"{k}.".startswith(prefixes)}


def finished_runs(folder: Path, left_out: list[LeftOut]) -> Iterator[FinishedRun]:
    """Read the finished runs in a folder and below; `left_out` receives the other runs."""
    directories = runs_below(folder)
    left_out += _foreign(folder, {*directories})
    for directory in directories:
        try:
            stored = stored_run(directory)
            result, provenance = stored.result, stored.provenance
            if result is None or provenance is None:
                left_out.append(LeftOut(directory, _why_unfinished(stored)))
                continue
            rounds, result = _checked(stored.rounds, result, provenance)
            provenance["decides"] = as_now(provenance["decides"])
            yield FinishedRun(
                directory,
                provenance=all_printable(provenance),
                rounds=rounds,
                result=result,
                options=all_printable(option_names(directory, provenance["decides"])),
                flat=flattened(all_printable(provenance["decides"])),
                rounds_as_stored=stored.rounds,
            )
        except (RunError, OSError) as error:
            left_out.append(LeftOut(directory, str(error).replace(f"{directory}/", "")))


def chosen_runs(
    finished: Sequence[FinishedRun], where: Mapping[str, Sequence[str]]
) -> list[FinishedRun]:
    """The runs that have one of the values for each key of `where`.

    Raises:
        ConfigError: No run has such a key, or none has these values.
    """
    for key in where:
        check_key("--where", key, finished)
    chosen = [
        run
        for run in finished
        if all(any(matches(run.value(key), text) for text in where[key]) for key in where)
    ]
    if not chosen:
        conditions = " ".join(f"{key}={','.join(values)}" for key, values in where.items())
        raise ConfigError(f"--where {conditions}: matches none of {len(finished)} finished runs")
    return chosen


def check_key(option: str, key: str, finished: Sequence[FinishedRun]) -> None:
    """Raise ConfigError if no run has this key."""
    known = sorted({*OPTIONS, *(key for run in finished for key in run.flat)})
    if key not in known:
        close = difflib.get_close_matches(key, known, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ConfigError(f"{option} {key}: no run has this key{hint}; keys: {', '.join(known)}")


def _checked(
    rounds: Sequence[Record], result: Record, provenance: Record
) -> tuple[list[Record], Record]:
    """The parts of rounds and result that a report reads. Raises RunError if they are unusable."""
    if lacks := [key for key in _Round.model_fields if not all(key in each for each in rounds)]:
        raise RunError(f"has rounds without {', '.join(lacks)}")
    read = [
        _values_read(f"rounds.jsonl: line {number}", record, _Round)
        for number, record in enumerate(rounds, 1)
    ]
    result = _values_read("result.json", result, _Result)
    _values_read("provenance.json", provenance, _Provenance)
    if len({*(names := result["class_names"])}) < len(names):
        raise RunError(f"result.json is damaged (class_names={_as_json(names)}: should differ)")
    _check_counts(read, result, provenance["decides"]["budget"])
    return read, result


def _check_counts(rounds: Sequence[Record], result: Record, budget: Record) -> None:
    before_last = range(budget["initial"], budget["total"], budget["per_round"])
    for source, count in (("result", result["rounds"]), ("budget", len(before_last) + 1)):
        if count != len(rounds):
            raise RunError(f"has {len(rounds)} rounds, its {source} is of {count}")
    labels = [*before_last, budget["total"]]
    queried = [after - before for before, after in pairwise(labels)] + [0]
    classes = len(result["class_names"])
    for number, record in enumerate(rounds):
        of_classes = record["queried_classes"]
        for what, there, due in (
            ("labelled", record["labelled"], labels[number]),
            ("length of per_class_accuracy", len(record["per_class_accuracy"]), classes),
            ("length of queried_classes", len(of_classes), classes),
            ("sum of queried_classes", sum(of_classes), queried[number]),
        ):
            if there != due:
                place = f"rounds.jsonl: line {number + 1}"
                raise RunError(f"{place} is damaged ({what}={there}: should be {due})")


def _values_read(place: str, record: Record, wanted: type[_Read]) -> Record:
    try:
        return wanted.model_validate(record).model_dump()
    except ValidationError as error:
        first = error.errors()[0]
        steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in first["loc"])
        key = "".join(steps).removeprefix(".")
        if first["type"] == "missing":
            raise RunError(f"{place} lacks {key}") from None
        should, _, _ = first["msg"].removeprefix("Input ").partition(" or instance of")
        raise RunError(f"{place} is damaged ({key}={_as_json(first['input'])}: {should})") from None


def _as_json(value: Any) -> str:
    return cut(json.dumps(value))


def _foreign(folder: Path, runs: Set[Path]) -> list[LeftOut]:
    """Folders with files of a run but no provenance.json: another program's, or damaged."""
    found = []
    for path, folders, files in os.walk(folder):
        if Path(path) in runs:
            folders.clear()
            continue
        folders[:] = sorted({*folders} - {"wandb"})
        if there := sorted({*files} & LIKE_A_RUN):
            found.append(LeftOut(Path(path), f"has {', '.join(there)} and no provenance.json"))
    return found


def _why_unfinished(stored: StoredRun) -> str:
    if stored.result is not None:
        return "has a result and no provenance.json"
    rounds = f"{len(stored.rounds)} round{'s' * (len(stored.rounds) != 1)}"
    if stored.error is not None:
        return f"failed after {rounds}: {stored.error['message']}"
    return f"is not finished: {rounds} so far"
