"""Entropy of the predicted distribution (Shannon 1948; Settles 2009, section 3.1)."""

from __future__ import annotations

import torch
from torch import Tensor

from fm_al.strategies.base import Query, Strategy


class Entropy(Strategy):
    """The n largest -sum_c p_c log p_c; ties go to the lowest index."""

    def select(self, query: Query, n: int, generator: torch.Generator) -> Tensor:
        entropy = torch.special.entr(query.probabilities[query.unlabelled]).sum(dim=1)
        return query.unlabelled[entropy.argsort(descending=True, stable=True)[:n]]
