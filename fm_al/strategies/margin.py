"""Margin: the images whose two most probable classes are closest."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fm_al.strategies.base import Query, Strategy


@dataclass(frozen=True, kw_only=True)
class Margin(Strategy):
    """Pick the n images with the smallest difference of the two largest probabilities.

    Scheffer, Decomain and Wrobel 2001. Ties go to the lowest index.

    Args:
        augment: Score images as training sees them.
    """

    augment: bool = False

    def select(self, query: Query, n: int, generator: torch.Generator) -> Tensor:
        largest = query.probabilities[query.unlabelled].topk(2, dim=1).values
        margin = largest[:, 0] - largest[:, 1]
        return query.unlabelled[margin.argsort(stable=True)[:n]]
