"""The variants of BAIT and FisherMask, and names for groups that differ in nothing else.

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
VARIANTS = {
    PUBLISHED: (1, "absolute", "pool", "mean", 1),
    "rescaled": (0.01, "information", "pool", "mean", 1),
    "repaired": (0.01, "information", "soft_class_balanced", "each", "calibrated"),
}
Setting = TypeVar("Setting", bound=Hashable)
Group = TypeVar("Group", bound=Hashable)
Options = Mapping[str, Any]  # by dotted key


def with_variants(
    names: Mapping[Setting, Mapping[Group, str]],
    options: Mapping[Setting, Mapping[Group, Options]],
) -> dict[Setting, dict[Group, str]]:
    """Add the variant to names that several groups of a setting share: `bait (as published)`.

    This is done where each of the groups is one of `VARIANTS` and they differ in nothing else. If
    that tells a name apart in one setting, it is done in all, since settings are compared as well.

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
            if variants := _variants([options[setting][group] for group in groups]):
                found[setting, name] = dict(zip(groups, variants, strict=True))
    told_apart = {name for (_, name), variants in found.items() if len(variants) > 1}
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
        strategy, variant = parted(group)
        of_strategies.setdefault(strategy, []).extend([variant] if variant else [])
    return [_named(k, listed(variants)) if variants else k for k, variants in of_strategies.items()]


def parted(group: str) -> tuple[str, str | None]:
    """The strategy and the variant of a group; None if its name has no variant."""
    for variant in VARIANTS:
        if group.endswith(ending := _named("", variant)):
            return group.removesuffix(ending), variant
    return group, None


def _named(strategy: str, variant: str) -> str:
    return f"{strategy} ({variant})"


def _variants(records: Sequence[Options]) -> list[str] | None:
    """The variant of each; None if one is no variant, two are the same, or they differ in more."""
    variants = [variant for record in records if (variant := variant_of(record))]
    others = {canonical({k: v for k, v in each.items() if not _option(k)}) for each in records}
    return variants if len({*variants}) == len(records) and len(others) == 1 else None


def variant_of(record: Options) -> str | None:
    """The variant that options of a strategy are; None if they are none."""
    options = {name: value for key, value in record.items() if (name := _option(key))}
    given = tuple(options.get(name) for name in OPTIONS)
    return next((variant for variant, values in VARIANTS.items() if values == given), None)


def _option(key: str) -> str | None:
    """Which of the options a key is: `strategy.fishermask.temperature` is `temperature`."""
    name = key.rpartition(".")[2]
    return name if name in OPTIONS else None
