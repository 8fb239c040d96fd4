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
