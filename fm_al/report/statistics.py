"""Statistics of runs that are paired by their seed.

A frame has a row for each seed and a column for each group, NaN where there is no such run. Nothing
is smoothed; a pair is two runs of one seed, and a seed that one of two groups lacks is no pair. Of
too few pairs there is no p-value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

ALPHA = 0.05
FEWEST_FOR_T = 3  # pairs
FEWEST_FOR_WILCOXON = 6  # with fewer, no p-value can be below 0.05: the smallest is 2 / 2^n
FEWEST_FOR_RANKS = 6  # settings; with fewer, the critical difference says next to nothing


@dataclass(frozen=True)
class Comparison:
    """Two groups over the seeds that both have: the mean of first - second, its 95% confidence
    interval by Student's t, and two-sided p-values of the paired t-test and of Wilcoxon's signed
    ranks, as they are and corrected for the family that they were made in; None where the pairs
    that there are, or that differ, are too few."""

    first: str
    second: str
    pairs: int
    difference: float
    interval: tuple[float, float] | None
    t_test: float | None
    wilcoxon: float | None
    t_test_corrected: float | None = None
    wilcoxon_corrected: float | None = None

    @property
    def winner(self) -> str | None:
        """The group that is better by the corrected t-test; None if none is."""
        if self.t_test_corrected is None or self.t_test_corrected >= ALPHA:
            return None
        return self.first if self.difference > 0 else self.second

    def against(self, group: str) -> str | None:
        """The other one; None for a group that is neither."""
        return {self.first: self.second, self.second: self.first}.get(group)


def compared(frame: pd.DataFrame, first: str, second: str) -> Comparison:
    """Two columns, without correction."""
    # What rounding leaves of equal differences is no difference, nor does it break a tie of ranks.
    differences = (frame[first] - frame[second]).dropna().round(12).to_numpy()
    pairs = len(differences)
    mean = float(differences.mean()) if pairs else math.nan
    spread = float(differences.std(ddof=1)) if pairs > 1 else 0.0
    if spread < 1e-12:
        spread = 0.0
    interval = t_test = None
    if pairs >= FEWEST_FOR_T:
        half = spread / math.sqrt(pairs) * float(stats.t.ppf(1 - ALPHA / 2, pairs - 1))
        interval = mean - half, mean + half
        if spread:
            t_test = float(stats.ttest_1samp(differences, 0).pvalue)
        else:  # the limit, as the spread goes to 0
            t_test = 0.0 if differences.any() else 1.0
    wilcoxon = None
    if np.count_nonzero(differences) >= FEWEST_FOR_WILCOXON:
        wilcoxon = float(stats.wilcoxon(differences).pvalue)
    return Comparison(first, second, pairs, mean, interval, t_test, wilcoxon)


def all_compared(frame: pd.DataFrame) -> list[Comparison]:
    """Every two columns; p-values corrected by Holm for there being so many. There is no smaller
    family, so that a pair has one verdict wherever it is spoken of."""
    comparisons = [compared(frame, *pair) for pair in combinations(frame.columns, 2)]
    t_tests = holm([each.t_test for each in comparisons])
    wilcoxons = holm([each.wilcoxon for each in comparisons])
    return [
        replace(each, t_test_corrected=t, wilcoxon_corrected=w)
        for each, t, w in zip(comparisons, t_tests, wilcoxons, strict=True)
    ]


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction (Holm 1979) of those that are there."""
    order = sorted(
        (p, number) for number, p in enumerate(p_values) if p is not None and not math.isnan(p)
    )
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, number) in enumerate(order):
        largest = max(largest, min(1.0, p * (len(order) - rank)))
        corrected[number] = largest
    return corrected


def common_seeds(frame: pd.DataFrame) -> pd.DataFrame:
    """What can be ranked by its means: the seeds that all groups have, of the groups that have
    enough seeds to be tested, or as many as any. Empty where no seed is common."""
    counts = frame.count()
    return frame[frame.columns[counts >= min(FEWEST_FOR_T, counts.max())]].dropna()


def rankable(frame: pd.DataFrame) -> pd.DataFrame:
    """What has `common_seeds`, of at least FEWEST_FOR_T; else nothing."""
    common = common_seeds(frame)
    return common if len(common) >= FEWEST_FOR_T else pd.DataFrame()


def by_mean(frame: pd.DataFrame) -> list[str]:
    """The groups, that of the largest mean over `common_seeds` first, those that can't be ranked
    last; where there are none, by the mean of what there is."""
    common = common_seeds(frame)
    means = (frame if common.empty else common).mean()
    return sorted(frame.columns, key=lambda group: -means.get(group, -math.inf))


@dataclass(frozen=True)
class Standing:
    """best: the groups of the largest mean over `common_seeds`; none without such. level: of the
    others those that are not significantly worse, see `all_compared`. untested: those that can't be
    tested with the best, of too few pairs."""

    best: Set[str] = frozenset()
    level: Set[str] = frozenset()
    untested: Set[str] = frozenset()


