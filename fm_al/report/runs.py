"""The finished runs below a folder: which settings there are, and what is compared in each.

A setting is all that decides a run's figures but its seed, its device and what is compared:
strategies or, with `by`, the values of other keys. Runs of one setting and one seed started from
the same labels, so they are compared in pairs.
"""

from __future__ import annotations

import difflib
import json
import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from fm_al.errors import ConfigError, RunError
from fm_al.records import Record, StoredRun, area_under_curve, runs_below, stored_run

STRATEGY = ("strategy",)
# Keys that stand for the option of that name, and what of the configuration that is. BAIT alone
# trains before its first query in the FisherMask authors' code.
OPTIONS: Mapping[str, tuple[str, ...]] = {
    "dataset": ("dataset", "dataset_content"),
    "imbalance": ("imbalance",),
    "backbone": ("backbone",),
    "strategy": ("strategy", "budget.train_before_first_query"),
}
NOT_OF_A_SETTING = ("seed", "device")
LACKS = object()


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run. setting: the name of its setting. group: what of it is compared, by name."""

    directory: Path
    setting: str
    group: str
    seed: int
    provenance: Record
    rounds: list[Record]
    result: Record


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

    @property
    def settings(self) -> list[str]:
        """Their names, sorted."""
        return sorted({run.setting for run in self.runs}, key=by_numbers)

    @property
    def groups(self) -> list[str]:
        """The names of what is compared, sorted."""
        return sorted({run.group for run in self.runs}, key=by_numbers)

    def of(self, setting: str) -> Runs:
        """The runs of one setting."""
        return Runs([run for run in self.runs if run.setting == setting], (), self.by)

    def of_group(self, group: str) -> list[Run]:
        """The runs of a group, by seed."""
        return sorted((run for run in self.runs if run.group == group), key=lambda run: run.seed)

    # Of one setting:

    @property
    def labels(self) -> list[int]:
        """How many images are labelled in each round."""
        return [record["labelled"] for record in self.runs[0].rounds]

    @property
    def class_names(self) -> list[str]:
        return self.runs[0].result["class_names"]

    @property
    def seeds(self) -> list[int]:
        return sorted({run.seed for run in self.runs})

    def final(self, figure: str) -> pd.DataFrame:
        """A figure of the last round: a row for each seed, a column for each group, NaN where there
        is no such run."""
        return self._frame({run: run.rounds[-1][figure] for run in self.runs})

    def at(self, figure: str, labels: int) -> pd.DataFrame:
        """The same for the round of so many labels."""
        number = self.labels.index(labels)
        return self._frame({run: run.rounds[number][figure] for run in self.runs})

    def area(self, figure: str) -> pd.DataFrame:
        """The same for the area under a figure over labels, divided by their range."""
        return self._frame(
            {
                run: area_under_curve(self.labels, [record[figure] for record in run.rounds])
                for run in self.runs
            }
        )

    def _frame(self, values: Mapping[Run, float]) -> pd.DataFrame:
        columns: dict[str, dict[int, float]] = {group: {} for group in self.groups}
        for run, value in values.items():
            columns[run.group][run.seed] = float(value)
        return pd.DataFrame(columns, index=self.seeds, dtype=float)


@dataclass(frozen=True)
class _Found:
    """A finished run on its way into a report: options: the names of its options of some groups;
    flat: what decides its figures, by dotted keys."""

    stored: StoredRun
    provenance: Record
    result: Record
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
    return Runs(_named(compared, by, left_out), left_out, by)


def _finished(folder: Path, left_out: list[LeftOut]) -> Iterator[_Found]:
    for directory in runs_below(folder):
        try:
            stored = stored_run(directory)
            result, provenance = stored.result, stored.provenance
            if result is None or provenance is None:
                left_out.append(LeftOut(directory, _why_not_finished(stored)))
                continue
            if result["rounds"] != len(stored.rounds):
                why = f"has {len(stored.rounds)} rounds, its result is of {result['rounds']}"
                left_out.append(LeftOut(directory, why))
                continue
            flat = flattened(provenance["decides"])
            options = _options(directory, flat)
            yield _Found(stored, provenance, result, options, flat)
        except (RunError, OSError) as error:
            left_out.append(LeftOut(directory, str(error)))
        except (KeyError, TypeError, AttributeError) as error:
            left_out.append(LeftOut(directory, f"is damaged: {type(error).__name__} {error}"))


def _why_not_finished(stored: StoredRun) -> str:
    if stored.result is not None:
        return "has a result and no provenance.json"
    rounds = f"{len(stored.rounds)} round{'s' * (len(stored.rounds) != 1)}"
    if stored.error is not None:
        return f"failed after {rounds}: {stored.error['message']}"
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


def _options(directory: Path, flat: Mapping[str, Any]) -> dict[str, str]:
    """The names of a run's options, as its directory has them; where that was changed, those of the
    modules that they are made by."""
    *before, seed = directory.resolve().parts
    if before and "=" in before[-1]:
        before.pop()
    if len(before) > 3 and seed == f"seed{flat['seed']}" and before[-4] == flat["experiment_name"]:
        dataset, _, imbalance = before[-3].rpartition("-")
        names = dataset, imbalance, before[-2], before[-1]
    else:
        names = tuple(flat[f"{group}._target_"].split(".")[-2] for group in OPTIONS)
    return dict(zip(OPTIONS, names, strict=True))


def _check_key(option: str, key: str, found: Sequence[_Found]) -> None:
    there = sorted({*OPTIONS, *(key for run in found for key in run.flat)})
    if key not in there:
        close = difflib.get_close_matches(key, there, n=1)
        meant = f"; did you mean {close[0]}?" if close else ""
        raise ConfigError(
            f"{option} {key}: no run has such a key; there are {', '.join(there)}{meant}"
        )


def _is(value: Any, text: str) -> bool:
    if value is LACKS:
        return False
    try:
        typed = yaml.safe_load(text)
    except yaml.YAMLError:
        typed = text
    return text == value or (typed == value and isinstance(typed, bool) == isinstance(value, bool))


def _named(found: Sequence[_Found], by: Sequence[str], left_out: list[LeftOut]) -> list[Run]:
    compared_keys = [part for key in by for part in OPTIONS.get(key, (key,))]
    groups = {id(run): _canonical(run.part(compared_keys)) for run in found}
    settings = {}
    for run in found:
        not_of_it = run.part([*compared_keys, *NOT_OF_A_SETTING])
        settings[id(run)] = _canonical({k: v for k, v in run.flat.items() if k not in not_of_it})

    same: defaultdict[Hashable, list[_Found]] = defaultdict(list)
    for run in found:
        same[settings[id(run)], groups[id(run)], run.flat["seed"]].append(run)
    single = []
    for runs in same.values():
        if len(runs) == 1:
            single += runs
            continue
        differ = ", ".join(_differing([run.flat for run in runs])) or "nothing"
        for run in runs:
            other = next(each for each in runs if each is not run).stored.directory
            why = f"is the same as {other} but for {differ}: choose one with --where"
            left_out.append(LeftOut(run.stored.directory, why))

    setting_names = _setting_names(single, settings)
    group_names = _group_names(single, by, settings, groups, compared_keys)
    return [
        Run(
            run.stored.directory,
            setting_names[settings[id(run)]],
            group_names[groups[id(run)]],
            run.flat["seed"],
            run.provenance,
            run.stored.rounds,
            run.result,
        )
        for run in single
    ]


def _setting_names(runs: Sequence[_Found], settings: Mapping[int, str]) -> dict[str, str]:
    """By experiment, data and backbone, as few as tell them apart, and by what else differs."""
    first = {settings[id(run)]: run for run in reversed(runs)}
    levels = {
        key: (
            run.flat["experiment_name"],
            f"{run.options['dataset']}-{run.options['imbalance']}",
            run.options["backbone"],
        )
        for key, run in first.items()
    }
    details = {
        key: {n: v for n, v in run.flat.items() if n not in ("experiment_name", *NOT_OF_A_SETTING)}
        for key, run in first.items()
    }
    names: dict[str, str] = {}
    for kept in ((0,), (1,), (0, 1), (0, 1, 2)):
        names = {key: "/".join(parts[n] for n in kept) for key, parts in levels.items()}
        if len({*names.values()}) == len(names):
            return names
    differ = [n for n in range(3) if len({parts[n] for parts in levels.values()}) > 1] or [0]
    names = {key: "/".join(parts[n] for n in differ) for key, parts in levels.items()}
    return _told_apart(names, details)


def _group_names(
    runs: Sequence[_Found],
    by: Sequence[str],
    settings: Mapping[int, str],
    groups: Mapping[int, str],
    compared_keys: Sequence[str],
) -> dict[str, str]:
    """By the values compared, and by options where a name stands for several in one setting."""
    names, parts = {}, {}
    of_name: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for run in runs:
        group = groups[id(run)]
        values = [
            run.options[key]
            if key in run.options
            else f"{key.rpartition('.')[2]}={shown(run.value(key))}"
            for key in by
        ]
        names[group], parts[group] = ", ".join(values), run.part(compared_keys)
        of_name[settings[id(run)], names[group]].add(group)
    ambiguous = {name for (_, name), several in of_name.items() if len(several) > 1}
    apart = _told_apart({group: name for group, name in names.items() if name in ambiguous}, parts)
    return names | apart


def _told_apart(names: Mapping[str, str], details: Mapping[str, dict[str, Any]]) -> dict[str, str]:
    """Names, those that are given several times with the values in which their details differ."""
    of_name: defaultdict[str, list[str]] = defaultdict(list)
    for key, name in names.items():
        of_name[name].append(key)
    apart = dict(names)
    for name, keys in of_name.items():
        if len(keys) > 1:
            differ = _differing([details[key] for key in keys])
            for key in keys:
                values = [
                    f"{option.rpartition('.')[2]}={shown(details[key].get(option))}"
                    for option in differ
                ]
                apart[key] = f"{name} ({', '.join(values)})"
    return apart


def _differing(records: Sequence[Mapping[str, Any]]) -> list[str]:
    keys = sorted({key for record in records for key in record})
    return [
        key
        for key in keys
        if len({_canonical(record[key]) if key in record else "" for record in records}) > 1
    ]


def shown(value: Any) -> str:
    """A value as it would be typed."""
    return value if isinstance(value, str) else json.dumps(value)


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def by_numbers(name: str) -> list[Any]:
    """A key to sort names by, the numbers in them by their size."""
    parts = re.split(r"(\d+(?:\.\d+)?)", name)
    return [float(part) if odd % 2 else part for odd, part in enumerate(parts)]
