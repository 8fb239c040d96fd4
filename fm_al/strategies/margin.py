"""Margin: the images whose two most probable classes are closest."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fm_al.strategies.base import Query, QuerySizes, Strategy
from fm_al.strategies.candidates import CandidateOptions


@dataclass(frozen=True, kw_only=True)
class Margin(CandidateOptions, Strategy):
    """Pick the n images with the smallest difference of the two largest probabilities.

    Scheffer, Decomain and Wrobel 2001. Ties go to the lowest index.

    Args:
        augment: Score images as training sees them.
    """

    augment: bool = False

    def memory(self, sizes: QuerySizes, n: int) -> dict[str, int]:
        return sizes.embeddings | sizes.scores

    def select(self, query: Query, n: int, generator: torch.Generator) -> Tensor:
        margin = query.scores(margins)[query.unlabelled]
        return query.unlabelled[margin.argsort(stable=True)[:n]]


def margins(probabilities: Tensor) -> Tensor:
    """The difference of the two largest probabilities of every row, (N, C): (N,)."""
    largest = probabilities.topk(2, dim=1).values
    return largest[:, 0] - largest[:, 1]
