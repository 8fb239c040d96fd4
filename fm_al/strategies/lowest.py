"""The smallest of many numbers, without sorting all of them."""

from __future__ import annotations

import torch
from torch import Tensor


def lowest(values: Tensor, count: int) -> Tensor:
    """Find the smallest values; ties go to the lowest index.

    Args:
        values: (N,), without NaN; infinite ones count as the largest.
        count: How many, from 0 to N.

    Returns:
        Their indices, int64 (count,), the smallest value first.
    """
    if count == 0:
        return torch.empty(0, dtype=torch.int64, device=values.device)
    largest = values.topk(count, largest=False).values[-1]
    below, equal = (values < largest).nonzero()[:, 0], (values == largest).nonzero()[:, 0]
    below = below[values[below].argsort(stable=True)]
    return torch.cat([below, equal[: count - len(below)]])
