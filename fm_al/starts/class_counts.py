"""Images drawn so that the classes have given counts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fm_al.data.pool import Pool


def drawn_by_class(pool: Pool, counts: Sequence[int], generator: torch.Generator) -> Tensor:
    """Draw so many images of every class uniformly, and shuffle them.

    Args:
        pool: The images.
        counts: How many images of each class, at most as many as the class has.
        generator: A CPU generator.

    Returns:
        Indices, int64 (sum of the counts,), on the CPU.
    """
    targets = pool.hidden_targets(torch.arange(len(pool), device=pool.device)).cpu()
    order = torch.randperm(len(targets), generator=generator)
    of_classes = [order[targets[order] == c][:count] for c, count in enumerate(counts)]
    drawn = torch.cat(of_classes)
    return drawn[torch.randperm(len(drawn), generator=generator)]


def pool_counts(pool: Pool) -> list[int]:
    """How many images each class has in the pool."""
    targets = pool.hidden_targets(torch.arange(len(pool), device=pool.device))
    return torch.bincount(targets, minlength=pool.classes).tolist()
