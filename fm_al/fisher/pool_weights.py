"""How much each image of the pool counts in its mean information F."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from fm_al.device import float64_device
from fm_al.fisher.options import DesignOptions
from fm_al.fisher.pool import ScoredPool

AT_ONCE = 2**23  # probabilities in float64 that are computed together
COPIES = 5  # of them while they are


def pool_weights(pool: ScoredPool, options: DesignOptions, temperature: float) -> Tensor:
    """Return the weight of each image's information in F, (N,) float64 of sum 1."""
    device = float64_device(pool.device)

    def predicted(logits: Tensor) -> Tensor:
        return functional.one_hot(logits.argmax(dim=1), pool.classes).to(device).double()

    def probable(logits: Tensor) -> Tensor:
        return logits.to(device, torch.float64, copy=True).div_(temperature).softmax(dim=1)

    if options.pool_fisher == "class_balanced":
        return _class_balanced(pool.logits, predicted)
    if options.pool_fisher == "soft_class_balanced":
        return _class_balanced(pool.logits, probable)
    return torch.full((len(pool),), 1 / len(pool), dtype=torch.float64)


def pool_weights_needs(images: int, classes: int) -> dict[str, int]:
    """Bytes, by purpose, that `pool_weights` needs."""
    numbers = COPIES * min(images * classes, max(AT_ONCE, classes)) + 2 * images
    return {f"probabilities of {images:,} images": 8 * numbers}


def _class_balanced(logits: Tensor, memberships_of: Callable[[Tensor], Tensor]) -> Tensor:
    """Return weights, (N,) of sum 1, that give every class with members the same total.

    Within a class an image's weight is proportional to its membership.

    Args:
        logits: (N, C).
        memberships_of: Returns the memberships of some images by their logits, (n, C) float64 with
            rows of sum 1.
    """
    parts = logits.split(max(1, AT_ONCE // logits.shape[1]))
    members = sum(memberships_of(part).sum(dim=0) for part in parts)
    assert isinstance(members, Tensor)
    there = members > 0
    if bool(there.all()):
        return torch.cat([memberships_of(part).div_(members).mean(dim=1) for part in parts])
    members = members[there]
    return torch.cat([memberships_of(part)[:, there].div_(members).mean(dim=1) for part in parts])
