"""Statistics of runs that are paired by their seed.

A frame has a row for each seed and a column for each group, with NaN for missing runs. A pair is
two runs of one seed. Too few pairs, or differences that are the same for every seed, have no
p-value. Nothing is smoothed.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import special, stats

ALPHA = 0.05
DECIMALS = 11
ROUNDING = 10.0**-DECIMALS  # accuracies and areas that differ do so by far more
FEWEST_FOR_T = 3  # pairs
FEWEST_FOR_WILCOXON = 6  # with fewer, no p-value can be below 0.05: the smallest is 2 / 2^n
MOST_FOR_EXACT = 50  # differences that are not 0
FEWEST_FOR_RANKS = 6  # settings; with fewer, the critical difference says next to nothing


@dataclass(frozen=True)
class Comparison:
    """Two groups over the seeds that both have.

    Interval and p-values are None for too few pairs and without spread.

    Attributes:
        first, second: The groups.
        pairs: Number of seeds that both have.
        difference: Mean of first - second.
        spread: Standard deviation of the differences; 0 if they are the same for every seed, None
            for fewer than two pairs.
        interval: 95% confidence interval of the mean, by Student's t.
        t_test: Two-sided p-value of the paired t-test.
        wilcoxon: Two-sided p-value of Wilcoxon's signed-rank test.
        t_test_corrected, wilcoxon_corrected: The same, corrected for all comparisons.
    """

    first: str
    second: str
    pairs: int
    difference: float
    spread: float | None
    interval: tuple[float, float] | None
    t_test: float | None
    wilcoxon: float | None
    t_test_corrected: float | None = None
    wilcoxon_corrected: float | None = None

    @property
    def winner(self) -> str | None:
        """The significantly better group by the corrected t-test, or None."""
        if not _is_significant(self.t_test_corrected):
            return None
        return self.first if self.difference > 0 else self.second

    @property
    def is_constant(self) -> bool:
        """Whether the difference is the same for every seed, with enough seeds for a test."""
        return self.pairs >= FEWEST_FOR_T and self.spread == 0

    @property
    def name(self) -> str:
        return f"{self.first} - {self.second}"

    def against(self, group: str) -> str | None:
        """The opponent of a group; None for a group that is not compared."""
        return {self.first: self.second, self.second: self.first}.get(group)


def compared(frame: pd.DataFrame, first: str, second: str) -> Comparison:
    """Compare two columns, without correction."""
    differences = frame[first].to_numpy() - frame[second].to_numpy()
    differences = differences[~np.isnan(differences)]
    pairs = len(differences)
    # Rounding errors of equal differences are no spread, and must not break ties of ranks.
    is_constant = pairs > 0 and float(np.ptp(differences)) <= ROUNDING
    differences = differences.round(DECIMALS)
    mean = float(differences.mean()) if pairs else math.nan
    spread = None
    if pairs > 1:
        spread = 0.0 if is_constant else float(differences.std(ddof=1))
    interval = t_test = wilcoxon = None
    if spread and pairs >= FEWEST_FOR_T:
        error = spread / math.sqrt(pairs)
        half = error * float(special.stdtrit(pairs - 1, 1 - ALPHA / 2))
        interval = mean - half, mean + half
        t_test = 2 * float(special.stdtr(pairs - 1, -abs(mean) / error))
        if np.count_nonzero(differences) >= FEWEST_FOR_WILCOXON:
            wilcoxon = signed_ranks(differences)
    return Comparison(first, second, pairs, mean, spread, interval, t_test, wilcoxon)


def signed_ranks(differences: np.ndarray) -> float:
    """Two-sided p-value of Wilcoxon's signed-rank test, without differences of 0.

    Exact, with ties, for up to MOST_FOR_EXACT differences; a normal approximation for more.
    """
    nonzero = differences[differences != 0]
    if len(nonzero) > MOST_FOR_EXACT:
        return float(stats.wilcoxon(nonzero).pvalue)
    doubled = (2 * stats.rankdata(np.abs(nonzero))).astype(int)  # ranks of ties may end in a half
    chance = np.zeros(doubled.sum() + 1)  # of each sum of the ranks with a plus
    chance[0] = 1
    for rank in doubled:
        chance[rank:] = (chance[rank:] + chance[:-rank]) / 2
        chance[:rank] /= 2
    plus = doubled[nonzero > 0].sum()
    smaller = min(plus, doubled.sum() - plus)
    return min(1.0, 2 * float(chance[: smaller + 1].sum()))


def all_compared(frame: pd.DataFrame) -> list[Comparison]:
    """Compare every two columns, with p-values corrected by Holm over all of these pairs.

    There is no smaller family, so a pair has the same verdict everywhere.
    """
    comparisons = [compared(frame, *pair) for pair in combinations(frame.columns, 2)]
    t_tests = holm([each.t_test for each in comparisons])
    wilcoxons = holm([each.wilcoxon for each in comparisons])
    return [
        replace(each, t_test_corrected=t, wilcoxon_corrected=w)
        for each, t, w in zip(comparisons, t_tests, wilcoxons, strict=True)
    ]


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Correct p-values by Holm's step-down method (Holm 1979); None stays None."""
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
    """The part of a frame by whose means groups can be ranked: the seeds that all groups have.

    Groups with too few seeds for a test are left out, unless none has more. Empty if no seed is
    common.
    """
    counts = frame.count()
    return frame[frame.columns[counts >= min(FEWEST_FOR_T, counts.max())]].dropna()