def standing(frame: pd.DataFrame) -> Standing:
    """Of the columns."""
    common = common_seeds(frame)
    if common.empty:
        return Standing()
    means = common.mean()
    best = {str(group) for group in means.index[means >= means.max() - 1e-12]}
    beside = [
        (other, each)
        for each in all_compared(frame)
        if (other := each.against(str(means.idxmax()))) and other not in best
    ]
    return Standing(
        best,
        {other for other, each in beside if each.t_test is not None and each.winner is None},
        {other for other, each in beside if each.t_test is None},
    )


def missing_seeds(frame: pd.DataFrame) -> dict[str, list[int]]:
    """The seeds that others have, of each group that lacks some."""
    return {
        str(group): lacks
        for group in frame.columns
        if (lacks := [int(seed) for seed in frame.index[frame[group].isna()]])
    }


def labels_needed(
    accuracies: Mapping[int, pd.DataFrame], target: float | pd.Series
) -> pd.DataFrame:
    """The smallest number of labels at which an accuracy of at least `target` was measured; NaN
    where it never was. accuracies: a frame for each number of labels. target: for all, or for each
    seed."""
    needed: pd.DataFrame | None = None
    for labels in sorted(accuracies, reverse=True):
        reached = accuracies[labels].ge(target, axis=0)
        if needed is None:
            needed = pd.DataFrame(
                math.nan, index=accuracies[labels].index, columns=accuracies[labels].columns
            )
        needed = needed.mask(reached, float(labels))
    assert needed is not None
    return needed


def share_saved(needed: pd.DataFrame, reference: str) -> pd.DataFrame:
    """1 - labels / labels of the reference, pair by pair; NaN where one of the two never got there.
    needed: of `labels_needed`."""
    return 1 - needed.div(needed[reference], axis=0)


@dataclass(frozen=True)
class Penalties:
    """matrix: how often the group of a row beats that of a column, at most once for each setting:
    in each, the share of the numbers of labels, of all where Ash et al. choose some, at which the
    paired t-test, two-sided at 0.05 and without correction, says so (Ash et al. 2020, arXiv
    1906.03671, section 4). NaN for a pair that could never be tested, and for a group and itself.
    tested: in how many settings a pair was."""

    matrix: pd.DataFrame
    tested: pd.DataFrame

    @property
    def lost(self) -> pd.Series:
        """Of each group, to all that it was tested with: the mean of its column."""
        return self.matrix.mean()


def penalties(
    settings: Mapping[str, Mapping[int, pd.DataFrame]], groups: Sequence[str]
) -> Penalties:
    """settings: of each, a frame for each number of labels."""
    matrix = pd.DataFrame(0.0, index=list(groups), columns=list(groups))
    tested = pd.DataFrame(0, index=list(groups), columns=list(groups))
    for frames in settings.values():
        for first, second in combinations(groups, 2):
            of_pair = [
                each
                for frame in frames.values()
                if first in frame and second in frame
                if (each := compared(frame, first, second)).t_test is not None
            ]
            for winner, loser, sign in ((first, second, 1), (second, first, -1)):
                tested.loc[winner, loser] += bool(of_pair)
                matrix.loc[winner, loser] += sum(
                    each.t_test < ALPHA and sign * each.difference > 0  # type: ignore[operator]
                    for each in of_pair
                ) / max(1, len(frames))
    return Penalties(matrix.where(tested > 0), tested)


@dataclass(frozen=True)
class Ranks:
    """mean: of each group over the settings, 1 is best. critical_difference: two mean ranks differ
    significantly if by more (Nemenyi); None with too few settings. friedman: p-value of there being
    no difference at all."""

    mean: pd.Series
    settings: Sequence[str]
    critical_difference: float | None
    friedman: float | None


def ranks(means: pd.DataFrame) -> Ranks | None:
    """Ranks of groups over settings (Demsar 2006): of so many groups, over all settings that have
    them, as make most ranks; None where that leaves no two of both. means: a row for each setting,
    a column for each group, larger is better, NaN where a setting lacks a group."""
    there = means.notna()
    choices = [frozenset(means.columns[row]) for row in there.to_numpy()]
    if choices:
        choices.append(frozenset.intersection(*choices))
    wholes = [means[[group for group in means if group in each]].dropna() for each in choices]
    whole = max(wholes, key=lambda each: each.size, default=means)
    settings, groups = whole.shape
    if settings < 2 or groups < 2:
        return None
    mean = whole.rank(axis=1, ascending=False).mean()
    if settings < FEWEST_FOR_RANKS or groups < 3:
        return Ranks(mean, list(whole.index), None, None)
    q = float(stats.studentized_range.ppf(1 - ALPHA, groups, math.inf)) / math.sqrt(2)
    difference = q * math.sqrt(groups * (groups + 1) / (6 * settings))
    friedman = float(stats.friedmanchisquare(*(whole[group] for group in whole)).pvalue)
    return Ranks(mean, list(whole.index), difference, friedman)
