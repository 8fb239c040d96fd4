from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fm_al.config import check
from fm_al.data.imbalance.step import Step
from fm_al.errors import ConfigError
from tests.conftest import Compose
from tests.helpers.configs import resolved

NAMES = ("ant", "bee", "cat", "dog")


def test_minority_classes_are_cut_by_the_ratio():
    kept = Step(minority_classes=["bee", 3], ratio=10).counts(NAMES, [500] * 4, [100] * 4)
    assert kept.classes == [0, 1, 2, 3]
    assert kept.pool == [500, 50, 500, 50]
    assert kept.test == [100] * 4


def test_the_test_set_follows_where_asked():
    step = Step(minority_classes=[0], ratio=3, test=True)
    assert step.counts(NAMES, [500] * 4, [100] * 4).test == [33, 100, 100, 100]


def test_classes_that_are_not_named_are_left_out():
    step = Step(minority_classes=["dog"], ratio=4, classes=[3, "bee"])
    kept = step.counts(NAMES, [10, 80, 10, 40], [1, 2, 3, 4])
    assert (kept.classes, kept.pool, kept.test) == ([1, 3], [80, 20], [2, 4])
    with pytest.raises(ConfigError, match=r"class 'ant' is not among imbalance\.classes=\[1, 3\]"):
        Step(minority_classes=["ant"], ratio=4, classes=[1, 3]).counts(NAMES, [9] * 4, [9] * 4)


@given(
    available=st.lists(st.integers(50, 9000), min_size=4, max_size=4),
    minority=st.sets(st.integers(0, 3), min_size=1, max_size=3),
    ratio=st.floats(1, 40),
)
def test_the_ratio_holds_whatever_the_classes_own_sizes(available, minority, ratio):
    step = Step(minority_classes=sorted(minority), ratio=ratio)
    kept = step.counts(NAMES, available, available).pool
    small = {kept[c] for c in minority}
    large = {kept[c] for c in range(4) if c not in minority}
    assert len(small) == len(large) == 1
    n = large.pop()
    assert small == {int(n / ratio + 1e-9)}
    assert all(k <= n for k, n in zip(kept, available, strict=True))


def test_a_ratio_that_empties_a_class_is_refused():
    step = Step(minority_classes=[0], ratio=150, test=True)
    with pytest.raises(
        ConfigError, match=r"test set, .* has 100; use at most 100, or imbalance\.test"
    ):
        step.counts(NAMES, [500] * 4, [100] * 4)


def test_a_majority_must_remain():
    with pytest.raises(ConfigError, match=r"imbalance\.minority_classes=.* all 4 classes"):
        Step(minority_classes=[3, "ant", "bee", "cat"], ratio=2).counts(NAMES, [9] * 4, [9] * 4)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("ratio=0.5", "imbalance.ratio=0.5: should be greater than or equal to 1"),
        ("ratio=.inf", "imbalance.ratio"),
        ("minority_classes=[]", "imbalance.minority_classes=\\[\\]"),
        ("minority_classes=ant", "imbalance.minority_classes=ant"),
    ],
)
def test_options_out_of_range_are_refused(override, message, compose: Compose):
    config = resolved(compose("imbalance=step", f"imbalance.{override}"))
    with pytest.raises(ConfigError, match=message):
        check(config)
