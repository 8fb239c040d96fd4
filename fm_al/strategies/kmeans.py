"""k-means: one image per cluster of embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from fm_al.strategies.base import FLOAT, Query, QuerySizes, Strategy
from fm_al.strategies.candidates import CandidateOptions
from fm_al.strategies.chunks import row_chunks
from fm_al.strategies.distances import SquaredDistances
from fm_al.strategies.kmeans_plus_plus import kmeans_plus_plus
from fm_al.strategies.representation import FeatureOptions

CHUNK = 4096  # images at a time, for CHUNK x n scores


@dataclass(frozen=True, kw_only=True)
class KMeans(FeatureOptions, CandidateOptions, Strategy):
    """Cluster the unlabelled images; pick the image nearest to each of n centres.

    Zhdanov 2019, arXiv 1901.05954, without its weights. Centres take turns, so an image is picked
    once.

    Args:
        iterations: Of Lloyd's algorithm, at most. It starts from k-means++ and stops when it has
            converged.
    """

    representation: Literal["features", "embeddings"] = "embeddings"
    iterations: Annotated[int, Field(ge=0)] = 100

    def memory(self, sizes: QuerySizes, n: int) -> dict[str, int]:
        dimension = self.dimension(sizes)
        copies = {}
        if self.reads_features:
            copies = {"features of the unlabelled images": FLOAT * sizes.images * dimension}
        rows = representatives_memory(sizes.images, dimension, n)
        return self.points_memory(sizes) | copies | rows | sizes.vectors(12)

    def select(self, query: Query, n: int, generator: torch.Generator) -> Tensor:
        if self.reads_features:
            points = query.features[query.unlabelled]
        else:
            points = compacted(query.take("embeddings"), query.unlabelled)
        return query.unlabelled[representatives(points, n, self.iterations, generator)]


def representatives_memory(count: int, dimension: int, n: int) -> dict[str, int]:
    """Bytes of `representatives` of so many points of D numbers, beside the points and a few
    numbers for each."""
    rows = {f"distances of {CHUNK:,} images at a time": 3 * FLOAT * min(CHUNK, count) * n}
    return rows | {f"{n:,} centres": 6 * FLOAT * n * dimension}


def representatives(points: Tensor, n: int, iterations: int, generator: torch.Generator) -> Tensor:
    """Cluster points into n clusters and find the point nearest to each centre.

    Args:
        points: (N, D), N at least n; overwritten.
        n: How many clusters.
        iterations: Of Lloyd's algorithm, at most. It starts from k-means++.
        generator: A CPU generator.

    Returns:
        Distinct indices of points, int64 (n,).
    """
    points -= points.mean(dim=0)  # keeps distances and makes `lloyd` round less
    candidates = torch.ones(len(points), dtype=torch.bool, device=points.device)
    first = int(torch.randint(len(points), (), generator=generator))
    start = kmeans_plus_plus(SquaredDistances(points), candidates, first, n, generator)
    centres = lloyd(points, points[start.to(points.device)], iterations)
    return nearest_distinct(points, centres)


def compacted(points: Tensor, kept: Tensor) -> Tensor:
    """Move rows of points, (N, D), to the front in place; `kept` are their indices, ascending."""
    for rows in row_chunks(len(kept)):
        points[rows] = points[kept[rows]]  # rows that come later are not overwritten yet
    return points[: len(kept)]


def lloyd(points: Tensor, centres: Tensor, iterations: int) -> Tensor:
    """Run Lloyd's algorithm until no centre moves.

    Args:
        points: (N, D).
        centres: Where it starts, (K, D).
        iterations: The most that it does.

    Returns:
        The new centres, (K, D). A cluster without points keeps its centre.
    """
    for _ in range(iterations):
        sums, sizes = torch.zeros_like(centres), centres.new_zeros(len(centres), 1)
        half_norms = centres.square().sum(dim=1) / 2
        for chunk in points.split(CHUNK):
            nearest = (chunk @ centres.T - half_norms).argmax(dim=1, keepdim=True)
            # A product with the one-hot members sums in a fixed order; index_add_ on CUDA does not.
            members = chunk.new_zeros(len(chunk), len(centres)).scatter_(1, nearest, 1)
            sums.addmm_(members.T, chunk)
            sizes += members.sum(dim=0)[:, None]
        moved = torch.where(sizes > 0, sums / sizes.clamp(min=1), centres)
        if torch.equal(moved, centres):
            break
        centres = moved
    return centres


def nearest_distinct(points: Tensor, centres: Tensor) -> Tensor:
    """Find the nearest point of every centre in turn, leaving out points found before.

    Args:
        points: (N, D).
        centres: (K, D), K at most N.

    Returns:
        Distinct indices of points, int64 (K,). Ties go to the lowest index.
    """
    taken = torch.zeros(len(points), device=points.device)
    picks = []
    for centre in centres.split(1):
        distances = torch.cdist(points, centre, compute_mode="donot_use_mm_for_euclid_dist")[:, 0]
        pick = (distances + taken).argmin(dim=0, keepdim=True)
        taken[pick] = torch.inf
        picks.append(pick)
    return torch.cat(picks)
