"""A strategy that leaves time for something to happen to its run."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from fm_al.strategies.base import Query
from fm_al.strategies.random import Random


class Slow(Random):
    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def select(self, query: Query, n: int, generator: torch.Generator) -> Tensor:
        time.sleep(self.seconds)
        return super().select(query, n, generator)
