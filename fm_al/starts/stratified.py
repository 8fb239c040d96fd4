"""Every class in proportion to its share of the pool."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fm_al.data.pool import Pool
from fm_al.starts.base import Start
from fm_al.starts.class_counts import drawn_by_class, pool_counts


@dataclass(frozen=True, kw_only=True)
class StratifiedStart(Start):
    """Draw n N_c / N images of each class c, which has N_c of the pool's N images.

    Shares are rounded down; the images that are left go to the classes of the largest remainders,
    the first of equal ones.
    """

    uses_classes = True

    def choose(self, pool: Pool, n: int, generator: torch.Generator) -> Tensor:
        return drawn_by_class(pool, proportional(n, pool_counts(pool)), generator)


def proportional(n: int, sizes: list[int]) -> list[int]:
    """Divide n in proportion to these sizes, by largest remainders."""
    total = sum(sizes)
    shares = [n * size // total for size in sizes]
    by_remainder = sorted(range(len(sizes)), key=lambda c: (-(n * sizes[c] % total), c))
    for c in by_remainder[: n - sum(shares)]:
        shares[c] += 1
    return shares
