"""A strategy that leaves time for something to happen to its run."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from fm_al.strategies.base import Query
from fm_al.strategies.random import Random


@dataclass(frozen=True, kw_only=True)
class Slow(Random):
    seconds: float

    def select(self, query: Query, n: int, generator: torch.Generator) -> Tensor:
        time.sleep(self.seconds)
        return super().select(query, n, generator)
