"""Names of settings and groups, and which runs belong to which.

A setting is everything that affects results except strategy, seed and device; or except the keys
that are compared, if these are others. Names are as short as they can be without ambiguity.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from fm_al.records.naming import cut
from fm_al.report.reading import FEATURES, OPTIONS
from fm_al.report.runs import FinishedRun, LeftOut, Run
from fm_al.report.values import MISSING, canonical, format_value, option_of, start_is_strategy
from fm_al.report.variants import with_variants

NOT_OF_A_SETTING = ("seed", "device")
LONGEST_NAME = 100  # characters of a group's name
# In these, runs differ that make the same rounds as parts of different budgets.
NO_MATTER: dict[str, Any] = {
    "seconds": {},
    "digest": "",
    "weights_digest": None,
    "confusion_matrix": [],
}
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class _Placed:
    """A finished run, and what identifies its setting and its group within the setting."""

    run: FinishedRun
    setting: str
    group: str


def named_runs(
    finished: Sequence[FinishedRun], by: Sequence[str], left_out: list[LeftOut]
) -> list[Run]:
    """Sort runs into settings and groups, and name these.

    Args:
        finished: The runs to report on.
        by: The keys whose values are compared.
        left_out: Receives copies, and runs that cannot be told apart.
    """
    compared_keys = [part for key in by for part in OPTIONS.get(key, (key,))]
    placed = _without_duplicates([_place(run, compared_keys) for run in finished], left_out)
    setting_names = _setting_names({each.setting: each.run for each in placed}, compared_keys, by)
    of_settings: defaultdict[str, dict[str, FinishedRun]] = defaultdict(dict)
    for each in placed:
        of_settings[each.setting][each.group] = each.run
    compared = {
        setting: {group: run.part(compared_keys) for group, run in of_groups.items()}
        for setting, of_groups in of_settings.items()
    }
    short_names = {
        setting: {group: _group_name(run, by) for group, run in of_groups.items()}
        for setting, of_groups in of_settings.items()
    }
    group_names = {
        setting: _unambiguous(names, compared[setting])
        for setting, names in with_variants(short_names, compared).items()
    }
    return [
        Run(
            **{field.name: getattr(each.run, field.name) for field in fields(each.run)},
            setting=setting_names[each.setting],
            group=group_names[each.setting][each.group],
        )
        for each in placed
    ]


def _place(run: FinishedRun, compared_keys: Sequence[str]) -> _Placed:
    compared = run.part(_compared(run, compared_keys))
    return _Placed(run, canonical(_shared(run, compared_keys)), canonical(compared))


def _compared(run: FinishedRun, compared_keys: Sequence[str]) -> list[str]:
    """The keys that are compared, without features that the first labels were chosen by."""
    starts_by_features = "budget.start.strategy._target_" in run.flat
    return [key for key in compared_keys if not (starts_by_features and key in FEATURES)]


def _shared(run: FinishedRun, compared_keys: Sequence[str]) -> dict[str, Any]:
    """What a run shares with all others of its setting."""
    varied = run.part([*_compared(run, compared_keys), *NOT_OF_A_SETTING])
    return {key: value for key, value in run.flat.items() if key not in varied}


def _without_duplicates(placed: Sequence[_Placed], left_out: list[LeftOut]) -> list[_Placed]:
    """One run for each setting, group and seed."""
    same: defaultdict[tuple[str, str, int], list[_Placed]] = defaultdict(list)
    for each in placed:
        same[each.setting, each.group, each.run.seed].append(each)
    kept = []
    for duplicates in same.values():
        chosen = _original([each.run for each in duplicates], left_out)
        kept += [each for each in duplicates if each.run is chosen]
    return kept


def _original(runs: Sequence[FinishedRun], left_out: list[LeftOut]) -> FinishedRun | None:
    """The first of several runs with the same setting, group and seed if the others are copies of
    it, or repeat its rounds; None if they differ."""
    first, *others = sorted(runs, key=_displacement)
    if all(_repeats(other, first) for other in others):
        for copy in others:
            why = "is a copy of" if copy.rounds == first.rounds else "repeats the rounds of"
            left_out.append(LeftOut(copy.directory, f"{why} {first.directory}"))
        return first
    remedy = "keep one, or report on a folder that contains one"
    if differ := _differing([run.flat for run in runs]):
        remedy = f"they differ in {', '.join(differ)}; choose one with --where"
    for run in runs:
        other = next(each for each in runs if each is not run).directory
        left_out.append(
            LeftOut(run.directory, f"has the same setting and seed as {other}: {remedy}")
        )
    return None


def _repeats(run: FinishedRun, other: FinishedRun) -> bool:
    """Whether a run has the rounds of another one. Of runs that were started with different budgets
    and then cut, the picks and the metrics count."""
    totals = {each.provenance.decides["budget"]["total"] for each in (run, other)}
    if len(totals) == 1:
        return run.rounds == other.rounds
    mine, others = (
        [record.model_copy(update=NO_MATTER) for record in each.rounds] for each in (run, other)
    )
    return mine == others


def _displacement(run: FinishedRun) -> tuple[bool, int]:
    """Sorts a run that lies where it was written before its copies."""
    parts = run.directory.resolve().parts
    in_place = run.flat["experiment_name"] in parts and parts[-1] == f"seed{run.seed}"
    return not in_place, len(parts)


def _setting_names(
    of_settings: Mapping[str, FinishedRun], compared_keys: Sequence[str], by: Sequence[str]
) -> dict[str, str]:
    """Names from the fewest levels that distinguish the settings; if none do, from all levels
    that differ, with the values that differ."""
    levels = {setting: _levels(run, by) for setting, run in of_settings.items()}

    def joined(chosen: Sequence[int]) -> dict[str, str]:
        return {
            setting: "/".join(parts[n] for n in chosen if parts[n])
            for setting, parts in levels.items()
        }

    for chosen in ((0,), (1,), (3,), (0, 1), (0, 3), (0, 1, 2), (0, 1, 2, 3)):
        names = joined(chosen)
        if len({*names.values()}) == len(names) and all(names.values()):
            return names
    differ = [n for n in range(4) if len({parts[n] for parts in levels.values()}) > 1] or [0]
    details = {setting: _details(run, compared_keys) for setting, run in of_settings.items()}
    return _unambiguous(joined(differ), details)


def _details(run: FinishedRun, compared_keys: Sequence[str]) -> dict[str, Any]:
    """What a run shares with its setting, with the name of its start for the start's classes."""
    details = _shared(run, compared_keys)
    if "budget.start" in compared_keys:
        return details
    start = run.config["budget"].get("start")
    told = {"budget.start._target_"}
    if start and start_is_strategy(start):
        told.add("budget.start.strategy._target_")
    named = {"budget.start": run.value("budget.start")}
    return {key: value for key, value in details.items() if key not in told} | named


