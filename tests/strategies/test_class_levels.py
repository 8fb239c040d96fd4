from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fm_al.strategies.class_levels import levelled, wanted
from tests.oracle_quota import levelled_one_by_one

COUNTS = st.lists(st.integers(0, 12), min_size=1, max_size=6)


@given(counts=COUNTS, data=st.data())
def test_images_go_one_by_one_to_the_class_with_the_fewest(
    counts: list[int], data: st.DataObject
) -> None:
    most = [data.draw(st.integers(0, 9)) for _ in counts]
    n = data.draw(st.integers(0, sum(most)))
    assert levelled(counts, n, most) == levelled_one_by_one(counts, n, most)


def test_a_worked_example_of_levels() -> None:
    assert levelled([9, 2, 0, 5], 8, [99] * 4) == [0, 3, 5, 0]  # to 9, 5, 5, 5
    assert levelled([9, 2, 0, 5], 8, [99, 99, 1, 99]) == [0, 5, 1, 2]  # to 9, 7, 1, 7
    assert levelled([9, 2, 0, 5], 30, [99] * 4) == [3, 10, 11, 6]  # 46 labels: 12, 12, 11, 11
    assert levelled([0, 0, 0], 2, [99] * 3) == [1, 1, 0]
    assert wanted([9, 2, 0, 5], 8) == pytest.approx([0, 3, 5, 0])
    assert wanted([9, 2, 0, 5], 30) == pytest.approx([2.5, 9.5, 11.5, 6.5])
    assert wanted([0, 0, 0], 2) == pytest.approx([2 / 3] * 3)


@given(counts=COUNTS, n=st.integers(1, 60))
def test_what_is_wanted_raises_all_to_one_level(counts: list[int], n: int) -> None:
    lacking = wanted(counts, n)
    assert lacking.sum() == pytest.approx(n)
    assert (lacking >= 0).all()
    level = (np.array(counts) + lacking).min()
    assert lacking == pytest.approx(np.maximum(0, level - np.array(counts)))
