"""Coreset: batches that leave no image far from a labelled one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fm_al.errors import ConfigError
from fm_al.strategies.base import FLOAT, Query, QuerySizes, Strategy
from fm_al.strategies.candidates import CandidateOptions
from fm_al.strategies.chunks import product_rows, row_chunks
from fm_al.strategies.distances import CENTRES, SquaredDistances
from fm_al.strategies.representation import FeatureOptions


@dataclass(frozen=True, kw_only=True)
class Coreset(FeatureOptions, CandidateOptions, Strategy):
    """Pick the image that is farthest from the nearest labelled or picked one, n times.

    Greedy k-center (Sener and Savarese 2018, arXiv 1708.00489, algorithm 1). Ties go to the lowest
    index. If nothing is labelled, the first pick is the image closest to the pool's mean. A pick
    costs O(N D).

    Args:
        augment: Score images as training sees them. Fixed features do not change with that.
    """

    representation: Literal["features", "embeddings"] = "embeddings"
    augment: bool = False

    def __post_init__(self) -> None:
        if self.augment and self.reads_features:
            raise ConfigError(
                "strategy.augment=true: fixed features are those of images as they are; use "
                "strategy.representation=embeddings, or strategy.augment=false"
            )

    def memory(self, sizes: QuerySizes, n: int) -> dict[str, int]:
        to_labelled = 3 * FLOAT * product_rows(sizes.images) * CENTRES
        distances = {f"distances to {CENTRES} labelled images at a time": to_labelled}
        return self.points_memory(sizes) | distances | sizes.vectors(12)

    def select(self, query: Query, n: int, generator: torch.Generator) -> Tensor:
        points = self.points(query)
        squared_distances = SquaredDistances(points)
        nearest = squared_distances.to_nearest(query.labelled)
        nearest[query.labelled] = -1  # below every distance, so never picked
        picks: list[int] = []
        while len(picks) < n:
            if picks or len(query.labelled):
                pick = int(nearest.argmax())
            else:
                pick = int(_from_mean(points).argmin())
            torch.minimum(nearest, squared_distances(pick), out=nearest)
            nearest[pick] = -1
            picks.append(pick)
        return torch.tensor(picks)


def _from_mean(points: Tensor) -> Tensor:
    """Squared distances of points, (N, D), to their mean, (N,)."""
    mean = points.mean(dim=0)
    return torch.cat(
        [(points[rows] - mean).square_().sum(dim=1) for rows in row_chunks(len(points))]
    )