def rankable(frame: pd.DataFrame) -> pd.DataFrame:
    """`common_seeds` if they are at least FEWEST_FOR_T; else empty."""
    common = common_seeds(frame)
    return common if len(common) >= FEWEST_FOR_T else pd.DataFrame()


def by_mean(frame: pd.DataFrame) -> list[str]:
    """Sort groups by their mean over `common_seeds`, the largest first.

    Groups that cannot be ranked come last. Without common seeds, all seeds count.
    """
    common = common_seeds(frame)
    means = (frame if common.empty else common).mean()
    return sorted(frame.columns, key=lambda group: -means.get(group, -math.inf))


@dataclass(frozen=True)
class Standing:
    """How groups compare with the best.

    Attributes:
        best: Groups with the largest mean over `common_seeds`; empty without common seeds.
        level: Others that are not significantly worse, see `all_compared`.
        untested: Others with too few pairs for a test against the best.
        constant: Others whose difference from the best is the same for every seed.
    """

    best: Set[str] = frozenset()
    level: Set[str] = frozenset()
    untested: Set[str] = frozenset()
    constant: Set[str] = frozenset()


def standing(frame: pd.DataFrame) -> Standing:
    """Compare the columns with the best one."""
    common = common_seeds(frame)
    if common.empty:
        return Standing()
    means = common.mean()
    best = {str(group) for group in means.index[means >= means.max() - ROUNDING]}
    beside = {
        other: each
        for each in all_compared(frame)
        if (other := each.against(str(means.idxmax()))) and other not in best
    }
    constant = {other for other, each in beside.items() if each.is_constant}
    untested = {other for other, each in beside.items() if each.t_test is None} - constant
    tested = beside.keys() - constant - untested
    return Standing(
        best, {other for other in tested if beside[other].winner is None}, untested, constant
    )


def missing_seeds(frame: pd.DataFrame) -> dict[str, list[int]]:
    """The missing seeds of each group that lacks some."""
    return {
        str(group): lacks
        for group in frame.columns
        if (lacks := [int(seed) for seed in frame.index[frame[group].isna()]])
    }


def labels_needed(
    accuracies: Mapping[int, pd.DataFrame], target: float | pd.Series
) -> pd.DataFrame:
    """Smallest number of labels at which at least `target` was measured; NaN if it never was.

    Args:
        accuracies: A frame for each number of labels.
        target: One value, or one for each seed.
    """
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
    """1 - labels / labels of the reference, by pair; NaN if one of the two needed more than it had.

    Args:
        needed: From `labels_needed`.
        reference: The group to compare with.
    """
    return 1 - needed.div(needed[reference], axis=0)


