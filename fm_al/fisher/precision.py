"""When numbers that are updated pick by pick have lost too many digits."""

from __future__ import annotations

import torch
from torch import Tensor

from fm_al.device import indices_on
from fm_al.fisher.criterion import Regularized

DRIFT = 1e-7  # relative error of A, B and scores above which they are computed again
LOST = 1e-3  # relative error right after that above which M is too ill conditioned
NEGLIGIBLE = 1e-12  # share of the objective below which differences of scores mean nothing
# Scores closer than this, relatively, are equal: a network's float32 outputs for the same image
# differ by 1e-7 with its place in the batch.
TIE = 1e-6
CANCELLED = 1e-6  # share of the first objective below which updates have cancelled its digits


class DriftControl:
    """Numbers that are computed once and then updated, until they have drifted.

    Attributes:
        objective: tr(M^{-1} F), updated.
        at_first: The objective before the first update.
        tolerated: Relative error up to which the numbers are used.
        careful: Whether they are computed by the slower way that loses fewer digits.
        just_computed: Whether they are fresh, so that computing them again would not help.
        harmless: Share of the best score up to which negative scores are accepted.
    """

    criterion: Regularized
    objective: float
    at_first: float
    tolerated = DRIFT
    careful = False
    just_computed = True
    harmless = 0.0

    def drift(self, A: Tensor, fresh_A: Tensor, B: Tensor, fresh_B: Tensor) -> float:
        """Return the relative error of an image's A and B beside those computed now.

        M^{-1} goes through the same changes as A and B, but with other rounding errors.
        """
        of_B = fresh_B.norm() + NEGLIGIBLE * abs(self.objective) + torch.finfo(B.dtype).tiny
        errors = (A - fresh_A).norm() / (1 + fresh_A.norm()), (B - fresh_B).norm() / of_B
        return max(torch.stack(errors).tolist())

    @property
    def has_cancelled(self) -> bool:
        """Whether updates have cancelled the objective's digits, so that it must be computed."""
        return not self.objective > CANCELLED * self.at_first

    def accepts(self, drift: float) -> bool:
        """Return whether the drift is acceptable; if not, the numbers must be computed again.

        The first failure right after that switches to the careful way. After the second the drift
        is as small as it gets: it is tolerated, or, above LOST, a RunError.
        """
        if drift <= self.tolerated:
            return True
        if not self.just_computed:
            return False
        if not self.careful:
            self.careful = True
            return False
        if not drift <= LOST:
            raise self.criterion.no_solution(f"M^-1 is known to {drift:.0e} only")
        self.tolerated = 10 * drift
        return True

    def accepts_scores(self, lowest: float, best: float) -> bool:
        """Return whether the scores are accurate enough, judged by the lowest.

        Exact scores are never negative, so a negative one shows how wrong the others may be.
        """
        wrong = max(0.0, -lowest)
        scale = max(best, 0.0) + NEGLIGIBLE / DRIFT * abs(self.objective)
        return wrong <= self.harmless * scale or (scale > 0 and self.accepts(wrong / scale))

    def most(self, falls: Tensor, inside: list[int]) -> int | None:
        """Return the candidate whose addition lowers the objective most; None on drift.

        Of equal falls the lowest position is returned. Candidates inside are left out.
        """
        left = falls.index_fill(0, indices_on(falls.device, inside), -torch.inf)
        highest = left.max()
        first = (left >= highest - TIE * highest.abs()).int().argmax()
        # Read together, because each reading waits for the device.
        best, lowest, image = torch.stack([highest, _lowest(falls), first]).tolist()
        if not self.accepts_scores(lowest, best):
            return None
        self.criterion.finite(best)
        return int(image)

    def least(self, rises: Tensor, images: Tensor, positions: Tensor) -> int | None:
        """Return the image whose removal raises the objective least; None if these have drifted.

        Of equal rises the image of the lowest position is returned. A rise of NaN counts as
        infinite: without that image M would be singular up to rounding.
        """
        rises = rises.cpu()
        rises = rises.where(~rises.isnan(), torch.inf)
        least = self.criterion.finite(float(rises.min()))
        if not self.accepts_scores(float(_lowest(rises)), least):
            return None
        equal = images[rises <= least + TIE * abs(least)]
        return int(equal[positions[equal].argmin()])


def _lowest(scores: Tensor) -> Tensor:
    """The lowest score; a NaN is lower than all."""
    return scores.nan_to_num(-torch.inf, torch.inf).min()
