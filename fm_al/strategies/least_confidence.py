"""Least confidence: the images whose predicted class is least probable."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fm_al.strategies.base import Query, Strategy


@dataclass(frozen=True, kw_only=True)
class LeastConfidence(Strategy):
    """Pick the n images with the smallest max_c p_c.

    Lewis and Gale 1994, arXiv cmp-lg/9407020. Ties go to the lowest index.

    Args:
        augment: Score images as training sees them.
    """

    augment: bool = False

    def select(self, query: Query, n: int, generator: torch.Generator) -> Tensor:
        confidence = query.probabilities[query.unlabelled].amax(dim=1)
        return query.unlabelled[confidence.argsort(stable=True)[:n]]
