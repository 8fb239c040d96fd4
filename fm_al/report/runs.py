"""The finished runs below a folder: which settings there are, and what is compared in each.

A setting is all that decides a run's figures but its seed, its device and what is compared:
strategies or, with `by`, the values of other keys. Runs of one setting are compared in pairs of one
seed: these started from the same labels, unless what is compared decides those, see
`Runs.start_alike`.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from fm_al.errors import ConfigError, RunError
from fm_al.records.curve import area_under_curve
from fm_al.records.discovery import runs_below
from fm_al.records.naming import option_names
from fm_al.records.reading import StoredRun, stored_run
from fm_al.records.result_config import Config
from fm_al.report.text import all_printable, printable

STRATEGY = ("strategy",)
# Keys that stand for the option of that name, and what of the configuration that is. BAIT alone
# trains before its first query in the FisherMask authors' code.
OPTIONS: Mapping[str, tuple[str, ...]] = {
    "dataset": ("dataset", "dataset_content"),
    "imbalance": ("imbalance",),
    "backbone": ("backbone",),
    "strategy": ("strategy", "budget.train_before_first_query"),
}
LIKE_A_RUN = {"config.yaml", "rounds.jsonl", "result.json"}
NOT_OF_A_SETTING = ("seed", "device")
LACKS = object()
LONGEST_NAME = 100  # characters
# What, beside the seed, the first labels are drawn from, and what of that only changes how images
# look.
DECIDES_START = ("dataset", "dataset_content", "imbalance", "budget.initial")
LOOKS = tuple(
    f"dataset.{name}" for name in ("pad_to", "mean", "std", "crop_padding", "horizontal_flip")
)

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


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run. setting: the name of its setting. group: what of it is compared, by name.
    options: the names of its options of some groups."""

    directory: Path
    setting: str
    group: str
    seed: int
    provenance: Config
    rounds: Sequence[Config]
    result: Config
    options: Mapping[str, str]

    def at(self, labels: int) -> Config:
        """The record of the round of so many labels."""
        return self._by_labels[labels]

    @cached_property
    def _by_labels(self) -> Mapping[int, Config]:
        return {record["labelled"]: record for record in self.rounds}


@dataclass(frozen=True)
class LeftOut:
    """A run's folder that the report does not use, and why."""

    directory: Path
    why: str


@dataclass(frozen=True)
class Runs:
    """What a report is of. by: the keys whose values are compared."""

    runs: Sequence[Run]
    left_out: Sequence[LeftOut] = ()
    by: Sequence[str] = STRATEGY

    @cached_property
    def settings(self) -> list[str]:
        """Their names, sorted."""
        return sorted({run.setting for run in self.runs}, key=by_numbers)

    @cached_property
    def groups(self) -> list[str]:
        """The names of what is compared, sorted."""
        return sorted({run.group for run in self.runs}, key=by_numbers)

    def of(self, setting: str) -> Runs:
        """The runs of one setting."""
        return self._of_settings[setting]

    @cached_property
    def _of_settings(self) -> Mapping[str, Runs]:
        of_settings: defaultdict[str, list[Run]] = defaultdict(list)
        for run in self.runs:
            of_settings[run.setting].append(run)
        return {setting: Runs(runs, (), self.by) for setting, runs in of_settings.items()}

    def of_group(self, group: str) -> list[Run]:
        """The runs of a group, by seed."""
        return self._of_groups[group]

    @cached_property
    def _of_groups(self) -> Mapping[str, list[Run]]:
        of_groups: defaultdict[str, list[Run]] = defaultdict(list)
        for run in sorted(self.runs, key=lambda run: run.seed):
            of_groups[run.group].append(run)
        return dict(of_groups)

    @property
    def start_alike(self) -> bool:
        """Whether runs of one setting and one seed started from the same labels."""
        decides_start = tuple(f"{key}." for key in DECIDES_START)
        return not any(f"{key}.".startswith(decides_start) and key not in LOOKS for key in self.by)

    # Of one setting:

    @cached_property
    def labels(self) -> list[int]:
        """The numbers of labels at which runs are compared: those that all have; without the first
        where some of them, and not others, were trained before their first query."""
        of_runs = [{record["labelled"] for record in run.rounds} for run in self.runs]
        common = sorted(set.intersection(*of_runs))
        return common[1:] if self.differ_at_first and len(common) > 1 else common

    @property
    def labels_after_first(self) -> list[int]:
        """Those at which strategies had a say: in the first round all have the same labels."""
        first = {run.rounds[0]["labelled"] for run in self.runs}
        return [labels for labels in self.labels if labels not in first]

    @property
    def differ_at_first(self) -> bool:
        """Whether some were trained before their first query, and others not."""
        budgets = [run.provenance["decides"]["budget"] for run in self.runs]
        return len({budget.get("train_before_first_query", True) for budget in budgets}) > 1

    @property
    def class_names(self) -> list[str] | None:
        """None where runs have different ones."""
        names = self.runs[0].result["class_names"]
        return names if all(run.result["class_names"] == names for run in self.runs) else None

    @cached_property
    def seeds(self) -> list[int]:
        return sorted({run.seed for run in self.runs})

    def at(self, figure: str, labels: int) -> pd.DataFrame:
        """A figure of the round of so many labels: a row for each seed, a column for each group,
        NaN where there is no such run."""
        return self.framed({run: run.at(labels)[figure] for run in self.runs})

    def final(self, figure: str) -> pd.DataFrame:
        """The same at the largest number of labels."""
        return self.at(figure, self.labels[-1])

    def area(self, figure: str) -> pd.DataFrame:
        """The same for the area under a figure over labels, divided by their range."""
        labels = self.labels
        return self.framed(
            {
                run: area_under_curve(labels, [run.at(each)[figure] for each in labels])
                for run in self.runs
            }
        )

    def framed(self, values: Mapping[Run, float]) -> pd.DataFrame:
        """A value of each run, as a row for each seed and a column for each group."""
        columns: dict[str, dict[int, float]] = {group: {} for group in self.groups}
        for run, value in values.items():
            columns[run.group][run.seed] = float(value)
        return pd.DataFrame(columns, index=self.seeds, dtype=float)