@dataclass(frozen=True)
class Penalties:
    """The pairwise penalty matrix of Ash et al. 2020 (arXiv 1906.03671, section 4).

    Attributes:
        matrix: How often the row beats the column, summed over settings. Each setting adds the
            fraction of its numbers of labels (Ash et al. use only some) at which the paired t-test
            is significant, two-sided at 0.05 and uncorrected. NaN for a pair without any test.
        tested: In how many settings a pair was tested.
        constant: How many differences, over settings, pairs and numbers of labels, were the same
            for every seed. They are no win.
    """

    matrix: pd.DataFrame
    tested: pd.DataFrame
    constant: int = 0

    @property
    def lost(self) -> pd.Series:
        """Mean of each group's column: how much it lost to the others."""
        return self.matrix.mean()


def penalties(
    settings: Mapping[str, Mapping[int, pd.DataFrame]], groups: Sequence[str]
) -> Penalties:
    """Count penalties. settings: for each, a frame for each number of labels."""
    beaten: defaultdict[tuple[str, str], float] = defaultdict(float)
    tested: Counter[tuple[str, str]] = Counter()
    constant = 0
    for frames in settings.values():
        for first, second in combinations(groups, 2):
            of_pair = [
                compared(frame, first, second)
                for frame in frames.values()
                if first in frame and second in frame
            ]
            constant += sum(each.is_constant for each in of_pair)
            differences = [each.difference for each in of_pair if _is_significant(each.t_test)]
            is_tested = any(each.t_test is not None for each in of_pair)
            for winner, loser, sign in ((first, second, 1), (second, first, -1)):
                wins = sum(sign * difference > 0 for difference in differences)
                tested[winner, loser] += is_tested
                beaten[winner, loser] += wins / max(1, len(frames))
    counts = _matrix(tested, groups)
    return Penalties(_matrix(beaten, groups).astype(float).where(counts > 0), counts, constant)


def _is_significant(p_value: float | None) -> bool:
    return p_value is not None and p_value < ALPHA


def _matrix(of_pairs: Mapping[tuple[str, str], float], groups: Sequence[str]) -> pd.DataFrame:
    """A row for the first of each pair, a column for the second."""
    return pd.DataFrame(
        [[of_pairs[row, column] for column in groups] for row in groups],
        index=list(groups),
        columns=list(groups),
    )


@dataclass(frozen=True)
class Ranks:
    """Ranks of groups over settings.

    Attributes:
        mean: Mean rank of each group; 1 is best.
        settings: The settings that count.
        critical_difference: Mean ranks that differ by more differ significantly (Nemenyi); None
            for too few settings.
        friedman: p-value of Friedman's test for any difference; None for too few settings, or if
            all groups are level in each.
    """

    mean: pd.Series
    settings: Sequence[str]
    critical_difference: float | None
    friedman: float | None


def ranks(means: pd.DataFrame) -> Ranks | None:
    """Rank groups over settings (Demšar 2006).

    Uses the groups and settings, without gaps, that give the most ranks.

    Args:
        means: Settings x groups, larger is better, NaN where a setting lacks a group.

    Returns:
        The ranks; None for fewer than two settings or groups.
    """
    there = means.notna()
    choices = [frozenset(means.columns[row]) for row in there.to_numpy()]
    if choices:
        choices.append(frozenset.intersection(*choices))
    exact = means.round(DECIMALS)  # rounding errors must not break ties
    wholes = [exact[[group for group in exact if group in each]].dropna() for each in choices]
    whole = max(wholes, key=lambda each: each.size, default=exact)
    settings, groups = whole.shape
    if settings < 2 or groups < 2:
        return None
    mean = whole.rank(axis=1, ascending=False).mean()
    if settings < FEWEST_FOR_RANKS or groups < 3:
        return Ranks(mean, list(whole.index), None, None)
    q = float(stats.studentized_range.ppf(1 - ALPHA, groups, math.inf)) / math.sqrt(2)
    difference = q * math.sqrt(groups * (groups + 1) / (6 * settings))
    if (whole.nunique(axis=1) == 1).all():
        return Ranks(mean, list(whole.index), difference, None)
    friedman = float(stats.friedmanchisquare(*(whole[group] for group in whole)).pvalue)
    return Ranks(mean, list(whole.index), difference, friedman)
