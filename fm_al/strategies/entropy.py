"""Entropy: the images with the most uncertain predictions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fm_al.strategies.base import Query, QuerySizes, Strategy
from fm_al.strategies.candidates import CandidateOptions


@dataclass(frozen=True, kw_only=True)
class Entropy(CandidateOptions, Strategy):
    """Pick the n images with the largest entropy -sum_c p_c log p_c.

    Shannon 1948; as a query strategy, Settles 2009, section 3.1. Ties go to the lowest index.

    Args:
        augment: Score images as training sees them.
    """

    augment: bool = False

    def memory(self, sizes: QuerySizes, n: int) -> dict[str, int]:
        return sizes.embeddings | sizes.scores

    def select(self, query: Query, n: int, generator: torch.Generator) -> Tensor:
        scores = query.scores(lambda probabilities: torch.special.entr(probabilities).sum(dim=1))
        entropy = scores[query.unlabelled]
        return query.unlabelled[entropy.argsort(descending=True, stable=True)[:n]]
