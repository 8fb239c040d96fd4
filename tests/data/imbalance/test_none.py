from __future__ import annotations

from fm_al.data.base import ClassCounts
from fm_al.data.imbalance.none import NoImbalance


def test_everything_is_kept():
    kept = NoImbalance().counts(("a", "b"), [3, 4], [1, 2])
    assert kept == ClassCounts([0, 1], [3, 4], [1, 2])
