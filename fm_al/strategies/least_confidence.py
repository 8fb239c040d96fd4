"""Least confidence: the images whose predicted class is least probable."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fm_al.strategies.base import Query, QuerySizes, Strategy
from fm_al.strategies.candidates import CandidateOptions


@dataclass(frozen=True, kw_only=True)
class LeastConfidence(CandidateOptions, Strategy):
    """Pick the n images with the smallest max_c p_c.

    Lewis and Gale 1994, arXiv cmp-lg/9407020. Ties go to the lowest index.

    Args:
        augment: Score images as training sees them.
    """

    augment: bool = False

    def memory(self, sizes: QuerySizes, n: int) -> dict[str, int]:
        return sizes.embeddings | sizes.scores

    def select(self, query: Query, n: int, generator: torch.Generator) -> Tensor:
        confidence = query.scores(lambda probabilities: probabilities.amax(dim=1))
        confidence = confidence[query.unlabelled]
        return query.unlabelled[confidence.argsort(stable=True)[:n]]
