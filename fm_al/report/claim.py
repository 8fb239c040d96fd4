"""What runs say about the claim of the FisherMask paper (arXiv 2411.05752), in sentences.

The claim: FisherMask is better than BAIT, coreset, entropy, margin and random, most of all with
imbalanced classes. Where BAIT or FisherMask is run in several variants, it is of the published one.
Every sentence follows from the statistics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd
from scipy import stats

from fm_al.report.comparison_tables import SAME_DIFFERENCE
from fm_al.report.published import Published
from fm_al.report.runs import Runs
from fm_al.report.statistics import ALPHA, ROUNDING, all_compared, common_seeds, rankable
from fm_al.report.text import listed
from fm_al.report.variants import PUBLISHED, gathered, group_of_paper, parted

CLAIMED = "fishermask"
CLAIMED_WORSE = ("bait", "coreset", "entropy", "margin", "random")
FEWEST_FOR_ORDER = 3  # strategies


@dataclass(frozen=True)
class _Claim:
    """The groups of the claim.

    Attributes:
        ours: FisherMask.
        worse: What it is claimed to be better than.
    """

    ours: str
    worse: Sequence[str]

    @classmethod
    def of(cls, groups: Sequence[str]) -> _Claim:
        worse = [group_of_paper(strategy, groups) for strategy in CLAIMED_WORSE]
        return cls(group_of_paper(CLAIMED, groups), worse)

    @property
    def subject(self) -> str:
        """FisherMask in a sentence."""
        return "FisherMask" if self.ours == CLAIMED else f"FisherMask {PUBLISHED}"


@dataclass(frozen=True)
class _Verdicts:
    """How FisherMask compares with the others.

    Attributes:
        tested: Number of tested pairs, of all groups.
        better: It is significantly better than these.
        worse: It is significantly worse than these.
        level: It does not differ significantly from these.
        constant: It differs from these by the same amount for every seed.
        untested: It has too few seeds in common with these.
    """

    tested: int
    better: list[str] = field(default_factory=list)
    worse: list[str] = field(default_factory=list)
    level: list[str] = field(default_factory=list)
    constant: list[str] = field(default_factory=list)
    untested: list[str] = field(default_factory=list)


def claim(runs: Runs, published: Published) -> list[str]:
    """Compare FisherMask with the others in one setting; empty if there is nothing to compare.

    Args:
        runs: The runs of one setting.
        published: Published accuracies, whose order is compared with the measured one.
    """
    claimed = _Claim.of(runs.groups)
    if claimed.ours not in runs.groups or len(runs.groups) < 2:
        return []
    areas = runs.area("accuracy")
    return [
        *_place_in_words(areas, claimed),
        _verdict(areas, claimed, "By the area under the accuracy curve"),
        _verdict(runs.final("accuracy"), claimed, f"At {runs.labels[-1]} labels"),
        *published_order(runs, published),
    ]


def claim_together(of_settings: Mapping[str, Runs]) -> list[str]:
    """Judge the claim over all settings by the area under the accuracy curve.

    Returns:
        What holds, what does not, and what is known about imbalance. Empty if no setting compares
        FisherMask with a strategy that it is claimed to beat.
    """
    claimed = _Claim.of([group for runs in of_settings.values() for group in runs.groups])
    verdicts = {
        setting: _verdicts(runs.area("accuracy"), claimed.ours)
        for setting, runs in of_settings.items()
        if claimed.ours in runs.groups
    }
    tested = {
        other: [name for name, each in verdicts.items() if other in _against(each)]
        for other in claimed.worse
    }
    opponents = [other for other in claimed.worse if tested[other]]
    if not opponents:
        return []
    better = {o: sum(o in verdicts[name].better for name in tested[o]) for o in opponents}
    worse = {o: sum(o in verdicts[name].worse for name in tested[o]) for o in opponents}

    def counted(wins: Mapping[str, int]) -> str:
        return listed([f"{o} in {wins[o]} of {len(tested[o])}" for o in opponents if wins[o]])

    how = (
        f"paired t-test of the area under the accuracy curve, {ALPHA}, Holm over a setting's pairs"
    )
    holds = (
        f"{claimed.subject} is significantly better than {counted(better)} settings ({how})"
        if any(better.values())
        else f"nothing: {claimed.subject} is significantly better than none of them ({how})"
    )
    never = [other for other in opponents if not better[other]]
    fails = [
        *([f"it is significantly better than {listed(never)} in none"] if never else []),
        *(
            [f"it is significantly worse than {counted(worse)} settings"]
            if any(worse.values())
            else []
        ),
        *_places(of_settings, claimed.ours),
    ]
    return [
        f"The paper claims that FisherMask is better than {listed(CLAIMED_WORSE)}. "
        f"What holds: {holds}.",
        f"What does not hold or is not shown: {'; '.join(fails)}.",
        _of_imbalance(of_settings, verdicts, claimed),
    ]


def _against(verdicts: _Verdicts) -> list[str]:
    return [*verdicts.better, *verdicts.worse, *verdicts.level]


def _places(of_settings: Mapping[str, Runs], ours: str) -> list[str]:
    """FisherMask's place among all strategies, in words."""
    found = {name: _place(runs.area("accuracy"), ours) for name, runs in of_settings.items()}
    places = {name: place for name, place in found.items() if place is not None}
    if not places:
        return []
    firsts = sum(place == 1 for place, _ in places.values())
    last = max(places, key=lambda name: places[name][0] / places[name][1])
    text = f"it is first in {firsts} of {len(places)} settings"
    place, of = places[last]
    return [f"{text}, and {_ordinal(place)} of {of} in {last}" if place > 1 else text]


