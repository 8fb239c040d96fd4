"""Uncertainty herding: images that cover what the network is unsure of."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from fm_al.strategies.base import Query, QuerySizes, Strategy
from fm_al.strategies.candidates import CandidateOptions
from fm_al.strategies.coverage import BLOCK, Directions, coverage_memory
from fm_al.strategies.max_herding import SMALLEST_SIGMA, herded
from fm_al.strategies.representation import FeatureOptions


@dataclass(frozen=True, kw_only=True)
class UncertaintyHerding(FeatureOptions, CandidateOptions, Strategy):
    """MaxHerding, with every image counting as much as the network is unsure of it.

    Bae, Oliveira and Sutherland 2025, arXiv 2412.20644, algorithm 1. Labelled images count nothing.
    While nothing is labelled all images count alike, and the network is not asked. The kernel
    narrows as labels are added: its width is the smallest distance between two labelled images. The
    authors' README switches on a calibration that trains a second network on 70% of the labels; it
    is left out here, so this is their method without calibration. Two labelled images closer than
    1e-4 count as equal; with no two distinct labelled images sigma is 1, where the authors' code
    fails.

    Args:
        sigma: The width of the kernel; None is the smallest distance of two labelled images.
        uncertainty: `margin`, 1 - (p1 - p2) of the two largest probabilities; `entropy`, of the
            probabilities; `least_confidence`, 1 - p1.
    """

    sigma: Annotated[float, Field(ge=SMALLEST_SIGMA)] | None = None
    uncertainty: Literal["margin", "entropy", "least_confidence"] = "margin"

    def memory(self, sizes: QuerySizes, n: int) -> dict[str, int]:
        parts = coverage_memory(sizes.images, self.dimension(sizes))
        return self.points_memory(sizes) | sizes.embeddings | sizes.scores | parts

    def select(self, query: Query, n: int, generator: torch.Generator) -> Tensor:
        points, labelled = Directions(self.points(query)), query.labelled
        weights = torch.ones(len(points), dtype=torch.float64)
        if len(labelled):
            weights = query.scores(UNCERTAINTIES[self.uncertainty]).to(points.device).double()
            weights[labelled.to(points.device)] = 0
        sigma = self.sigma
        if sigma is None:
            sigma = smallest_distance(points, labelled)
            query.record("sigma", sigma)
        return herded(points, weights, sigma, labelled, n)


def smallest_distance(points: Directions, chosen: Tensor) -> float:
    """The smallest distance of two distinct points among some; 1 if no two differ.

    Args:
        points: N points.
        chosen: Indices of some of them, int64.
    """
    smallest = math.inf
    parts = chosen.to(points.device).split(BLOCK) if len(chosen) else ()
    for number, rows in enumerate(parts):
        for columns in parts[number:]:
            squared = points.squared_distances(rows, columns)
            squared.masked_fill_(squared < SMALLEST_SIGMA**2, torch.inf)
            smallest = min(smallest, math.sqrt(float(squared.min())))
    return smallest if math.isfinite(smallest) else 1.0


def _doubts(probabilities: Tensor) -> Tensor:
    """1 - p1 as the sum of the others: float32's 1 - p1 is 0 once they are below 6e-8."""
    predicted = probabilities.argmax(dim=1, keepdim=True)
    return probabilities.scatter(1, predicted, 0).sum(dim=1)


def _unsure_margins(probabilities: Tensor) -> Tensor:
    return _doubts(probabilities) + probabilities.topk(2, dim=1).values[:, 1]


def _entropies(probabilities: Tensor) -> Tensor:
    return torch.special.entr(probabilities).sum(dim=1)


UNCERTAINTIES = {
    "margin": _unsure_margins,
    "entropy": _entropies,
    "least_confidence": _doubts,
}
