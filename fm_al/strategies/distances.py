"""Euclidean distances from all points to one of them, reading the points once."""

from __future__ import annotations

import torch
from torch import Tensor

from fm_al.strategies.chunks import product_chunks, row_chunks

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
        self._set_exactly(distances, close, torch.full_like(close, index))
        return distances

    def to_nearest(self, indices: Tensor) -> Tensor:
        """From all points to the nearest of the points with these indices, (N,).

        Infinite if there are no indices. The expanded form decides which point is nearest.
        """
        nearest = torch.full_like(self.norms, torch.inf)
        for chunk in indices.split(CENTRES) if len(indices) else ():
            distances, centres = self._to_nearest_of(chunk)
            close = (distances <= CLOSE * (self.norms + self.norms[centres])).nonzero()[:, 0]
            self._set_exactly(distances, close, centres[close])
            torch.minimum(nearest, distances, out=nearest)
        return nearest

    def _to_nearest_of(self, centres: Tensor) -> tuple[Tensor, Tensor]:
        """In the expanded form: the distance to the nearest of some points, and which that is."""
        distances, nearest = (
            torch.empty_like(self.norms),
            torch.empty_like(self.norms, dtype=torch.int64),
        )
        for rows in product_chunks(len(self.points)):
            norms = self.norms[rows, None] + self.norms[centres]
            expanded = norms.addmm_(self.points[rows], self.points[centres].T, alpha=-2)
            distances[rows], which = expanded.min(dim=1)
            nearest[rows] = centres[which]
        return distances, nearest

    def _set_exactly(self, distances: Tensor, close: Tensor, centres: Tensor) -> None:
        """Set the distances of close points by summing squared differences, in place.

        Args:
            distances: Of all points, (N,).
            close: Indices of the close points.
            centres: Indices of the points that they are close to.
        """
        for rows in row_chunks(len(close)):
            differences = self.points[close[rows]] - self.points[centres[rows]]
            distances[close[rows]] = differences.square_().sum(dim=1)
