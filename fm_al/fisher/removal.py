"""Removing picks again, where all of their rows fit into one small matrix."""

from __future__ import annotations

from typing import Generic

import torch
from torch import Tensor

from fm_al.device import indices_on
from fm_al.fisher.criterion import DesignCriterion, Images
from fm_al.fisher.precision import DriftControl
from fm_al.fisher.traces import traces

REMOVAL_ROWS = 2048  # rows of picks that there is always memory for


def most_rows(width: int) -> int:
    """How many rows of picks `Removal` takes, for k = `width`.

    Among more than k rows some resemble others, and `CandidateScores` is better conditioned.
    """
    return min(width, max(REMOVAL_ROWS, width // 2))


class Removal(DriftControl, Generic[Images]):
    """Picks with few rows compared with k, from which images are removed.

    X is the V_x of all picks, one below the other, M_0 = lambda 1 + prior, and G = X M_0^{-1} X^T.
    Kept up to date are H = (1 + G)^{-1} and B = X M^{-1} F M^{-1} X^T. Removing x raises the
    objective by tr(H_xx^{-1} B_xx).

    H_xx equals 1 - V_x M^{-1} V_x^T, but is computed without that subtraction: if no other pick
    resembles x, the difference is as small as lambda over the information.
    """

    careful = True

    def __init__(
        self, images: Images, criterion: DesignCriterion[Images], inside: list[int]
    ) -> None:
        self.images = images
        self.criterion: DesignCriterion[Images] = criterion
        self.inside = inside
        self.X_over_M0, self.one_plus_G = criterion.over_prior(images)
        self.one_plus_G.diagonal().add_(1)
        self.recompute()
        self.objective = self.final_objective()

    def recompute(self) -> None:
        """Compute H and B from scratch."""
        rows = self._rows(self.inside)
        L = self.criterion.cholesky(self.one_plus_G[rows][:, rows])
        X_over_M = torch.cholesky_solve(self.X_over_M0[rows], L)
        self.H, self.B = torch.zeros_like(self.one_plus_G), torch.zeros_like(self.one_plus_G)
        self.H[rows[:, None], rows] = torch.cholesky_inverse(L)
        self.B[rows[:, None], rows] = self.criterion.fisher_form(X_over_M)
        self.just_computed = True

    def _rows(self, images: list[int]) -> Tensor:
        R = self.images.rows
        return indices_on(
            self.one_plus_G.device, [image * R + row for image in images for row in range(R)]
        )

    def best_to_remove(self, positions: Tensor) -> int | None:
        """Return the pick whose removal raises the objective least; see `DriftControl.least`."""
        inside = torch.tensor(self.inside)
        rows = self._rows(self.inside).view(len(inside), -1)
        pairs = rows[:, :, None], rows[:, None]
        return self.least(traces(self.H[pairs], self.B[pairs], 0), inside, positions)

    def remove_best(self, positions: Tensor) -> None:
        """Remove one pick."""
        while (image := self.best_to_remove(positions)) is None or not self.remove(image):
            self.recompute()

    def remove(self, image: int) -> bool:
        """Remove a pick and update H and B; or change nothing, and return False, on drift."""
        rows, inside = self._rows([image]), self._rows(self.inside)
        H, B = self.H[:, rows], self.B[:, rows]
        product = self.one_plus_G @ H
        product[rows] -= torch.eye(len(rows), dtype=H.dtype, device=H.device)
        V_over_M = H.T @ self.X_over_M0
        of_B = self.criterion.fisher_form(V_over_M)
        smallest = torch.finfo(H.dtype).tiny
        errors = (
            product[inside].norm(),
            (B[rows] - of_B).norm() / of_B.norm().clamp_min(smallest),
        )
        if not self.accepts(max(torch.stack(errors).tolist())):
            return False
        self.just_computed = False
        P = torch.cholesky_solve(H.T, self.criterion.cholesky(H[rows])).T
        Q = B - P @ B[rows] / 2
        self.H -= P @ H.T
        PQ = P @ Q.T
        self.B -= PQ + PQ.T
        for matrix in (self.H, self.B):
            matrix[rows] = 0
            matrix[:, rows] = 0
        self.inside.remove(image)
        return True

    def final_objective(self) -> float:
        """Return tr(M^{-1} F), computed from scratch."""
        return self.criterion.value(self.images[torch.tensor(self.inside)])
