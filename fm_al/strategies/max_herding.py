"""MaxHerding: images that cover the pool smoothly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from fm_al.strategies.base import Query, QuerySizes, Strategy
from fm_al.strategies.candidates import CandidateOptions
from fm_al.strategies.coverage import Coverage, Directions, GaussianKernel, coverage_memory
from fm_al.strategies.representation import FeatureOptions

SMALLEST_SIGMA = 1e-4  # closer points are the same, as far as float32 can tell


@dataclass(frozen=True, kw_only=True)
class MaxHerding(FeatureOptions, CandidateOptions, Strategy):
    """Repeat n times: pick the image that adds most to how well all images are covered.

    Generalized coverage (Bae, Noh and Sutherland 2024, arXiv 2407.12212, algorithm 1). An image is
    covered by its largest exp(-d^2 / sigma^2) with a labelled or picked image, where d is the
    distance of their features scaled to length 1. All images count, labelled ones too. Ties go to
    the lowest index. The authors' code covers, and picks from, 35,000 images drawn at random:
    `max_candidates` does that.

    Args:
        sigma: The width of the kernel.
    """

    sigma: Annotated[float, Field(ge=SMALLEST_SIGMA)] = 1.0

    def memory(self, sizes: QuerySizes, n: int) -> dict[str, int]:
        parts = coverage_memory(sizes.images, self.dimension(sizes))
        return self.points_memory(sizes) | parts

    def select(self, query: Query, n: int, generator: torch.Generator) -> Tensor:
        points = Directions(self.points(query))
        weights = torch.ones(len(points), dtype=torch.float64)
        return herded(points, weights, self.sigma, query.labelled, n)


def herded(points: Directions, weights: Tensor, sigma: float, labelled: Tensor, n: int) -> Tensor:
    """Pick n points that are not labelled by their gains in coverage.

    Args:
        points: N points.
        weights: What covering each of them counts, float64 (N,).
        sigma: The width of the Gaussian kernel.
        labelled: Indices of the labelled points.
        n: How many to pick.

    Returns:
        Distinct indices, int64 (n,), in the order of picking.
    """
    coverage = Coverage(points, GaussianKernel(sigma), weights, labelled)
    allowed = torch.ones(len(points), dtype=torch.bool, device=points.device)
    allowed[labelled.to(points.device)] = False
    picks: list[int] = []
    while len(picks) < n:
        picks.append(coverage.best(allowed))
        allowed[picks[-1]] = False
        if len(picks) < n:
            coverage.choose(picks[-1])
    return torch.tensor(picks)
