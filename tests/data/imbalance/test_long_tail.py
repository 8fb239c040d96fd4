from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fm_al.config import check
from fm_al.data.imbalance.long_tail import LongTail
from fm_al.errors import ConfigError
from tests.conftest import Compose
from tests.helpers.configs import resolved


def names(count: int) -> tuple[str, ...]:
    return tuple(f"c{number}" for number in range(count))


def test_cifar10_with_ratio_100_has_the_counts_known_from_the_literature():
    kept = LongTail(ratio=100).counts(names(10), [5000] * 10, [1000] * 10)
    assert kept.classes == list(range(10))
    assert kept.pool == [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
    assert kept.test == [1000] * 10


@pytest.mark.parametrize(
    ("ratio", "total", "smallest"), [(10, 19573, 50), (50, 12608, 10), (100, 10847, 5)]
)
def test_cifar100_has_the_counts_known_from_the_literature(ratio, total, smallest):
    kept = LongTail(ratio=ratio).counts(names(100), [500] * 100, [100] * 100)
    assert (sum(kept.pool), kept.pool[0], kept.pool[-1]) == (total, 500, smallest)
    assert kept.test == [100] * 100


def test_two_classes_have_the_two_ends_of_the_tail():
    kept = LongTail(ratio=20, test=True).counts(names(2), [900, 700], [100, 80])
    assert kept.pool == [900, 45]
    assert kept.test == [100, 5]


def test_a_first_class_that_is_scarce_sets_the_size_of_all():
    kept = LongTail(ratio=4).counts(names(3), [40, 900, 900], [10, 20, 30])
    assert (kept.pool, kept.test) == ([40, 20, 10], [10, 20, 30])


def test_the_test_set_follows_where_asked():
    kept = LongTail(ratio=10, test=True).counts(names(3), [100] * 3, [50] * 3)
    assert kept.pool == [100, 31, 10]
    assert kept.test == [50, 15, 5]


@given(
    available=st.lists(st.integers(200, 9000), min_size=2, max_size=30),
    ratio=st.floats(1, 150),
)
def test_counts_fall_from_largest_to_smallest_by_the_ratio(available, ratio):
    kept = LongTail(ratio=ratio).counts(names(len(available)), available, available).pool
    assert kept == sorted(kept, reverse=True)
    assert kept[-1] == int(kept[0] / ratio + 1e-6)
    assert all(k <= n for k, n in zip(kept, available, strict=True))


def test_a_ratio_that_empties_a_class_is_refused():
    with pytest.raises(ConfigError, match=r"imbalance\.ratio=300: class 'c2' .* use at most 250"):
        LongTail(ratio=300).counts(names(3), [250] * 3, [250] * 3)


def test_a_ratio_below_one_is_refused(compose: Compose):
    config = resolved(compose("imbalance=long_tail", "imbalance.ratio=0.9"))
    with pytest.raises(ConfigError, match=r"imbalance\.ratio=0\.9: should be greater than"):
        check(config)
