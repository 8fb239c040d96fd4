"""Least confidence in the predicted class (Lewis and Gale 1994)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fm_al.strategies.base import Query, Strategy


@dataclass(frozen=True, kw_only=True)
class LeastConfidence(Strategy):
    """The n smallest max_c p_c; ties go to the lowest index."""

    augment: bool = False

    def select(self, query: Query, n: int, generator: torch.Generator) -> Tensor:
        confidence = query.probabilities[query.unlabelled].amax(dim=1)
        return query.unlabelled[confidence.argsort(stable=True)[:n]]
