"""Euclidean distances from all points to one of them, reading the points once."""

from __future__ import annotations

import torch
from torch import Tensor

CENTRES = 256  # at a time, to bound the matrix of N x CENTRES distances
CLOSE = 1e-3  # of |x|^2 + |y|^2; below, the expanded form has lost 10 of float32's 24 bits


class SquaredDistances:
    """Squared distances |x - y|^2 from all points x to one of them, y.

    They are computed as |x|^2 + |y|^2 - 2 x.y, a matrix-vector product. That cancels for points
    that are close compared with their norms; their differences are squared and summed instead.
    Equal points are at exactly 0. All other distances have a relative accuracy of 1e-3 or better.

    Args:
        points: float32 (N, D).
    """

    def __init__(self, points: Tensor) -> None:
        self.points = points
        self.norms = torch.einsum("nd,nd->n", points, points)

    def __call__(self, index: int) -> Tensor:
        """From all points to the one with this index, (N,), not negative."""
        point = self.points[index]
        norms = self.norms + self.norms[index]
        distances = torch.addmv(norms, self.points, point, alpha=-2)
        close = (distances <= CLOSE * norms).nonzero()[:, 0]
        distances[close] = (self.points[close] - point).square_().sum(dim=1)
        return distances

    def to_nearest(self, indices: Tensor) -> Tensor:
        """From all points to the nearest of the points with these indices, (N,).

        Infinite if there are no indices. The expanded form decides which point is nearest.
        """
        nearest = torch.full_like(self.norms, torch.inf)
        for chunk in indices.split(CENTRES) if len(indices) else ():
            norms = self.norms[:, None] + self.norms[chunk]
            expanded = torch.addmm(norms, self.points, self.points[chunk].T, alpha=-2)
            distances, which = expanded.min(dim=1)
            centres = chunk[which]
            close = (distances <= CLOSE * (self.norms + self.norms[centres])).nonzero()[:, 0]
            differences = self.points[close] - self.points[centres[close]]
            distances[close] = differences.square_().sum(dim=1)
            torch.minimum(nearest, distances, out=nearest)
        return nearest