def _of_imbalance(
    of_settings: Mapping[str, Runs], verdicts: Mapping[str, _Verdicts], claimed: _Claim
) -> str:
    kinds: dict[str, list[str]] = {"imbalanced": [], "balanced": []}
    for name in verdicts:
        kinds["balanced" if _is_balanced(of_settings[name]) else "imbalanced"].append(name)
    for kind, names in kinds.items():
        if not names:
            other = next(each for each in kinds if each != kind)
            return (
                "Whether the advantage is largest under imbalance cannot be assessed: all settings "
                f"are {other}."
            )
    counts = []
    for kind, names in kinds.items():
        won = sum(o in claimed.worse for name in names for o in verdicts[name].better)
        of = sum(o in claimed.worse for name in names for o in _against(verdicts[name]))
        counts.append(f"{won} of {of} comparisons with {kind} classes")
    return f"{claimed.subject} is significantly better than them in {listed(counts)}."


def _is_balanced(runs: Runs) -> bool:
    imbalance = runs.runs[0].config["imbalance"]
    counts = imbalance.get("pool")
    if isinstance(counts, Mapping):
        return len({*counts.values()}) == 1
    return str(imbalance["_target_"]).endswith(".NoImbalance")


def _place(areas: pd.DataFrame, ours: str) -> tuple[int, int] | None:
    """FisherMask's place by mean area and the number of groups; None if it cannot be ranked."""
    means = rankable(areas).mean()
    if ours not in means or len(means) < 2:
        return None
    return 1 + int((means > means[ours] + ROUNDING).sum()), len(means)


def _place_in_words(areas: pd.DataFrame, claimed: _Claim) -> list[str]:
    ours = claimed.ours
    place = _place(areas, ours)
    if place is None:
        return []
    ranked = rankable(areas)
    means = ranked.mean().sort_values(ascending=False, kind="stable")
    others = means.drop(ours)
    beside, relation = str(others.index[0]), "ahead of" if place[0] == 1 else "behind first-placed"
    if abs(means[ours] - means[beside]) <= ROUNDING:
        relation = "level with"
    # Enough digits to distinguish the two.
    is_apart = f"{means[ours]:.3f}" != f"{means[beside]:.3f}" or relation == "level with"
    digits = 3 if is_apart else 5
    lacking = areas[ranked.columns].isna().any(axis=None)
    over = f", over the {len(ranked)} seeds that all have" * bool(lacking)
    variants = " and variants" * any(parted(group)[1] for group in means.index)
    unranked = [group for group in areas if group not in ranked]
    without = f"; too few seeds to rank {_listed(unranked)}" if unranked else ""
    return [
        f"By the mean area under the accuracy curve{over}, {claimed.subject} is "
        f"{_ordinal(place[0])} of {place[1]} strategies{variants}: {means[ours]:.{digits}f}, "
        f"{relation} {beside} with {means[beside]:.{digits}f}{without}."
    ]


def _verdicts(frame: pd.DataFrame, ours: str) -> _Verdicts:
    compared = all_compared(frame)
    verdicts = _Verdicts(sum(each.t_test is not None for each in compared))
    for each in compared:
        other = each.against(ours)
        if other is None:
            continue
        if each.is_constant:
            verdicts.constant.append(other)
        elif each.t_test is None:
            verdicts.untested.append(other)
        elif each.winner is None:
            verdicts.level.append(other)
        else:
            (verdicts.better if each.winner == ours else verdicts.worse).append(other)
    return verdicts


def _verdict(frame: pd.DataFrame, claimed: _Claim, where: str) -> str:
    verdicts = _verdicts(frame, claimed.ours)
    as_claimed = [other for other in verdicts.better if other in claimed.worse]
    beyond = [other for other in verdicts.better if other not in claimed.worse]
    better = [
        *([f"{_listed(as_claimed)}, as claimed"] if as_claimed else []),
        *([f"{_listed(beyond)}, which the paper does not claim"] if beyond else []),
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
            [f"cannot be tested against {_listed(verdicts.constant)}: {SAME_DIFFERENCE}"]
            if verdicts.constant
            else []
        ),
        *(
            [f"cannot be compared with {_listed(verdicts.untested)} because of too few seeds"]
            if verdicts.untested
            else []
        ),
    ]
    pairs = f"the {verdicts.tested} pairs" if verdicts.tested > 1 else "the one pair"
    how = f" (paired t-test over seeds, {ALPHA}, Holm over {pairs})" if verdicts.tested else ""
    return f"{where}, {claimed.subject} {'; it '.join(parts)}{how}."


def published_order(runs: Runs, published: Published) -> list[str]:
    """The published and the measured order of strategies, at the last number of labels of both."""
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
        return []  # level, so there is no order
    rho = float(stats.spearmanr(theirs, ours).statistic)
    return [
        f"At {labels} labels, the published order is "
        f"{', '.join(parted(group)[0] for group in theirs.index)}; the measured order is "
        f"{', '.join(order)} (Spearman's rank correlation {rho:.2f})."
    ]


def _ordinal(number: int) -> str:
    words = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")
    return words[number - 1] if number <= len(words) else f"number {number}"


def _listed(groups: Sequence[str]) -> str:
    return listed(gathered(groups))
