from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fm_al.config import check
from fm_al.data.base import ClassCounts
from fm_al.data.imbalance.counts import Counts
from fm_al.errors import ConfigError
from tests.conftest import Compose
from tests.helpers.configs import built, resolved

NAMES = ("ant", "bee", "cat", "dog")
POOL, TEST = [100, 200, 300, 400], [10, 20, 30, 40]


def counted(**options: Any) -> ClassCounts:
    return Counts(**options).counts(NAMES, POOL, TEST)


def test_classes_are_renumbered_in_their_order_however_they_are_given():
    assert counted(pool={"dog": 7, 0: 100}) == ClassCounts([0, 3], [100, 7], [10, 40])


def test_the_test_set_has_counts_of_its_own_in_any_order():
    assert counted(pool={3: 7, 0: 100}, test={"dog": 2, "ant": 1}).test == [1, 2]


def test_one_number_for_the_test_set_holds_for_every_class_kept():
    assert counted(pool={3: 7, 1: 100}, test=20).test == [20, 20]


def test_a_capped_number_is_lowered_for_all_classes_to_what_the_scarcest_has():
    assert counted(pool={3: 7, 1: 1, 2: 1}, test=35, test_capped=True).test == [20, 20, 20]
    assert counted(pool={3: 7, 1: 1, 2: 1}, test=15, test_capped=True).test == [15, 15, 15]


@given(st.data())
def test_any_possible_request_is_met_exactly(data):
    order = data.draw(st.permutations(range(4)))[: data.draw(st.integers(2, 4))]
    pool = {c: data.draw(st.integers(1, POOL[c])) for c in order}
    test = {c: data.draw(st.integers(1, TEST[c])) for c in order}
    kept = counted(pool=pool, test=test)
    classes = sorted(order)
    assert kept == ClassCounts(classes, [pool[c] for c in classes], [test[c] for c in classes])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pool": {0: 101, 1: 5}}, r"imbalance\.pool: 101 .* class 'ant', which has 100"),
        ({"pool": {0: 1, 1: 5}, "test": 11}, r"imbalance\.test: 11 .* 'ant', which has 10"),
        ({"pool": {0: 1, 1: 5}, "test": {0: 1, 1: 21}}, r"test: 21 .* 'bee', which has 20"),
        (
            {"pool": {0: 1, 1: 5}, "test": {0: 1, 2: 2}},
            r"imbalance\.test: .*\['ant', 'cat'\].*\['ant', 'bee'\]",
        ),
        ({"pool": {0: 1, "ant": 5}}, r"imbalance\.pool: class 'ant' is named twice"),
        ({"pool": {0: 1, "owl": 5}}, r"imbalance\.pool: no class 'owl'"),
        ({"pool": {0: 1, 4: 5}}, r"imbalance\.pool: no class 4"),
        ({"pool": {0: 1, 1: 5}, "test_capped": True}, r"imbalance\.test_capped=true: .*test=None"),
    ],
)
def test_what_cannot_be_is_refused_with_the_numbers(options, message):
    with pytest.raises(ConfigError, match=message):
        counted(**options)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("pool={0: 5}", "imbalance.pool=.*at least 2 entries"),
        ("pool={0: 5, 1: 0}", "imbalance.pool=.*greater than 0"),
        ("pool={0: 5, 1: many}", "imbalance.pool=.*valid integer"),
    ],
)
def test_options_out_of_range_are_refused(override, message, compose: Compose):
    config = resolved(compose("imbalance=counts", f"imbalance.{override}"))
    with pytest.raises(ConfigError, match=message):
        check(config)


@pytest.mark.parametrize(
    ("data_set", "pool", "test", "kept"),
    [
        ("cifar10", [5000] * 10, [1000] * 10, 1000),
        ("svhn", [4948, 13861, 10585, 8497, 7458], [1744, 5099, 4149, 2882, 2523], 1000),
        ("mnist", [5923, 6742, 5958, 6131, 5842], [980, 1135, 1032, 1010, 982], 980),
        ("fashion_mnist", [6000] * 10, [1000] * 10, 1000),
    ],
)
def test_the_papers_setting(data_set, pool, test, kept):
    names = tuple(f"{data_set} {number}" for number in range(len(pool)))
    counts = built("imbalance", "paper").counts(names, pool, test)
    assert counts == ClassCounts([0, 1, 2, 3], [250, 5000, 250, 250], [kept] * 4)
