"""What runs say of the FisherMask paper's claim (arXiv 2411.05752): that it labels better than
BAIT, coreset, entropy, margin and random, most of all with imbalanced classes. In sentences, each
of which the statistics support."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd
from scipy import stats

from fm_al.report.published import Published
from fm_al.report.runs import Runs
from fm_al.report.statistics import ALPHA, ROUNDING, all_compared, common_seeds, rankable
from fm_al.report.tables import SAME_DIFFERENCE

CLAIMED = "fishermask"
CLAIMED_WORSE = ("bait", "coreset", "entropy", "margin", "random")
FEWEST_FOR_ORDER = 3  # strategies


@dataclass(frozen=True)
class _Verdicts:
    """Of FisherMask against the others: than which it is significantly better or worse, from which
    it does not differ, from which it differs by the same amount for every seed, and those with too
    few pairs for a test. tested: of all pairs."""

    tested: int
    better: list[str] = field(default_factory=list)
    worse: list[str] = field(default_factory=list)
    level: list[str] = field(default_factory=list)
    constant: list[str] = field(default_factory=list)
    untested: list[str] = field(default_factory=list)


def claim(runs: Runs, published: Published) -> list[str]:
    """Of one setting; empty where there is nothing to compare FisherMask with. published: beside
    whose order stands that measured."""
    if CLAIMED not in runs.groups or len(runs.groups) < 2:
        return []
    areas = runs.area("accuracy")
    return [
        *_place_in_words(areas),
        _verdict(areas, "By the area under the accuracy curve"),
        _verdict(runs.final("accuracy"), f"At {runs.labels[-1]} labels"),
        *_order(runs, published),
    ]


def claim_together(of_settings: Mapping[str, Runs]) -> list[str]:
    """Of all settings, by the area under the accuracy curve: what holds of the claim, what does
    not, and what of imbalance; empty where FisherMask is compared in none with what it is claimed
    to be better than."""
    verdicts = {
        setting: _verdicts(runs.area("accuracy"))
        for setting, runs in of_settings.items()
        if CLAIMED in runs.groups
    }
    tested = {
        other: [name for name, each in verdicts.items() if other in _against(each)]
        for other in CLAIMED_WORSE
    }
    opponents = [other for other in CLAIMED_WORSE if tested[other]]
    if not opponents:
        return []
    better = {o: sum(o in verdicts[name].better for name in tested[o]) for o in opponents}
    worse = {o: sum(o in verdicts[name].worse for name in tested[o]) for o in opponents}

    def counted(wins: Mapping[str, int]) -> str:
        return _listed([f"{o} in {wins[o]} of {len(tested[o])}" for o in opponents if wins[o]])

    how = (
        f"paired t-test of the area under the accuracy curve, {ALPHA}, Holm over a setting's pairs"
    )
    holds = (
        f"FisherMask is significantly better than {counted(better)} settings ({how})"
        if any(better.values())
        else f"nothing, for FisherMask is significantly better than none of them ({how})"
    )
    never = [other for other in opponents if not better[other]]
    fails = [
        *([f"it is significantly better than {_listed(never)} in none"] if never else []),
        *(
            [f"it is significantly worse than {counted(worse)} settings"]
            if any(worse.values())
            else []
        ),
        *_places(of_settings),
    ]
    return [
        f"Of the paper's claim that FisherMask labels better than {_listed(CLAIMED_WORSE)}, this "
        f"holds: {holds}.",
        f"What does not hold, or is not shown: {'; '.join(fails)}.",
        _of_imbalance(of_settings, verdicts),
    ]


def _against(verdicts: _Verdicts) -> list[str]:
    return [*verdicts.better, *verdicts.worse, *verdicts.level]


def _places(of_settings: Mapping[str, Runs]) -> list[str]:
    """Where FisherMask stands among all, in words."""
    found = {name: _place(runs.area("accuracy")) for name, runs in of_settings.items()}
    places = {name: place for name, place in found.items() if place is not None}
    if not places:
        return []
    firsts = sum(place == 1 for place, _ in places.values())
    last = max(places, key=lambda name: places[name][0] / places[name][1])
    text = f"it is first in {firsts} of {len(places)} settings"
    place, of = places[last]
    return [f"{text}, and {_ordinal(place)} of {of} in {last}" if place > 1 else text]


def _of_imbalance(of_settings: Mapping[str, Runs], verdicts: Mapping[str, _Verdicts]) -> str:
    kinds: dict[str, list[str]] = {"imbalanced": [], "balanced": []}
    for name in verdicts:
        kinds["balanced" if _is_balanced(of_settings[name]) else "imbalanced"].append(name)
    for kind, names in kinds.items():
        if not names:
            other = next(each for each in kinds if each != kind)
            return (
                "That it is better most of all with imbalanced classes can't be told: all "
                f"settings have {other} ones."
            )
    counts = []
    for kind, names in kinds.items():
        won = sum(o in CLAIMED_WORSE for name in names for o in verdicts[name].better)
        of = sum(o in CLAIMED_WORSE for name in names for o in _against(verdicts[name]))
        counts.append(f"{won} of {of} comparisons with {kind} classes")
    return f"FisherMask is significantly better than them in {_listed(counts)}."


def _is_balanced(runs: Runs) -> bool:
    imbalance = runs.runs[0].config["imbalance"]
    counts = imbalance.get("pool")
    if isinstance(counts, Mapping):
        return len({*counts.values()}) == 1
    return str(imbalance["_target_"]).endswith(".NoImbalance")


def _place(areas: pd.DataFrame) -> tuple[int, int] | None:
    """FisherMask's among so many by mean area; None where it can't be ranked."""
    means = rankable(areas).mean()
    if CLAIMED not in means or len(means) < 2:
        return None
    return 1 + int((means > means[CLAIMED] + ROUNDING).sum()), len(means)


def _place_in_words(areas: pd.DataFrame) -> list[str]:
    place = _place(areas)
    if place is None:
        return []
    ranked = rankable(areas)
    means = ranked.mean().sort_values(ascending=False, kind="stable")
    others = means.drop(CLAIMED)
    beside, relation = str(others.index[0]), "before" if place[0] == 1 else "the first is"
    if abs(means[CLAIMED] - means[beside]) <= ROUNDING:
        relation = "level with"
    # As many digits as tell the two apart.
    is_apart = f"{means[CLAIMED]:.3f}" != f"{means[beside]:.3f}" or relation == "level with"
    digits = 3 if is_apart else 5
    lacking = areas[ranked.columns].isna().any(axis=None)
    over = f" over the {len(ranked)} seeds that all have" * bool(lacking)
    unranked = [group for group in areas if group not in ranked]
    without = f"; not ranked, with too few seeds: {_listed(unranked)}" if unranked else ""
    return [
        f"By the mean area under the accuracy curve{over}, FisherMask is "
        f"{_ordinal(place[0])} of {place[1]} strategies: {means[CLAIMED]:.{digits}f}, "
        f"{relation} {beside} with {means[beside]:.{digits}f}{without}."
    ]


def _verdicts(frame: pd.DataFrame) -> _Verdicts:
    compared = all_compared(frame)
    verdicts = _Verdicts(sum(each.t_test is not None for each in compared))
    for each in compared:
        other = each.against(CLAIMED)
        if other is None:
            continue
        if each.is_constant:
            verdicts.constant.append(other)
        elif each.t_test is None:
            verdicts.untested.append(other)
        elif each.winner is None:
            verdicts.level.append(other)
        else:
            (verdicts.better if each.winner == CLAIMED else verdicts.worse).append(other)
    return verdicts


def _verdict(frame: pd.DataFrame, where: str) -> str:
    verdicts = _verdicts(frame)
    as_claimed = [other for other in verdicts.better if other in CLAIMED_WORSE]
    beyond = [other for other in verdicts.better if other not in CLAIMED_WORSE]
    better = [
        *([f"{_listed(as_claimed)}, as claimed"] if as_claimed else []),
        *([f"{_listed(beyond)}, of which nothing is claimed"] if beyond else []),
    ]
    parts = [
        *([f"is significantly better than {', and than '.join(better)}"] if better else []),
        *([f"is significantly worse than {_listed(verdicts.worse)}"] if verdicts.worse else []),
        *(
            [f"does not differ significantly from {_listed(verdicts.level)}"]
            if verdicts.level
            else []
        ),
        *(
            [f"can't be tested against {_listed(verdicts.constant)}: {SAME_DIFFERENCE}"]
            if verdicts.constant
            else []
        ),
        *(
            [f"can't be compared with {_listed(verdicts.untested)}, for too few seeds"]
            if verdicts.untested
            else []
        ),
    ]
    pairs = f"the {verdicts.tested} pairs" if verdicts.tested > 1 else "the one pair"
    how = f" (paired t-test over seeds, {ALPHA}, Holm over {pairs})" if verdicts.tested else ""
    return f"{where} FisherMask {'; '.join(parts)}{how}."


def _order(runs: Runs, published: Published) -> list[str]:
    """The published order of strategies and that measured, at the last number of labels of both."""
    of_labels = {
        labels: {
            group: published[group][labels]
            for group in runs.groups
            if labels in published.get(group, {})
        }
        for labels in runs.labels
    }
    enough = [labels for labels, each in of_labels.items() if len(each) >= FEWEST_FOR_ORDER]
    if not enough:
        return []
    labels = enough[-1]
    theirs = pd.Series(of_labels[labels]).sort_values(ascending=False, kind="stable")
    ours = common_seeds(runs.at("accuracy", labels)[list(theirs.index)]).mean()
    if list(ours.index) != list(theirs.index) or ours.isna().any():
        return []
    order = list(ours.sort_values(ascending=False, kind="stable").index)
    if ours.nunique() == 1 or theirs.nunique() == 1:
        return []  # level, and in no order
    rho = float(stats.spearmanr(theirs, ours).statistic)
    return [
        f"At {labels} labels the published order is {', '.join(theirs.index)}; that of the means "
        f"measured is {', '.join(order)} (Spearman's rank correlation {rho:.2f})."
    ]


def _listed(names: Sequence[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def _ordinal(number: int) -> str:
    words = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")
    return words[number - 1] if number <= len(words) else f"number {number}"
