"""Margin between the two most probable classes (Scheffer et al. 2001)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fm_al.strategies.base import Query, Strategy


@dataclass(frozen=True, kw_only=True)
class Margin(Strategy):
    """The n smallest differences of the two largest probabilities; ties go to the lowest index."""

    augment: bool = False

    def select(self, query: Query, n: int, generator: torch.Generator) -> Tensor:
        largest = query.probabilities[query.unlabelled].topk(2, dim=1).values
        margin = largest[:, 0] - largest[:, 1]
        return query.unlabelled[margin.argsort(stable=True)[:n]]
