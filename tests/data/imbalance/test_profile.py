from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fm_al.data.imbalance.profile import fit_profile
from fm_al.errors import ConfigError
from tests.data.imbalance.test_long_tail import names


@given(st.lists(st.tuples(st.integers(2000, 10_000), st.floats(0.001, 1)), min_size=2, max_size=20))
def test_the_fit_is_possible_follows_the_profile_and_could_not_be_larger(classes):
    available = [n for n, _ in classes]
    profile = [1.0, *(share for _, share in classes[1:])]
    counts = fit_profile(dict(enumerate(profile)), available, names(len(available)), 1, "pool", "")
    assert all(1 <= kept <= n for kept, n in zip(counts, available, strict=True))
    largest = max(counts)
    assert all(abs(kept - largest * p) < 1.001 for kept, p in zip(counts, profile, strict=True))
    assert any((largest + 1) * p > n for p, n in zip(profile, available, strict=True))


def test_whole_numbers_are_not_lost_to_floating_point():
    profile = {0: 1.0, 1: 1 / 3, 3: 0.1, 4: 0.7}
    counts = fit_profile(profile, [10_000, 10_000, 1, 10_000, 10_000], names(5), 10, "pool", "")
    assert counts == [10_000, 3333, 1000, 7000]


def test_a_class_that_would_keep_nothing_is_refused_with_the_numbers():
    with pytest.raises(
        ConfigError,
        match=r"^imbalance\.ratio=200: class 'c2' would keep none of its 90 images in the pool, "
        r"where the largest class has 100; use at most 100, or else$",
    ):
        fit_profile({0: 1, 2: 1 / 200}, [100, 1, 90], names(3), 200, "pool", ", or else")