@dataclass(frozen=True)
class _Found:
    """A finished run on its way into a report: rounds, result: what a report reads of them;
    options: the names of its options of some groups; flat: what decides its figures, by dotted
    keys."""

    stored: StoredRun
    provenance: Config
    rounds: Sequence[Config]
    result: Config
    options: Mapping[str, str]
    flat: Mapping[str, Any]

    def value(self, key: str) -> Any:
        """Of a key of the configuration, or LACKS."""
        return self.options[key] if key in self.options else self.flat.get(key, LACKS)

    def part(self, keys: Iterable[str]) -> dict[str, Any]:
        """What stands at and below these keys."""
        prefixes = tuple(f"{key}." for key in keys)
        return {k: v for k, v in self.flat.items() if f"{k}.".startswith(prefixes)}


def read_runs(
    folder: Path, where: Mapping[str, Sequence[str]] | None = None, by: Sequence[str] = STRATEGY
) -> Runs:
    """The finished runs in a folder and below that have, for each key of `where`, one of its
    values. by: see `Runs`; keys of the configuration, or `strategy`, `dataset`, `imbalance` and
    `backbone`, for the option's name.

    Raises ConfigError for a key that no run has, and where no finished run is left.
    """
    where = where or {}
    left_out: list[LeftOut] = []
    found = list(_finished(folder, left_out))
    if not found:
        also = "".join(f"; {each.directory} {each.why}" for each in left_out[:3])
        raise ConfigError(f"{folder}: no finished runs are here or below{also}")
    for key in where:
        _check_key("--where", key, found)
    for key in by:
        _check_key("--by", key, found)
        if key == "seed":
            raise ConfigError(
                "--by seed: runs are paired by their seed; use --where to choose some"
            )
    wanted = [
        run
        for run in found
        if all(any(_is(run.value(key), text) for text in where[key]) for key in where)
    ]
    if not wanted:
        asked = " ".join(f"{key}={','.join(values)}" for key, values in where.items())
        raise ConfigError(f"--where {asked}: none of the {len(found)} finished runs has that")
    compared = []
    for run in wanted:
        lacks = [key for key in by if run.value(key) is LACKS]
        if lacks:
            left_out.append(LeftOut(run.stored.directory, f"has no {lacks[0]} to compare by"))
        else:
            compared.append(run)
    runs = Runs(_named(compared, by, left_out), left_out, by)
    if not runs.runs:
        first = f"{left_out[-1].directory} {left_out[-1].why}"
        raise ConfigError(f"{folder}: no run is left to report on; {first}")
    for setting in runs.settings:
        if not runs.of(setting).labels:
            raise ConfigError(
                f"--by {','.join(by)}: the runs of {setting} have no number of labels in common"
            )
    return runs


def _finished(folder: Path, left_out: list[LeftOut]) -> Iterator[_Found]:
    directories = runs_below(folder)
    left_out += _foreign(folder, {*directories})
    for directory in directories:
        try:
            stored = stored_run(directory)
            if stored.result is None or stored.provenance is None:
                left_out.append(LeftOut(directory, _why_not_finished(stored)))
                continue
            provenance = stored.provenance.as_json()
            provenance["decides"] = stored.provenance.result_config
            written = [record.as_json() for record in stored.rounds]
            rounds, result = _checked(written, stored.result.as_json(), provenance)
            options = all_printable(option_names(directory, provenance["decides"]))
            provenance = all_printable(provenance)
            flat = flattened(provenance["decides"])
            yield _Found(stored, provenance, rounds, result, options, flat)
        except (RunError, OSError) as error:
            left_out.append(LeftOut(directory, str(error).replace(f"{directory}/", "")))


