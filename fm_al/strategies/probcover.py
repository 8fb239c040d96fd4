"""ProbCover: images whose surroundings cover most of the pool."""

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
from fm_al.strategies.coverage import BallKernel, Coverage, Directions, blocks, coverage_memory
from fm_al.strategies.representation import FeatureOptions

PURE = 95  # per cent of the balls that hold points of one cluster alone, at least
LARGEST = 2.0  # the largest distance of points of length 1


@dataclass(frozen=True, kw_only=True)
class ProbCover(FeatureOptions, CandidateOptions, Strategy):
    """Repeat n times: pick the image with the most uncovered images closer than delta.

    Yehuda et al. 2022, arXiv 2205.11320, algorithm 1, on features scaled to length 1. A labelled or
    picked image covers those closer than `delta`, itself too. Ties go to the lowest index. When
    everything is covered, all images count as uncovered anew, and the record says how often
    (`covered_anew`). The authors' code then picks the first image, again and again; it also leaves
    the last N mod 500 images out. No graph is stored: the images in a ball are found again when
    they are covered.

    Args:
        delta: The radius. None is the largest one such that at least 95% of the balls hold images
            of one cluster alone, for as many clusters by k-means as there are classes; the record
            has it as `delta`. It is found in every round, by newly seeded k-means, and exactly, not
            among a few values. The authors use 0.75 for CIFAR-10 and 0.6 for CIFAR-100, with
            SimCLR's features.
    """

    delta: Annotated[float, Field(gt=0, le=LARGEST)] | None = None

    def memory(self, sizes: QuerySizes, n: int) -> dict[str, int]:
        images, dimension = sizes.images, self.dimension(sizes)
        parts = self.points_memory(sizes) | coverage_memory(images, dimension)
        if self.delta is None:
            parts |= {f"of length 1, {images:,} x {dimension:,}": FLOAT * images * dimension}
            parts |= clusters_memory(images, dimension, sizes.classes)
        return parts

    def select(self, query: Query, n: int, generator: torch.Generator) -> Tensor:
        given = self.points(query)
        points, delta = Directions(given), self.delta
        if delta is None:
            delta = pure_radius(points, clusters_of(given, query.classes, generator))
            query.record("delta", delta)
        picks, restarts = covering(points, delta, query.labelled, n)
        if restarts:
            query.record("covered_anew", restarts)
        return picks


def clusters_of(points: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """The clusters of points, float32 (N, D), when scaled to length 1: int64 (N,)."""
    points = normalize(points, dim=1)
    points -= points.mean(dim=0)  # keeps distances and makes products round less
    return clusters(points, count, generator)


def pure_radius(points: Directions, assigned: Tensor) -> float:
    """The largest radius such that at least 95% of the balls hold points of one cluster alone.

    Args:
        points: N points.
        assigned: Their clusters, int64 (N,).
    """
    assigned = assigned.to(points.device)
    # A ball is pure up to the distance of its centre to the nearest point of another cluster.
    nearest = torch.full_like(points.scales, LARGEST**2)
    everything = blocks(len(points))
    for number, rows in enumerate(everything):
        for columns in everything[number:]:
            apart = points.squared_distances(rows, columns)
            apart.masked_fill_(assigned[rows, None] == assigned[columns], torch.inf)
            nearest[rows] = torch.minimum(nearest[rows], apart.amin(dim=1))
            nearest[columns] = torch.minimum(nearest[columns], apart.amin(dim=0))
    pure = -(-PURE * len(points) // 100)  # rounded up
    return float(nearest.sort(descending=True).values[pure - 1].clamp(min=0).sqrt())


def covering(points: Directions, delta: float, labelled: Tensor, n: int) -> tuple[Tensor, int]:
    """Pick n points that are not labelled by how many points their balls cover anew.

    Args:
        points: N points.
        delta: The radius of the balls.
        labelled: Indices of the labelled points.
        n: How many to pick.

    Returns:
        Distinct indices, int64 (n,), in the order of picking, and how often everything was covered
        before the last of them.
    """
    weights = torch.ones(len(points), dtype=torch.float64)
    coverage = Coverage(points, BallKernel(delta), weights, labelled)
    allowed = torch.ones(len(points), dtype=torch.bool, device=points.device)
    allowed[labelled.to(points.device)] = False
    picks: list[int] = []
    restarts = 0
    while len(picks) < n:
        if float(coverage.gains[allowed].max()) <= 0:
            coverage.restart()
            restarts += 1
        picks.append(coverage.best(allowed))
        allowed[picks[-1]] = False
        if len(picks) < n:
            coverage.choose(picks[-1])
    return torch.tensor(picks), restarts
