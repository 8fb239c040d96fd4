"""Points that cover others, for a kernel of their distance, chosen greedily.

Chosen points j cover a point i by m_i, the largest of k(i, j). The objective is the sum over all
points of w_i m_i: submodular and monotone. With the Gaussian kernel it is MaxHerding's (Bae et al.
2024, arXiv 2407.12212), with the indicator of a ball ProbCover's (Yehuda et al. 2022, arXiv
2205.11320).
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from fm_al.device import float64_device

BLOCK = 1024  # points; kernel values are computed for BLOCK x BLOCK pairs at a time
FLOAT, DOUBLE = 4, 8  # bytes
SAME = 1e-13  # a squared distance below this is that of equal points, rounded


class Directions:
    """Points scaled to length 1, converted to float64 some at a time. Points at 0 stay there.

    Results stand in memory that the next call overwrites: fresh memory for every block would take
    longer to map than the arithmetic takes.

    Args:
        points: float32 (N, D).
    """

    def __init__(self, points: Tensor) -> None:
        self.points = points.to(float64_device(points.device))
        rows, dimension = min(len(points), BLOCK), points.shape[1]
        self._gathered = self.points.new_empty(rows, dimension)
        sides = torch.empty(2, rows, dimension, dtype=torch.float64, device=self.device)
        self._left, self._right = sides
        self._products = sides.new_empty(rows * rows)
        self.scales = torch.ones(len(points), dtype=torch.float64, device=self.device)
        norms = torch.cat(
            [self._scaled(rows, self._left).norm(dim=1) for rows in blocks(len(points))]
        )
        self.scales = norms.reciprocal().masked_fill_(norms == 0, 0)
        self.squared_norms = (norms > 0).double()

    def __len__(self) -> int:
        return len(self.points)

    @property
    def device(self) -> torch.device:
        return self.points.device

    def squared_distances(self, rows: slice | Tensor, columns: slice | Tensor) -> Tensor:
        """Between two sets of at most BLOCK points, float64 (rows, columns).

        The absolute error is about 1e-15. The caller may overwrite the result.
        """
        left, right = self._scaled(rows, self._left), self._scaled(columns, self._right)
        distances = self._products[: len(left) * len(right)].view(len(left), len(right))
        torch.mm(left, right.T, out=distances).mul_(-2)
        distances += self.squared_norms[rows, None]
        distances += self.squared_norms[columns]
        return distances

    def _scaled(self, rows: slice | Tensor, place: Tensor) -> Tensor:
        """Some of the scaled points, in a part of `place`."""
        if isinstance(rows, slice):
            points = self.points[rows]
        else:
            points = self._gathered[: len(rows)]
            torch.index_select(self.points, 0, rows, out=points)
        scaled = place[: len(points)]
        return scaled.copy_(points).mul_(self.scales[rows, None])


def blocks(count: int) -> list[slice]:
    """Split a range into parts of at most BLOCK."""
    return [slice(start, min(start + BLOCK, count)) for start in range(0, count, BLOCK)]


class Kernel(Protocol):
    """A function of the distance of two points, from 1 for equal ones down to 0.

    Attributes:
        rounding: The most by which rounding of a squared distance changes a value, relative to it.
    """

    @property
    def rounding(self) -> float: ...

    def __call__(self, squared_distances: Tensor) -> Tensor:
        """Replace squared distances, float64, by the kernel's values."""


class GaussianKernel:
    """exp(-d^2 / sigma^2)."""

    def __init__(self, sigma: float) -> None:
        self.sigma = sigma

    @property
    def rounding(self) -> float:
        return 1e-14 * max(1.0, self.sigma**-2)

    def __call__(self, squared_distances: Tensor) -> Tensor:
        return squared_distances.mul_(-(self.sigma**-2)).exp_()


class BallKernel:
    """1 if d < delta, else 0. Distances equal to delta up to rounding are not below it."""

    rounding = 0.0

    def __init__(self, delta: float) -> None:
        self.limit = max(delta**2 * (1 - 1e-12), SAME)

    def __call__(self, squared_distances: Tensor) -> Tensor:
        return squared_distances.lt_(self.limit)


