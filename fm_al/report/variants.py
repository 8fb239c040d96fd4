"""The ways in which BAIT and FisherMask are run, and names for groups that differ in nothing else.

`docs/fisher.md` explains the options, `docs/evidence.md` shows what they are worth.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from fm_al.report.text import listed
from fm_al.report.values import canonical

PUBLISHED = "as published"
OPTIONS = (
    *("regularization", "regularization_scale"),
    *("pool_fisher", "labelled_weight", "temperature"),
)
WAYS = {
    PUBLISHED: (1, "absolute", "pool", "mean", 1),
    "rescaled": (0.01, "information", "pool", "mean", 1),
    "repaired": (0.01, "information", "soft_class_balanced", "each", "calibrated"),
}
Setting = TypeVar("Setting", bound=Hashable)
Group = TypeVar("Group", bound=Hashable)
Options = Mapping[str, Any]  # by dotted key


def with_ways(
    names: Mapping[Setting, Mapping[Group, str]],
    options: Mapping[Setting, Mapping[Group, Options]],
) -> dict[Setting, dict[Group, str]]:
    """Add the way to names that several groups of a setting share: `bait (as published)`.

    This is done where each of the groups is one of `WAYS` and they differ in nothing else. A name
    that is told apart by ways in one setting is so in all, since settings are compared as well.

    Args:
        names: By setting and group.
        options: In which groups may differ, by setting and group.
    """
    found: dict[tuple[Setting, str], dict[Group, str]] = {}
    for setting, of_groups in names.items():
        sharing: defaultdict[str, list[Group]] = defaultdict(list)
        for group, name in of_groups.items():
            sharing[name].append(group)
        for name, groups in sharing.items():
            if ways := _ways([options[setting][group] for group in groups]):
                found[setting, name] = dict(zip(groups, ways, strict=True))
    told_apart = {name for (_, name), ways in found.items() if len(ways) > 1}
    return {
        setting: {
            group: _named(name, found[setting, name][group])
            if name in told_apart and (setting, name) in found
            else name
            for group, name in of_groups.items()
        }
        for setting, of_groups in names.items()
    }


def group_of_paper(strategy: str, groups: Iterable[str]) -> str:
    """The group that is a strategy of the paper: the published one if groups are told apart."""
    published = _named(strategy, PUBLISHED)
    return published if published in groups else strategy


def gathered(groups: Iterable[str]) -> list[str]:
    """Groups for a sentence, those of a strategy as one: `bait (as published and repaired)`."""
    of_strategies: dict[str, list[str]] = {}
    for group in groups:
        strategy, way = parted(group)
        of_strategies.setdefault(strategy, []).extend([way] if way else [])
    return [_named(k, listed(ways)) if ways else k for k, ways in of_strategies.items()]


def parted(group: str) -> tuple[str, str | None]:
    """The strategy and the way of a group; None if its name has no way."""
    for way in WAYS:
        if group.endswith(ending := _named("", way)):
            return group.removesuffix(ending), way
    return group, None


def _named(strategy: str, way: str) -> str:
    return f"{strategy} ({way})"


def _ways(records: Sequence[Options]) -> list[str] | None:
    """The way of each; None if one is no way, two are the same, or they differ in more."""
    ways = [way for record in records if (way := _way(record))]
    others = {canonical({k: v for k, v in each.items() if not _option(k)}) for each in records}
    return ways if len({*ways}) == len(records) and len(others) == 1 else None


def _way(record: Options) -> str | None:
    options = {name: value for key, value in record.items() if (name := _option(key))}
    given = tuple(options.get(name) for name in OPTIONS)
    return next((way for way, values in WAYS.items() if values == given), None)


def _option(key: str) -> str | None:
    """Which of the options a key is: `strategy.fishermask.temperature` is `temperature`."""
    name = key.rpartition(".")[2]
    return name if name in OPTIONS else None
