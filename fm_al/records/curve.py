"""The area under a learning curve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise


def area_under_curve(n_labelled: Sequence[int], accuracy: Sequence[float]) -> float:
    """Integrates a metric over the number of labels by the trapezoid rule.

    Args:
        n_labelled: Number of labelled images in each round, increasing.
        accuracy: The metric in each round.

    Returns:
        The area divided by the range of labels, in [0, 1] for a metric in [0, 1]; the metric itself
        for one round.
    """
    if len(n_labelled) == 1:
        return accuracy[0]
    points = zip(n_labelled, accuracy, strict=True)
    area = math.fsum((b - a) * (y + z) / 2 for (a, y), (b, z) in pairwise(points))
    return area / (n_labelled[-1] - n_labelled[0])
