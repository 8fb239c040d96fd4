"""Against scipy, slow definitions, and cases worked by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fm_al.report.statistics import (
    Standing,
    all_compared,
    by_mean,
    common_seeds,
    compared,
    holm,
    labels_needed,
    missing_seeds,
    penalties,
    rankable,
    ranks,
    share_saved,
    signed_ranks,
    standing,
)

NAN = math.nan


def frame(**columns: list[float]) -> pd.DataFrame:
    return pd.DataFrame(columns, dtype=float)


def drawn(seeds: int, seed: int = 0) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    values = 0.5 + generator.normal(0, 0.1, (seeds, 1)) + generator.normal(0, 0.05, (seeds, 3))
    return pd.DataFrame(values, columns=["a", "b", "c"])


@pytest.mark.parametrize("seeds", [3, 5, 8, 20])
def test_a_comparison_is_scipys(seeds: int) -> None:
    values = drawn(seeds)
    one = compared(values, "a", "b")
    test = stats.ttest_rel(values["a"], values["b"])
    assert one.pairs == seeds
    assert one.difference == pytest.approx(values["a"].mean() - values["b"].mean())
    assert one.t_test == pytest.approx(test.pvalue)
    interval = test.confidence_interval(0.95)
    assert one.interval == pytest.approx((interval.low, interval.high))
    if seeds < 6:
        assert one.wilcoxon is None
    else:
        assert one.wilcoxon == stats.wilcoxon(values["a"], values["b"]).pvalue


def test_a_paired_t_test_by_hand() -> None:
    """Differences 1, 2, 3: mean 2, deviation 1, t = 2 sqrt(3) with two degrees of freedom, for
    which p = 1 - t / sqrt(2 + t^2)."""
    one = compared(frame(a=[2, 4, 6], b=[1, 2, 3]), "a", "b")
    t = 2 * math.sqrt(3)
    assert one.difference == 2
    assert one.t_test == pytest.approx(1 - t / math.sqrt(2 + t * t))
    half = 4.302652729911275 / math.sqrt(3)
    assert one.interval == pytest.approx((2 - half, 2 + half))


def test_signed_ranks_by_hand() -> None:
    """Of six positive differences: 2 of 2^6 signs are as extreme."""
    one = compared(frame(a=[1, 2, 3, 4, 5, 6], b=[0] * 6), "a", "b")
    assert one.wilcoxon == pytest.approx(2 / 2**6)


def test_pairs_are_matched_by_seed_and_never_by_order() -> None:
    values = frame(a=[1, 2, NAN, 4, 6], b=[NAN, 1, 9, 2, 3])
    one = compared(values, "a", "b")
    assert one.pairs == 3
    assert one.difference == 2
    assert one.t_test == compared(frame(a=[2, 4, 6], b=[1, 2, 3]), "a", "b").t_test
    assert missing_seeds(values) == {"a": [2], "b": [0]}
    assert missing_seeds(drawn(4)) == {}


@pytest.mark.parametrize("pairs", [0, 1, 2])
def test_of_too_few_pairs_there_is_no_p_value(pairs: int) -> None:
    values = frame(a=[0.5, 0.6, NAN], b=[0.4, 0.7, 0.1])[:pairs]
    one = compared(values, "a", "b")
    assert one.pairs == pairs
    assert (one.t_test, one.wilcoxon, one.interval) == (None, None, None)
    assert math.isnan(one.difference) == (pairs == 0)
    assert all_compared(values)[0].winner is None


@pytest.mark.parametrize("seeds", [3, 8])
@pytest.mark.parametrize("shift", [0.2, 0.0, -0.01])
def test_differences_without_spread_are_no_estimate_of_anything(seeds: int, shift: float) -> None:
    base = [0.1, 0.7, 0.4, 0.3, 0.5, 0.8, 0.2, 0.6][:seeds]
    values = frame(a=[value + shift for value in base], b=base, c=[0.01 * n for n in range(seeds)])
    one, *others = all_compared(values)
    assert one.difference == pytest.approx(shift, abs=1e-12)
    assert (one.spread, one.is_constant, one.winner) == (0, True, None)
    assert (one.interval, one.t_test, one.wilcoxon) == (None, None, None)
    assert (one.t_test_corrected, one.wilcoxon_corrected) == (None, None)
    assert not any(each.is_constant or each.t_test is None for each in others)
    raw = [each.t_test for each in others]
    assert [each.t_test_corrected for each in others] == holm(raw), "of the tests that there are"


def test_spread_that_only_rounding_makes_is_none() -> None:
    rounding = 1e-12 * np.array([0, 0.4, 0.9, 0.1, 0.5, 1.0])
    base = np.array([0.1, 0.7, 0.4, 0.3, 0.5, 0.8])
    assert compared(frame(a=base + 0.2 + rounding, b=base), "a", "b").is_constant
    varied = compared(frame(a=base + 0.2 + 1000 * rounding, b=base), "a", "b")
    assert not varied.is_constant
    assert varied.t_test is not None
    assert varied.wilcoxon == 2 / 2**6


def test_two_seeds_are_too_few_and_not_without_spread() -> None:
    assert not compared(frame(a=[0.3, 0.4], b=[0.1, 0.2]), "a", "b").is_constant


@given(
    st.lists(st.integers(-4, 4), min_size=6, max_size=9).filter(
        lambda steps: len({*steps}) > 1 and sum(map(bool, steps)) >= 6
    )
)
def test_signed_ranks_are_those_of_all_signs(steps: list[int]) -> None:
    """The definition: of all signs of the ranks, the share whose sum is as extreme; ties share
    their mean rank, zeros have none."""
    ranks_of = stats.rankdata([abs(step) for step in steps if step])
    plus = sum(rank for rank, step in zip(ranks_of, filter(None, steps), strict=True) if step > 0)
    middle = ranks_of.sum() / 2
    sums = [
        sum(rank for rank, sign in zip(ranks_of, signs, strict=True) if sign)
        for signs in itertools.product((0, 1), repeat=len(ranks_of))
    ]
    extreme = sum(abs(each - middle) >= abs(plus - middle) - 1e-9 for each in sums)
    assert signed_ranks(np.array(steps, float)) == pytest.approx(extreme / len(sums))


@pytest.mark.parametrize("count", [50, 51, 300])
def test_signed_ranks_of_many_seeds_are_scipys(count: int) -> None:
    values = np.random.default_rng(0).normal(0.1, 1, count)
    assert signed_ranks(values) == pytest.approx(stats.wilcoxon(values).pvalue)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, None, 0.9]) == [1.0, None, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=6), st.floats(0.001, 0.999))
def test_holm_rejects_what_the_step_down_procedure_does(p_values, alpha) -> None:
    """Holm 1979: from the smallest on, as long as p <= alpha / (how many are left)."""
    rejected = set()
    for rank, number in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[number] * (len(p_values) - rank) > alpha:
            break
        rejected.add(number)
    corrected = holm(p_values)
    assert {number for number, p in enumerate(corrected) if p <= alpha} == rejected


def test_every_pair_is_compared_once_and_corrected_together() -> None:
    values = drawn(10)
    pairs = all_compared(values)
    assert [(each.first, each.second) for each in pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    raw = [
        stats.ttest_rel(values[x], values[y]).pvalue for x, y in itertools.combinations("abc", 2)
    ]
    assert [each.t_test for each in pairs] == pytest.approx(raw)
    assert [each.t_test_corrected for each in pairs] == pytest.approx(holm(raw))


def test_a_winner_is_significantly_better() -> None:
    values = frame(
        a=[0.50, 0.61, 0.72, 0.80], b=[0.40, 0.50, 0.60, 0.69], c=[0.49, 0.62, 0.71, 0.81]
    )
    by_pair = {(each.first, each.second): each.winner for each in all_compared(values)}
    assert by_pair == {("a", "b"): "a", ("a", "c"): None, ("b", "c"): "c"}


def test_ranks_are_of_as_many_groups_and_settings_as_go_together() -> None:
    means = pd.DataFrame(
        {"a": [0.9, 0.8, 0.7], "b": [0.5, 0.6, 0.5], "only here": [NAN, NAN, 0.9]},
        index=["x", "y", "z"],
    )
    result = ranks(means)
    assert result.settings == ["x", "y", "z"]
    assert result.mean.to_dict() == {"a": 1, "b": 2}
    each_lacks_one = pd.DataFrame(np.arange(36.0).reshape(6, 6), columns=list("abcdef"))
    for number in range(4):
        each_lacks_one.iloc[number, number] = NAN
    result = ranks(each_lacks_one)
    assert result.settings == [0, 4, 5]
    assert result.mean.to_dict() == {"f": 1, "e": 2, "d": 3, "c": 4, "b": 5}
    assert ranks(each_lacks_one[["a", "e", "f"]].iloc[[0, 0, 0, 5]]).mean.to_dict() == (
        {"f": 1, "e": 2}
    )


def test_groups_with_no_seed_in_common_have_no_places() -> None:
    apart = frame(a=[1, 2, 3, NAN, NAN, NAN], b=[NAN, NAN, NAN, 4, 5, 6])
    assert rankable(apart).empty
    assert rankable(frame(a=[1, 2], b=[3, 4])).empty
    assert rankable(frame(a=[1, 2, 3, 4], b=[3, 4, 5, NAN])).shape == (3, 2)


@pytest.mark.parametrize("shape", [(0, 3), (1, 3), (3, 1), (0, 0)])
def test_one_setting_or_one_group_is_not_ranked(shape: tuple[int, int]) -> None:
    assert ranks(pd.DataFrame(np.ones(shape))) is None


def test_groups_are_ranked_over_the_seeds_that_all_have() -> None:
    """b has the best seeds only, and is worse in every pair; c has too few to be ranked."""
    values = frame(
        a=[0.1, 0.2, 0.3, 0.4], b=[NAN, 0.17, 0.27, 0.37], c=[NAN, NAN, NAN, 0.9]
    )  # fmt: skip
    means = common_seeds(values).mean()
    assert means.to_dict() == pytest.approx({"a": 0.3, "b": 0.27})
    assert standing(values).best == {"a"}
    assert by_mean(values) == ["a", "b", "c"]
    assert common_seeds(values[["c"]]).mean().to_dict() == {"c": 0.9}


def test_none_is_the_best_where_no_seed_is_common() -> None:
    apart = frame(a=[1, 2, 3, NAN, NAN, NAN], b=[NAN, NAN, NAN, 4, 5, 6])
    assert common_seeds(apart).empty
    assert standing(apart) == Standing()
    assert by_mean(apart) == ["b", "a"]


def test_the_best_and_those_level_with_it() -> None:
    values = frame(
        a=[0.50, 0.61, 0.72, 0.80],
        b=[0.40, 0.50, 0.60, 0.69],
        c=[0.49, 0.62, 0.71, 0.82],
        once=[0.1, NAN, NAN, NAN],
    )
    assert standing(values) == Standing({"c"}, {"a"}, {"once"})
    assert standing(values[2:]) == Standing({"c"}, set(), {"a", "b", "once"})
    assert standing(values[["once"]][1:]) == Standing()
    tied = frame(a=[0.1, 0.2], b=[0.2, 0.1], c=[0.1, 0.1])
    assert standing(tied) == Standing({"a", "b"}, set(), {"c"})


def test_labels_needed_and_saved_by_hand() -> None:
    accuracies = {
        10: frame(fast=[0.5, 0.9], slow=[0.1, 0.2]),
        30: frame(fast=[0.8, 0.7], slow=[0.3, 0.4]),
        20: frame(fast=[0.8, 0.7], slow=[0.8, 0.3]),
    }
    needed = labels_needed(accuracies, 0.8)
    assert needed["fast"].tolist() == [20, 10]
    assert needed["slow"].tolist()[0] == 20
    assert math.isnan(needed["slow"].tolist()[1])
    of_seeds = labels_needed(accuracies, pd.Series([0.5, 0.95]))
    assert of_seeds["fast"].tolist()[0] == 10
    assert math.isnan(of_seeds["fast"].tolist()[1])
    saved = share_saved(needed, "slow")
    assert saved["fast"].tolist()[0] == 0
    assert math.isnan(saved["fast"].tolist()[1])
    assert share_saved(frame(random=[200, 100], mask=[150, 120]), "random")["mask"].tolist() == [
        0.25,
        pytest.approx(-0.2),
    ]


def test_penalties_by_hand() -> None:
    """Two settings: in one a beats b at one of two numbers of labels, in the other at all."""
    clear = frame(a=[0.50, 0.61, 0.72], b=[0.40, 0.50, 0.60])
    level = frame(a=[0.50, 0.61, 0.72], b=[0.55, 0.50, 0.80])
    alone = frame(a=[0.50, 0.61, 0.72])
    beaten = penalties(
        {"first": {20: clear, 40: level}, "second": {20: clear}, "third": {20: alone}}, ["a", "b"]
    )
    assert beaten.matrix.loc["a", "b"] == 1.5
    assert beaten.matrix.loc["b", "a"] == 0
    assert math.isnan(beaten.matrix.loc["a", "a"])
    assert beaten.tested.loc["a", "b"] == beaten.tested.loc["b", "a"] == 2
    assert beaten.lost.to_dict() == {"a": 0, "b": 1.5}
    untested = penalties({"few": {20: clear[:2]}}, ["a", "b"])
    assert untested.matrix.isna().all(axis=None)
    assert not untested.tested.any(axis=None)


def test_without_spread_nothing_is_beaten() -> None:
    same = frame(a=[0.50, 0.61, 0.72], b=[0.40, 0.51, 0.62])
    clear = frame(a=[0.50, 0.61, 0.72], b=[0.40, 0.50, 0.60])
    beaten = penalties({"one": {20: same, 40: clear}}, ["a", "b"])
    assert beaten.matrix.loc["a", "b"] == 0.5
    assert beaten.constant == 1
    alone = penalties({"one": {20: same}}, ["a", "b"])
    assert alone.matrix.isna().all(axis=None)
    assert standing(same) == Standing({"a"}, set(), set(), {"b"})


def test_what_rounding_leaves_is_no_difference_and_breaks_no_tie() -> None:
    assert compared(frame(a=[0.1 + 0.2] * 5, b=[0.3] * 5), "a", "b").difference == 0
    hundredths = [3, -1, 2, 5, 1, -2, 4, 1, 3, 2, -1, 6]
    base = [0.61, 0.33, 0.47, 0.29, 0.58, 0.71, 0.13, 0.44, 0.52, 0.37, 0.83, 0.19]
    better = [number + step / 100 for number, step in zip(base, hundredths, strict=True)]
    assert compared(frame(a=better, b=base), "a", "b").wilcoxon == (
        signed_ranks(np.array(hundredths, float))
    )
    means = pd.DataFrame({"a": [0.1 + 0.2, 0.5], "b": [0.3, 0.5]})
    assert ranks(means).mean.to_dict() == {"a": 1.5, "b": 1.5}


def test_groups_that_are_level_everywhere_have_no_friedman_test() -> None:
    result = ranks(pd.DataFrame(np.ones((6, 3)), columns=list("abc")))
    assert result.friedman is None
    assert result.mean.tolist() == [2, 2, 2]


def test_ranks_are_those_of_demsar() -> None:
    """Four classifiers on 14 data sets: Demsar 2006, table 6; there the critical difference for
    alpha = 0.05 and four classifiers is 2.569 sqrt(4 5 / (6 14)) = 1.25."""
    rows = [
        (0.763, 0.768, 0.771, 0.798), (0.599, 0.591, 0.590, 0.569), (0.954, 0.971, 0.968, 0.967),
        (0.628, 0.661, 0.654, 0.657), (0.882, 0.888, 0.886, 0.898), (0.936, 0.931, 0.916, 0.931),
        (0.661, 0.668, 0.609, 0.685), (0.583, 0.583, 0.563, 0.625), (0.775, 0.838, 0.866, 0.875),
        (1.000, 1.000, 1.000, 1.000), (0.940, 0.962, 0.965, 0.962), (0.619, 0.666, 0.614, 0.669),
        (0.972, 0.981, 0.9751, 0.975), (0.957, 0.978, 0.946, 0.970),
    ]  # fmt: skip
    result = ranks(pd.DataFrame(rows, columns=["C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf"]))
    assert result.mean.tolist() == pytest.approx([3.143, 2.000, 2.893, 1.964], abs=5e-4)
    assert result.critical_difference == pytest.approx(1.25, abs=0.005)
    assert result.friedman == stats.friedmanchisquare(*zip(*rows, strict=True)).pvalue


def test_ranks_of_few_settings_have_no_critical_difference() -> None:
    means = pd.DataFrame({"a": [0.9, 0.8, NAN], "b": [0.7, 0.8, 0.1], "c": [0.1, 0.2, 0.3]})
    result = ranks(means)
    assert result.settings == [0, 1]
    assert result.mean.to_dict() == {"a": 1.25, "b": 1.75, "c": 3.0}
    assert (result.critical_difference, result.friedman) == (None, None)
