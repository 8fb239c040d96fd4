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
    """`first`, then n - 1 more, each drawn in proportion to the squared distance to the nearest
    pick. Returns n distinct candidates, int64 (n,) on the CPU, in the order of picking.

    squared_distances: of all N points to the given one, float (N,) >= 0. candidates: bool (N,), of
    which at least n are true. Once every candidate left coincides with a pick, there is nothing to
    draw in proportion to, and the rest are those of lowest index.
    """
    picks = [first]
    nearest = torch.where(candidates, torch.inf, 0.0)
    # Summed in float64 on the CPU, in order: every device draws alike, and a point of distance 0,
    # such as a pick, adds exactly nothing and can't be drawn.
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