def _checked(
    rounds: Sequence[Config], result: Config, provenance: Config
) -> tuple[list[Config], Config]:
    """What a report reads of rounds and result. Raises RunError where none can be made of these."""
    if lacks := [key for key in _Round.model_fields if not all(key in each for each in rounds)]:
        raise RunError(f"has rounds without {', '.join(lacks)}")
    read = [
        _values_read(f"rounds.jsonl: line {number}", record, _Round)
        for number, record in enumerate(rounds, 1)
    ]
    result = _values_read("result.json", result, _Result)
    _values_read("provenance.json", provenance, _Provenance)
    if len({*(names := result["class_names"])}) < len(names):
        raise RunError(f"result.json is damaged (class_names={_json(names)}: should differ)")
    _check_counts(read, result, provenance["decides"]["budget"])
    return read, result


def _check_counts(rounds: Sequence[Config], result: Config, budget: Config) -> None:
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


def _values_read(place: str, record: Config, wanted: type[_Read]) -> Config:
    try:
        return wanted.model_validate(record).model_dump()
    except ValidationError as error:
        first = error.errors()[0]
        steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in first["loc"])
        key = "".join(steps).removeprefix(".")
        if first["type"] == "missing":
            raise RunError(f"{place} lacks {key}") from None
        should, _, _ = first["msg"].removeprefix("Input ").partition(" or instance of")
        raise RunError(f"{place} is damaged ({key}={_json(first['input'])}: {should})") from None


def _json(value: Any) -> str:
    return _cut(json.dumps(value))


def _foreign(folder: Path, runs: Set[Path]) -> list[LeftOut]:
    """What looks like a run, and is none of ours or lost what says of what."""
    found = []
    for path, folders, files in os.walk(folder):
        if Path(path) in runs:
            folders.clear()
            continue
        folders[:] = sorted({*folders} - {"wandb"})
        if there := sorted({*files} & LIKE_A_RUN):
            found.append(LeftOut(Path(path), f"has {', '.join(there)} and no provenance.json"))
    return found


def _why_not_finished(stored: StoredRun) -> str:
    if stored.result is not None:
        return "has a result and no provenance.json"
    rounds = f"{len(stored.rounds)} round{'s' * (len(stored.rounds) != 1)}"
    if stored.error is not None:
        return f"failed after {rounds}: {stored.error.message}"
    return f"is not finished: {rounds} so far"


