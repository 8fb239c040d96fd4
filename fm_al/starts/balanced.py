"""The same number of images of each class."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fm_al.data.pool import Pool
from fm_al.errors import ConfigError
from fm_al.starts.base import Start
from fm_al.starts.class_counts import drawn_by_class, pool_counts


@dataclass(frozen=True, kw_only=True)
class BalancedStart(Start):
    """Draw n / C images of each of the C classes uniformly.

    What is left of n goes to as many different classes, drawn at random.
    """

    uses_classes = True

    def choose(self, pool: Pool, n: int, generator: torch.Generator) -> Tensor:
        counts = [n // pool.classes] * pool.classes
        for c in torch.randperm(pool.classes, generator=generator)[: n % pool.classes].tolist():
            counts[c] += 1
        for c, (wanted, there) in enumerate(zip(counts, pool_counts(pool), strict=True)):
            if wanted > there:
                raise ConfigError(
                    f"budget.start=balanced: needs {wanted} images of class number {c}, which has "
                    f"{there} in the pool; lower budget.initial={n}, or use budget.start=stratified"
                )
        return drawn_by_class(pool, counts, generator)
