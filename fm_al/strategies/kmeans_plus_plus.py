"""k-means++ seeding (Arthur and Vassilvitskii 2007)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def kmeans_plus_plus(
    squared_distances: Callable[[int], Tensor],
    candidates: Tensor,
    first: int,
    n: int,
    generator: torch.Generator,
) -> Tensor:
    """Draw candidates in proportion to their squared distance to the nearest pick.

    When every candidate left coincides with a pick, the rest are taken by lowest index.

    Args:
        squared_distances: Gives the squared distances of all points to one of them, float (N,).
        candidates: Which points may be picked, bool (N,); at least n of them.
        first: The first pick, a candidate.
        n: How many to pick, with the first.
        generator: A CPU generator.

    Returns:
        Distinct indices of candidates, int64 (n,), on the CPU, in the order of picking.
    """
    picks = [first]
    nearest = torch.where(candidates, torch.inf, 0.0)
    # Sums in float64 on the CPU make every device draw alike. A point at distance 0, such as a
    # pick, adds exactly nothing and cannot be drawn.
    cumulative = torch.empty(len(candidates), dtype=torch.float64)
    for uniform in torch.rand(n - 1, dtype=torch.float64, generator=generator).tolist():
        torch.minimum(nearest, squared_distances(picks[-1]), out=nearest)
        nearest[picks[-1]] = 0
        torch.cumsum(cumulative.copy_(nearest), dim=0, out=cumulative)
        total = float(cumulative[-1])
        if total == 0:
            break
        picks.append(int(torch.searchsorted(cumulative, uniform * total, right=True)))
    left = candidates.clone()
    left[picks] = False
    rest = left.nonzero().squeeze(1)[: n - len(picks)]
    return torch.cat([torch.tensor(picks), rest.cpu()])
