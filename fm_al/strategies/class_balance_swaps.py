"""Swaps that improve a whole-number solution of CBAL's program."""

from __future__ import annotations

import numpy as np

from fm_al.strategies.class_balance_program import TOLERANCE, Columns

LEAST_GAIN = 1e-9
MOST_SWAPS = 100
ROWS = 1024  # of images that may join, at a time
SLACK = 1e-9  # of a bound, for rounding
MOST_NUMBERS = 10**9  # picks x images that may join x classes; less than a second for each swap


def improved(
    picks: np.ndarray,
    columns: Columns,
    reduced: np.ndarray,
    least: float,
    wanted: np.ndarray,
    weight: float,
) -> tuple[np.ndarray, int]:
    """Swap a picked image for another one while the objective falls, the best swap each time.

    An image whose reduced cost is at least the distance of the objective from the linear program's
    is in no better solution. All others may join; if they are more than `MOST_NUMBERS` / (n C), the
    ones with the lowest reduced costs may.

    Of equal swaps, the one whose joining image has the lowest index is made; of these, the one
    whose leaving image has the highest. So the first of equal images stay.

    Args:
        picks: Indices, int64 (n,).
        columns: Costs and shares of some images.
        reduced: Reduced costs of all images in the linear program, float64 (N,).
        least: The objective of the linear program.
        wanted: float64 (C,).
        weight: Not negative.

    Returns:
        The picks, with the images that joined in the place of those that left, and the number of
        swaps, at most `MOST_SWAPS`.
    """
    picks = picks.copy()
    costs, shares = columns(picks)
    for swaps in range(MOST_SWAPS):
        off = shares.sum(axis=0) - wanted
        gap = costs.sum() + weight * np.abs(off).sum() - least
        may_join = reduced < gap + len(picks) * TOLERANCE
        may_join[picks] = False
        search = _BestSwap(picks, costs, shares, off, weight)
        images = may_join.nonzero()[0]
        images = images[reduced[images].argsort(kind="stable")[: MOST_NUMBERS // shares.size]]
        for start in range(0, len(images), ROWS):
            some = images[start : start + ROWS]
            search.among(some, *columns(some))
        if search.place is None:
            return picks, swaps
        picks[search.place] = search.joining
        changed = slice(search.place, search.place + 1)
        costs[changed], shares[changed] = columns(picks[changed])
    return picks, MOST_SWAPS


class _BestSwap:
    """The swap that lowers the objective most, of the images that were looked at.

    |x|_1 is at least s.x for the signs s of the present |shares^T z - wanted|. So a swap changes
    the objective by at least the difference of cost + weight s.share, the scores.
    """

    def __init__(
        self,
        picks: np.ndarray,
        costs: np.ndarray,
        shares: np.ndarray,
        off: np.ndarray,
        weight: float,
    ) -> None:
        self._picks, self._costs, self._shares = picks, costs, shares
        self._off, self._weight = off, weight
        self._now = np.abs(off).sum()
        self._prices = weight * np.sign(off)
        self._scores = costs + shares @ self._prices
        self._highest_first = (-self._scores).argsort(kind="stable")
        self._best = -LEAST_GAIN, -1, 0  # change, joining, minus leaving: ties compare these
        self.place: int | None = None

    def among(self, images: np.ndarray, costs: np.ndarray, shares: np.ndarray) -> None:
        """Look at the swaps with these images, their costs (R,) and shares (R, C)."""
        scores = costs + shares @ self._prices
        order = scores.argsort(kind="stable")
        scores, images, costs, shares = scores[order], images[order], costs[order], shares[order]
        buffer = np.empty_like(shares)
        for place in self._highest_first:
            bound = self._scores[place] + self.change + SLACK
            few = int(scores.searchsorted(bound, side="right"))
            if not few:
                return
            off = np.add(shares[:few], self._off - self._shares[place], out=buffer[:few])
            distances = np.abs(off, out=off).sum(axis=1) - self._now
            changes = costs[:few] - self._costs[place] + self._weight * distances
            least = changes.min()
            joining = images[:few][changes == least].min()
            swap = float(least), int(joining), -int(self._picks[place])
            if swap < self._best:
                self._best, self.place = swap, int(place)

    @property
    def change(self) -> float:
        return self._best[0]

    @property
    def joining(self) -> int:
        return self._best[1]
