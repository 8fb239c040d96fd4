"""TypiClust: the most typical image of every cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import normalize

from fm_al.strategies.base import FLOAT, Query, QuerySizes, Strategy
from fm_al.strategies.candidates import CandidateOptions
from fm_al.strategies.clustering import clusters, clusters_memory
from fm_al.strategies.representation import FeatureOptions

SMALL = 5  # points; clusters of no more wait until the others are used up
ROUNDING = 1e-6  # relative; means that differ by less are equal
ROWS = 256  # points whose distances to all of their cluster are computed at a time


@dataclass(frozen=True, kw_only=True)
class TypiClust(FeatureOptions, CandidateOptions, Strategy):
    """Cluster all images; pick the most typical image of the clusters with the fewest labels.

    Hacohen, Dekel and Weinshall 2022, arXiv 2202.02794, algorithm 1. Features are scaled to length
    1, and there are as many clusters as there will be labelled images, up to `max_clusters`.
    Clusters come in the order of how many labelled images they hold, and, with as many, of their
    size, the largest first. They take turns until n images are picked. Typicality is
    1 / (mean distance to the nearest images), among the cluster's images that are neither labelled
    nor picked: min(`neighbours`, half of them) count. Ties go to the lowest index.

    As in the authors' code clusters of 5 images or fewer are not considered. Where the others have
    too few images their code fails. Here the small clusters follow, in the same order, and the
    record says how many images they gave (`from_small_clusters`). The authors' code averages
    squared distances, and does not seed its k-means.

    Args:
        max_clusters: The most clusters.
        neighbours: How many neighbours the typicality looks at, at most.
    """

    max_clusters: Annotated[int, Field(ge=1)] = 500
    neighbours: Annotated[int, Field(ge=1)] = 20

    def memory(self, sizes: QuerySizes, n: int) -> dict[str, int]:
        images, dimension = sizes.images, self.dimension(sizes)
        count = min(images, self.max_clusters)
        gathered = 2 * FLOAT * ROWS * self.neighbours * dimension
        in_largest_cluster = {
            f"images of a cluster, {images:,} x {dimension:,}": FLOAT * images * dimension,
            f"distances of {ROWS} images in it": 2 * FLOAT * ROWS * images + gathered,
        }
        steps = clusters_memory(images, dimension, count), in_largest_cluster
        return (
            self.points_memory(sizes)
            | {f"of length 1, {images:,} x {dimension:,}": FLOAT * images * dimension}
            | max(steps, key=lambda parts: sum(parts.values()))
            | sizes.vectors(12)
        )

    def select(self, query: Query, n: int, generator: torch.Generator) -> Tensor:
        labelled = query.labelled
        points = normalize(self.points(query), dim=1)
        points -= points.mean(dim=0)  # keeps distances and makes products round less
        count = min(len(labelled) + n, self.max_clusters)
        assigned = clusters(points, count, generator)
        large, small = ranked_clusters(assigned, labelled)
        free = torch.ones(len(points), dtype=torch.bool, device=points.device)
        free[labelled] = False
        picks = self._typical(points, assigned, large, free, n)
        if len(picks) < n:
            others = self._typical(points, assigned, small, free, n - len(picks))
            query.record("from_small_clusters", len(others))
            picks += others
        return torch.tensor(picks)

    def _typical(
        self, points: Tensor, assigned: Tensor, turns: list[int], free: Tensor, n: int
    ) -> list[int]:
        """Pick at most n free points from clusters in turn, and mark them as no longer free."""
        picks: list[int] = []
        while turns and len(picks) < n:
            left = []
            for cluster in turns:
                if len(picks) == n:
                    break
                members = (free & (assigned == cluster)).nonzero()[:, 0]
                if len(members):
                    pick = int(members[most_typical(points[members], self.neighbours)])
                    free[pick] = False
                    picks.append(pick)
                if len(members) > 1:
                    left.append(cluster)
            turns = left
        return picks


def ranked_clusters(assigned: Tensor, labelled: Tensor) -> tuple[list[int], list[int]]:
    """Order clusters by how many labelled points they hold, then by size, the largest first.

    Args:
        assigned: The cluster of every point, int64 (N,).
        labelled: Indices of the labelled points.

    Returns:
        The clusters of more than `SMALL` points, and those of fewer but one.
    """
    on_cpu = assigned.cpu()
    sizes = on_cpu.bincount().tolist()
    with_labels = on_cpu[labelled.cpu()].bincount(minlength=len(sizes)).tolist()
    order = sorted(range(len(sizes)), key=lambda c: (with_labels[c], -sizes[c]))
    large = [c for c in order if sizes[c] > SMALL]
    return large, [c for c in order if 0 < sizes[c] <= SMALL]


def most_typical(points: Tensor, neighbours: int) -> int:
    """Find the point of the smallest mean distance to its nearest others, the first of several.

    Args:
        points: float32 (N, D), at least one; they are centred in place.
        neighbours: How many others count; at most half of the points, but one if there are two.
    """
    if len(points) == 1:
        return 0
    count = max(1, min(neighbours, len(points) // 2))
    points -= points.mean(dim=0)
    norms = points.square().sum(dim=1)
    means = torch.empty_like(norms)
    for rows in torch.arange(len(points), device=points.device).split(ROWS):
        expanded = torch.addmm(norms, points[rows], points.T, alpha=-2)
        expanded.scatter_(1, rows[:, None], torch.inf)
        near = expanded.topk(count, dim=1, largest=False).indices
        # The expanded form decides which points are near; it cancels for those that are very near.
        means[rows] = _mean_distances(points, rows, near)
    return int((means <= means.min() * (1 + ROUNDING)).nonzero()[0])


def _mean_distances(points: Tensor, rows: Tensor, near: Tensor) -> Tensor:
    """Mean distances of some points to others, near (rows, count), without cancellation."""
    differences = points[near].sub_(points[rows, None])
    return differences.square_().sum(dim=2).sqrt_().sort(dim=1).values.mean(dim=1)
