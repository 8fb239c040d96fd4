"""Entropy of the predicted distribution (Shannon 1948; Settles 2009, section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fm_al.strategies.base import Query, Strategy


@dataclass(frozen=True, kw_only=True)
class Entropy(Strategy):
    """The n largest -sum_c p_c log p_c; ties go to the lowest index."""

    augment: bool = False

    def select(self, query: Query, n: int, generator: torch.Generator) -> Tensor:
        entropy = torch.special.entr(query.probabilities[query.unlabelled]).sum(dim=1)
        return query.unlabelled[entropy.argsort(descending=True, stable=True)[:n]]