def flattened(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of nested mappings by dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping) and value:
            flat |= flattened(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _check_key(option: str, key: str, found: Sequence[_Found]) -> None:
    there = sorted({*OPTIONS, *(key for run in found for key in run.flat)})
    if key not in there:
        close = difflib.get_close_matches(key, there, n=1)
        meant = f", but {close[0]}, if you mean that" if close else ""
        raise ConfigError(
            f"{option} {key}: no run has such a key{meant}; there are {', '.join(there)}"
        )


def _is(value: Any, text: str) -> bool:
    if value is LACKS:
        return False
    text = printable(text)
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(text) == value
        except ValueError:
            return False
    if isinstance(value, list | dict):
        with contextlib.suppress(ValueError):
            return bool(json.loads(text) == value)
    return text == shown(value)


def _named(found: Sequence[_Found], by: Sequence[str], left_out: list[LeftOut]) -> list[Run]:
    compared_keys = [part for key in by for part in OPTIONS.get(key, (key,))]
    identities = {id(run): _canonical(run.part(compared_keys)) for run in found}
    settings: dict[int, str] = {}
    kept: dict[str, dict[str, Any]] = {}
    for run in found:
        not_of_it = run.part([*compared_keys, *NOT_OF_A_SETTING])
        of_it = {key: value for key, value in run.flat.items() if key not in not_of_it}
        settings[id(run)] = _canonical(of_it)
        kept[settings[id(run)]] = of_it

    same: defaultdict[Hashable, list[_Found]] = defaultdict(list)
    for run in found:
        same[settings[id(run)], identities[id(run)], run.flat["seed"]].append(run)
    single = [run for runs in same.values() for run in _one_of(runs, left_out)]

    levels = {settings[id(run)]: _levels(run, by) for run in single}
    setting_names = _setting_names(levels, {key: kept[key] for key in levels})
    groups: defaultdict[str, dict[str, _Found]] = defaultdict(dict)
    for run in single:
        groups[settings[id(run)]][identities[id(run)]] = run
    group_names = {
        key: _told_apart(
            {each: _group_name(run, by) for each, run in of_setting.items()},
            {each: run.part(compared_keys) for each, run in of_setting.items()},
        )
        for key, of_setting in groups.items()
    }
    return [
        Run(
            run.stored.directory,
            setting_names[settings[id(run)]],
            group_names[settings[id(run)]][identities[id(run)]],
            run.flat["seed"],
            run.provenance,
            run.rounds,
            run.result,
            run.options,
        )
        for run in single
    ]


def _one_of(runs: Sequence[_Found], left_out: list[LeftOut]) -> Sequence[_Found]:
    """Of runs that are the same in what a report tells apart, the first if the others are copies of
    it; else none."""
    first, *others = sorted(runs, key=_how_far_put_aside)
    if all(other.stored.rounds == first.stored.rounds for other in others):
        copy = f"is a copy of {first.stored.directory}"
        left_out += [LeftOut(other.stored.directory, copy) for other in others]
        return [first]
    differ = _differing([run.flat for run in runs])
    remedy = "keep one, or report on a folder that holds one"
    if differ:
        remedy = f"they differ in {', '.join(differ)}, by which --where chooses"
    for run in runs:
        other = next(each for each in runs if each is not run).stored.directory
        why = f"is of the same setting and seed as {other}: {remedy}"
        left_out.append(LeftOut(run.stored.directory, why))
    return []


def _how_far_put_aside(run: _Found) -> tuple[bool, int]:
    """Of a run that lies where it was written less than of a copy."""
    parts = run.stored.directory.resolve().parts
    is_there = run.flat["experiment_name"] in parts and parts[-1] == f"seed{run.flat['seed']}"
    return not is_there, len(parts)


def _levels(run: _Found, by: Sequence[str]) -> tuple[str, ...]:
    """What names its setting: experiment, data, backbone and, where others are compared, strategy;
    without what is compared."""

    def named(*groups: str) -> str:
        return "-".join(run.options[group] for group in groups if group not in by)

    strategy = "" if "strategy" in by else run.options["strategy"]
    experiment = "" if "experiment_name" in by else run.flat["experiment_name"]
    return experiment, named("dataset", "imbalance"), named("backbone"), strategy


def _setting_names(
    levels: Mapping[str, Sequence[str]], kept: Mapping[str, Mapping[str, Any]]
) -> dict[str, str]:
    """By as few levels as tell settings apart, else by all that differ and what else does."""
    names: dict[str, str] = {}
    for chosen in ((0,), (1,), (3,), (0, 1), (0, 3), (0, 1, 2), (0, 1, 2, 3)):
        names = {
            key: "/".join(parts[n] for n in chosen if parts[n]) for key, parts in levels.items()
        }
        if len({*names.values()}) == len(names) and all(names.values()):
            return names
    differ = [n for n in range(4) if len({parts[n] for parts in levels.values()}) > 1] or [0]
    names = {key: "/".join(parts[n] for n in differ if parts[n]) for key, parts in levels.items()}
    return _told_apart(names, kept)


def _group_name(run: _Found, by: Sequence[str]) -> str:
    values = [
        run.options[key]
        if key in run.options
        else f"{key.rpartition('.')[2]}={shown(run.value(key))}"
        for key in by
    ]
    return " ".join(values)


def _told_apart(
    names: Mapping[str, str], details: Mapping[str, Mapping[str, Any]]
) -> dict[str, str]:
    """Names, those that are given several times with the values in which their details differ."""
    of_name: defaultdict[str, list[str]] = defaultdict(list)
    for key, name in names.items():
        of_name[name].append(key)
    apart = dict(names)
    for name, keys in of_name.items():
        if len(keys) == 1:
            continue
        differ = _differing([details[key] for key in keys])
        taken: Counter[str] = Counter()
        for key in keys:
            values = [
                f"{option.rpartition('.')[2]}={shown(details[key].get(option, LACKS))}"
                for option in differ
            ]
            text = _cut(f"{name} ({', '.join(values)})")
            taken[text] += 1
            apart[key] = text if taken[text] == 1 else f"{text} {taken[text]}"
    return apart


def _cut(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _differing(records: Sequence[Mapping[str, Any]]) -> list[str]:
    keys = sorted({key for record in records for key in record})
    return [
        key
        for key in keys
        if len({_canonical(record[key]) if key in record else "" for record in records}) > 1
    ]


def shown(value: Any) -> str:
    """A value as it would be typed; a dash for one that is not there."""
    if value is LACKS:
        return "–"
    return value if isinstance(value, str) else json.dumps(value)


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def by_numbers(name: str) -> list[Any]:
    """A key to sort names by, the numbers in them by their size."""
    parts = re.split(r"(\d+(?:\.\d+)?)", name)
    return [float(part) if odd % 2 else part for odd, part in enumerate(parts)]