class Coverage:
    """How well every point is covered, and what choosing any point would add.

    No kernel value is stored. The gains of all points cost N^2 D / 2 operations at the start. When
    a point is chosen, the gains change by the points that it covers better than those before did:
    on average N / t of them for the t-th choice. So n choices cost about
    N^2 D log(1 + n / |L|), with L the points that are chosen beforehand, and N^2 D log(n) without.

    Attributes:
        covered: m, float64 (N,).
        gains: sum over i of w_i max(k(i, j) - m_i, 0) for every point j, float64 (N,).
    """

    def __init__(self, points: Directions, kernel: Kernel, weights: Tensor, chosen: Tensor) -> None:
        """Compute the gains.

        Args:
            points: N points.
            kernel: Of their distances.
            weights: w, float64 (N,), not negative.
            chosen: Indices of points that are chosen already, int64.
        """
        self._points, self._kernel = points, kernel
        self._weights = weights.to(points.device)
        self._everything = blocks(len(points))
        self.covered = torch.zeros(len(points), dtype=torch.float64, device=points.device)
        self._spare = self.covered.new_empty(min(len(points), BLOCK) ** 2)
        for some in chosen.to(points.device).split(BLOCK) if len(chosen) else ():
            for rows in self._everything:
                values = self._values(rows, some).amax(dim=1)
                self.covered[rows] = torch.maximum(self.covered[rows], values)
        self._uncovered_gains = torch.zeros_like(self.covered)
        self.gains = self._all_gains(self._uncovered_gains)
        # A gain sums parts of kernel values, whose errors are relative to the whole values.
        self._tolerance = kernel.rounding * float(self._uncovered_gains.max())

    def best(self, allowed: Tensor) -> int:
        """The allowed point, by a mask (N,), of the largest gain; of those that rounding can't tell
        apart the first."""
        gains = self.gains.masked_fill(~allowed, -torch.inf)
        return int((gains >= gains.max() - self._tolerance).nonzero()[0])

    def choose(self, index: int) -> None:
        """Add a point to those that cover others."""
        row = torch.tensor([index], device=self.covered.device)
        before, values = self.covered, torch.empty_like(self.covered)
        for columns in self._everything:
            values[columns] = self._values(row, columns)[0]
        self.covered = torch.maximum(before, values)
        raised = (values > before).nonzero()[:, 0]
        lacking = (self.covered < 1).nonzero()[:, 0]
        if min(len(raised), len(lacking)) > len(before) / 2:
            self.gains = self._all_gains()
        elif len(lacking) < len(raised):
            full = torch.ones_like(before)
            self.gains = self._parts(lacking, self.covered, full)
        else:
            self.gains -= self._parts(raised, before, self.covered)

    def restart(self) -> None:
        """Uncover all points."""
        self.covered = torch.zeros_like(self.covered)
        self.gains = self._uncovered_gains.clone()

    def _values(self, rows: slice | Tensor, columns: slice | Tensor) -> Tensor:
        return self._kernel(self._points.squared_distances(rows, columns))

    def _all_gains(self, uncovered: Tensor | None = None) -> Tensor:
        """Every pair's kernel value is computed once, for both of its points. To `uncovered` are
        added the gains while no point is covered."""
        gains = torch.zeros_like(self.covered)
        for number, rows in enumerate(self._everything):
            for columns in self._everything[number:]:
                values = self._values(rows, columns)
                if uncovered is not None:
                    uncovered[rows] += values @ self._weights[columns]
                    if rows != columns:
                        uncovered[columns] += self._weights[rows] @ values
                improved = self._spare[: values.numel()].view_as(values)
                torch.sub(values, self.covered[columns], out=improved).clamp_(min=0)
                gains[rows] += improved @ self._weights[columns]
                if rows != columns:
                    values.sub_(self.covered[rows, None]).clamp_(min=0)
                    gains[columns] += self._weights[rows] @ values
        return gains

    def _parts(self, points: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """What some points add to the gains of all while their coverage rises from low to high."""
        parts = torch.zeros_like(self.covered)
        for rows in points.split(BLOCK):
            least, most = low[rows, None], high[rows, None]
            for columns in self._everything:
                values = self._values(rows, columns).clamp_(least, most).sub_(least)
                parts[columns] += self._weights[rows] @ values
        return parts


def coverage_memory(count: int, dimension: int) -> dict[str, int]:
    """Bytes of a Coverage of N points of D numbers, beside the points."""
    rows = min(count, BLOCK)
    return {
        f"kernel values of {rows:,} x {rows:,} images, twice": 2 * DOUBLE * rows**2,
        f"{rows:,} of the images, thrice": 5 * FLOAT * rows * dimension,
        "20 numbers for every image": 20 * DOUBLE * count,
    }