def _levels(run: FinishedRun, by: Sequence[str]) -> tuple[str, ...]:
    """Experiment, data, backbone and strategy of a run, each empty if it is compared."""

    def named(*groups: str) -> str:
        return "-".join(run.options[group] for group in groups if group not in by)

    experiment = "" if "experiment_name" in by else run.flat["experiment_name"]
    return experiment, named("dataset", "imbalance"), named("backbone"), named("strategy")


def _group_name(run: FinishedRun, by: Sequence[str]) -> str:
    return " ".join(
        run.options[key] if key in run.options else _assignment(key, run.value(key)) for key in by
    )


def _unambiguous(
    names: Mapping[Key, str], details: Mapping[Key, Mapping[str, Any]]
) -> dict[Key, str]:
    """Names, with some of the values that differ where several share a name."""
    with_name: defaultdict[str, list[Key]] = defaultdict(list)
    for key, name in names.items():
        with_name[name].append(key)
    unambiguous = dict(names)
    for name, keys in with_name.items():
        if len(keys) == 1:
            continue
        options = _distinguishing([details[key] for key in keys])
        taken: Counter[str] = Counter()
        for key in keys:
            values = (_assignment(each, details[key].get(each, MISSING)) for each in options)
            text = cut(f"{name} ({', '.join(values)})", LONGEST_NAME)
            taken[text] += 1
            unambiguous[key] = text if taken[text] == 1 else f"{text} {taken[text]}"
    return unambiguous


def _assignment(key: str, value: Any) -> str:
    if key.endswith("._target_"):
        key = key.removesuffix("._target_")
        value = value if value is MISSING else option_of(value)
    return f"{key.rpartition('.')[2]}={format_value(value)}"


def _distinguishing(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Few keys whose values distinguish all records: of those that change together, one."""
    chosen: list[str] = []
    for _ in records:
        candidates = [key for key in _differing(records) if key not in chosen]
        parts = {key: _part_count(records, [*chosen, key]) for key in candidates}
        if not parts or max(parts.values()) == _part_count(records, chosen):
            break
        chosen.append(max(candidates, key=lambda key: parts[key]))
    return sorted(chosen)


def _part_count(records: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> int:
    """Into how many parts the values of these keys divide the records."""
    return len({tuple(_comparable(record, key) for key in keys) for record in records})


def _differing(records: Sequence[Mapping[str, Any]]) -> list[str]:
    keys = sorted({key for record in records for key in record})
    return [key for key in keys if len({_comparable(record, key) for record in records}) > 1]


def _comparable(record: Mapping[str, Any], key: str) -> str:
    return canonical(record[key]) if key in record else ""
