"""Effects beside scipy's tests."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from fm_al.report.verdict.effects import Effect, corrected, effect, effects


def frame(seed: int, count: int, lead: float, spread: float = 1.0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    b = random.normal(size=count)
    return pd.DataFrame({"a": b + lead + spread * random.normal(size=count), "b": b})


def test_one_setting_is_the_paired_t_test() -> None:
    for seed in range(5):
        given = frame(seed, 5, 0.5)
        found = effect([given], "a", "b")
        expected = stats.ttest_rel(given["a"], given["b"])
        interval = expected.confidence_interval(0.95)
        assert found.p_value == pytest.approx(expected.pvalue)
        assert found.interval == pytest.approx((interval.low, interval.high))
        assert found.difference == pytest.approx((given["a"] - given["b"]).mean())


def test_two_settings_are_welchs_test() -> None:
    """The mean of two means is half the difference of the first and the negated second."""
    for seed in range(5):
        first, second = frame(seed, 5, 0.5, 0.3), frame(seed + 100, 8, 0.2, 2.0)
        found = effect([first, second], "a", "b")
        gains = [each["a"] - each["b"] for each in (first, second)]
        expected = stats.ttest_ind(gains[0], -gains[1], equal_var=False)
        interval = expected.confidence_interval(0.95)
        assert found.p_value == pytest.approx(expected.pvalue)
        assert found.interval == pytest.approx((interval.low / 2, interval.high / 2))
        assert found.difference == pytest.approx(np.mean([gains[0].mean(), gains[1].mean()]))


def test_settings_count_the_same_whatever_their_seeds() -> None:
    many, few = frame(0, 50, 0.0), frame(1, 3, 9.0)
    assert effect([many, few], "a", "b").difference == pytest.approx(
        ((many["a"] - many["b"]).mean() + (few["a"] - few["b"]).mean()) / 2
    )


def test_without_spread_or_with_two_seeds_nothing_is_tested() -> None:
    same = pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": [0.5, 1.5, 2.5]})
    for given in ([same], [same, same], [frame(1, 5, 1.0), frame(0, 2, 1.0)]):
        found = effect(given, "a", "b")
        assert found.p_value is None
        assert not found.is_significant
    assert str(effect([same], "a", "b")) == "+0.500"


def test_a_setting_without_spread_counts_beside_one_that_varies() -> None:
    same = pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": [0.5, 1.5, 2.5]})
    given = frame(1, 5, 1.0)
    found, alone = effect([given, same], "a", "b"), effect([given], "a", "b")
    assert found.difference == pytest.approx((alone.difference + 0.5) / 2)
    assert found.interval is not None
    assert alone.interval is not None
    assert np.diff(found.interval) == pytest.approx(np.diff(alone.interval) / 2)


def test_effects_are_corrected_by_holm() -> None:
    given = frame(3, 6, 2.0).assign(c=lambda each: each["b"] + 0.1, d=0.0)
    found = effects([given], "a", ["b", "c", "d"])
    alone = sorted(each.p_value or 0 for each in found)
    least = min(found, key=lambda each: each.p_value or 0)
    assert least.corrected == pytest.approx(3 * alone[0])
    assert corrected(found) == found


def test_turned_is_the_other_way_round() -> None:
    found = Effect("a", "b", 0.1, (0.05, 0.15), 0.01, 0.02)
    turned = found.turned
    assert (turned.first, turned.second, turned.interval) == ("b", "a", (-0.15, -0.05))
    assert found.is_gain
    assert turned.is_loss
    assert turned.turned == found
    assert str(turned) == "-0.100 [-0.150, -0.050]"
