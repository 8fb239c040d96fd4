"""Images drawn uniformly."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fm_al.data.pool import Pool
from fm_al.starts.base import Start


@dataclass(frozen=True, kw_only=True)
class RandomStart(Start):
    """Draw images uniformly from the pool."""

    def choose(self, pool: Pool, n: int, generator: torch.Generator) -> Tensor:
        return torch.randperm(len(pool), generator=generator)[:n]
