"""How a batch is shared among the classes, so that their numbers of labels become level."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def levelled(counts: Sequence[int], n: int, most: Sequence[int]) -> list[int]:
    """Share n images among the classes: each one goes to the class that has the fewest.

    A class that has received the most that it can take is passed over. Ties go to the first class.

    Args:
        counts: What each class has before.
        n: At most the sum of `most`.
        most: What each class can take.

    Returns:
        What each class receives; the sum is n.
    """

    def shares(level: int) -> list[int]:
        """What raises all classes to a level, as far as they can take it."""
        return [
            min(max(level - count, 0), bound) for count, bound in zip(counts, most, strict=True)
        ]

    level, above = min(counts), max(counts) + n + 1
    while above - level > 1:  # sum(shares(level)) is at most n
        middle = (level + above) // 2
        level, above = (middle, above) if sum(shares(middle)) <= n else (level, middle)
    received, fuller = shares(level), shares(level + 1)
    left = n - sum(received)
    for c in range(len(received)):
        more = min(fuller[c] - received[c], left)
        received[c] += more
        left -= more
    return received


def wanted(counts: Sequence[int], n: int) -> np.ndarray:
    """What each class lacks to the level that n images more reach, in fractions of images.

    Returns:
        max(0, level - counts), float64 (C,), with the level for which their sum is n.
    """
    ascending = np.sort(np.asarray(counts, dtype=np.float64))
    sizes = np.arange(1, len(ascending) + 1)
    levels = (ascending.cumsum() + n) / sizes  # if so many of the smallest classes are raised
    raised = sizes[levels > ascending].max(initial=1)
    return np.maximum(0.0, levels[raised - 1] - np.asarray(counts, dtype=np.float64))
