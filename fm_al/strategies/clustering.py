"""Clusters of all points, for strategies that pick from each."""

from __future__ import annotations

import torch
from torch import Tensor

from fm_al.strategies.distances import SquaredDistances
from fm_al.strategies.kmeans import lloyd
from fm_al.strategies.kmeans_plus_plus import kmeans_plus_plus

FEW = 50  # clusters; more are found by mini-batches
ITERATIONS = 100  # of Lloyd's algorithm, at most
BATCH = 4096  # points of a mini-batch
STEPS = 100  # mini-batches
FLOAT = 4  # bytes


def clusters(points: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Find clusters by k-means.

    It starts from k-means++. Lloyd's algorithm finds up to 50 clusters, and those of up to 16,384
    points. Else 100 mini-batches of 4,096 points (Sculley 2010) find them, starting from a sample.

    Args:
        points: float32 (N, D). Their mean should be near 0, which makes products round less.
        count: K, how many; some may stay empty.
        generator: A CPU generator.

    Returns:
        The cluster of every point, int64 (N,), from 0 to K - 1. Equal points are in one cluster.
    """
    many, sample = _takes_batches(len(points), count), points
    if many:
        drawn = torch.randperm(len(points), generator=generator)[: _sample_size(count)]
        sample = points[drawn.to(points.device)]
    count = min(count, len(sample))
    candidates = torch.ones(len(sample), dtype=torch.bool, device=points.device)
    first = int(torch.randint(len(sample), (), generator=generator))
    start = kmeans_plus_plus(SquaredDistances(sample), candidates, first, count, generator)
    centres = sample[start.to(points.device)]
    if many:
        centres = mini_batches(points, centres, generator)
    else:
        centres = lloyd(points, centres, ITERATIONS)
    return nearest(points, centres)


def mini_batches(points: Tensor, centres: Tensor, generator: torch.Generator) -> Tensor:
    """Move every centre to the mean of the drawn points that were nearest to it when drawn.

    Args:
        points: (N, D).
        centres: Where they start, (K, D).
        generator: A CPU generator.

    Returns:
        The new centres, (K, D).
    """
    sizes = centres.new_zeros(len(centres), 1)
    for _ in range(STEPS):
        drawn = torch.randint(len(points), (min(BATCH, len(points)),), generator=generator)
        batch = points[drawn.to(points.device)]
        members = batch.new_zeros(len(batch), len(centres))
        members.scatter_(1, nearest(batch, centres)[:, None], 1)
        added = members.sum(dim=0)[:, None]
        totals = torch.addmm(centres * sizes, members.T, batch)
        sizes += added
        centres = torch.where(added > 0, totals / sizes.clamp(min=1), centres)
    return centres


def nearest(points: Tensor, centres: Tensor) -> Tensor:
    """The nearest centre of every point, int64 (N,). Ties go to the lowest index."""
    half_norms = centres.square().sum(dim=1) / 2
    return torch.cat(
        [(some @ centres.T - half_norms).argmax(dim=1) for some in points.split(BATCH)]
    )


def clusters_memory(images: int, dimension: int, count: int) -> dict[str, int]:
    """Bytes of `clusters` of N points of D numbers, beside the points."""
    sample = _sample_size(count) if _takes_batches(images, count) else 0
    batch = min(images, BATCH)
    return {
        f"a sample of {sample:,} images": FLOAT * (sample + batch) * dimension,
        f"{count:,} centres": 6 * FLOAT * count * dimension,
        f"distances of {batch:,} images at a time": 3 * FLOAT * batch * count,
    }


def _takes_batches(points: int, count: int) -> bool:
    return count > FEW and points > max(4 * BATCH, _sample_size(count))


def _sample_size(count: int) -> int:
    return max(2 * BATCH, 10 * count)
