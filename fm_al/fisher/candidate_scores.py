"""Every candidate's score, kept up to date while images are picked or removed."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from fm_al.device import indices_on
from fm_al.errors import RunError
from fm_al.fisher.blocks import Blocks, halve
from fm_al.fisher.chunks import images_at_once
from fm_al.fisher.criterion import Criterion
from fm_al.fisher.precision import DriftControl
from fm_al.fisher.traces import traces
from fm_al.fisher.triangles import times_triangle, upper_half


class CandidateScores(DriftControl):
    """M^{-1} with the picks inside, and every candidate's A_x and B_x.

    A_x = V_x M^{-1} V_x^T and B_x = V_x M^{-1} F M^{-1} V_x^T. Picking x lowers the objective by
    tr((1 + A_x)^{-1} B_x); removing it raises the objective by tr((1 - A_x)^{-1} B_x).

    Attributes:
        candidates: V_x of all N candidates.
        inside: Positions of the picks among them, in the order of picking.
        A, B: (N, R, R) float64.
        inverse: M^{-1}.
    """

    criterion: Criterion

    def __init__(
        self, candidates: Blocks, criterion: Criterion, inside: list[int] | None = None
    ) -> None:
        self.candidates = candidates
        self.criterion = criterion
        self.inside = inside or []
        self.careful = bool(inside)
        self.recompute()
        self.objective = self.at_first = self._objective()

    def recompute(self) -> None:
        """Compute M^{-1}, A and B from scratch."""
        self.inverse = self.criterion.inverse(self.blocks_inside(), whole=self.careful)
        images, rows = len(self.candidates), self.candidates.rows
        self.A = self.criterion.pool_fisher.new_empty(images, rows, rows)
        self.B = torch.empty_like(self.A)
        for part, A, B in self._careful_forms() if self.careful else self._forms():
            self.A[part], self.B[part] = A, B
            if not bool(A.isfinite().all() and B.isfinite().all()):
                raise RunError(
                    "selection cannot start: the candidates' gradients, the pool's Fisher "
                    "information or the prior are not finite"
                )
        self.just_computed = True

    def _forms(self) -> Iterator[tuple[slice, Tensor, Tensor]]:
        inverse, blocks = self.inverse, self.candidates
        sizes = blocks.factors.shape[2], blocks.dimensions
        weighted = halve(inverse.times(inverse.times(self.criterion.pool_fisher).T), *sizes)
        if inverse.root is None:
            lengths = 1 / self.criterion.regularization
            columns = blocks.columns(inverse.T.T * math.sqrt(lengths))
            for part, chunk in blocks.chunks(for_squares=True):
                along = chunk.times(columns)
                A = torch.baddbmm(chunk.grams(), along, along.mT, beta=lengths, alpha=-1)
                yield part, A, chunk.quadratic_forms(weighted)
            return
        whole = halve(inverse.root.T @ inverse.root, *sizes)
        for part, chunk in blocks.chunks(for_squares=True):
            yield part, chunk.quadratic_forms(whole), chunk.quadratic_forms(weighted)

    def _careful_forms(self) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Compute A and B from the whitened vectors L^{-1} V_x^T, with M = L L^T.

        `_forms` computes B of a candidate that M knows well as a difference of numbers that are
        larger by the square of the information over lambda. This way avoids that, and takes longer.
        """
        root = self.inverse.root
        assert root is not None
        half = upper_half(root @ self.criterion.pool_fisher @ root.T)
        upper = root.T.contiguous()
        for part, vectors in self.candidates.row_vector_chunks():
            rows = times_triangle(vectors, upper)
            weighted = times_triangle(rows, half)
            rows, weighted = (x.unflatten(0, (-1, self.candidates.rows)) for x in (rows, weighted))
            B = torch.bmm(weighted, rows.mT)
            yield part, torch.bmm(rows, rows.mT), B + B.mT

    def blocks_inside(self) -> Blocks:
        """Return the V_x of the picks."""
        return self.candidates[torch.tensor(self.inside, dtype=torch.int64)]

    def _objective(self) -> float:
        F, inverse = self.criterion.pool_fisher, self.inverse
        if inverse.root is None:
            along = float((inverse.T @ F * inverse.T).sum())
            return (float(F.trace()) - along) / self.criterion.regularization
        return float((inverse.root @ F * inverse.root).sum())

    def final_objective(self) -> float:
        """Return tr(M^{-1} F), computed again if the updates have cancelled its digits."""
        if self.has_cancelled:
            return self.criterion.value(self.blocks_inside())
        return self.objective

    def best_to_add(self) -> int | None:
        """Return the candidate whose addition lowers the objective most; see `most`."""
        return self.most(traces(self.A, self.B, 1), self.inside)

    def best_to_remove(self, positions: Tensor) -> int | None:
        """Return the pick whose removal raises the objective least; see `DriftControl.least`."""
        inside = torch.tensor(self.inside)
        there = indices_on(self.A.device, self.inside)
        return self.least(traces(-self.A[there], self.B[there], 1), inside, positions)

    def add_best(self) -> None:
        """Pick one more candidate."""
        while (image := self.best_to_add()) is None or not self.change(image, +1):
            self.recompute()

    def remove_best(self, positions: Tensor) -> None:
        """Remove one pick."""
        while (image := self.best_to_remove(positions)) is None or not self.change(image, -1):
            self.recompute()

    def change(self, image: int, sign: int) -> bool:
        """Add sign I(x) to M, and update M^{-1} and every A and B, with R rows each.

        Returns False and changes nothing if this image's A and B have drifted: another image may
        then be the best.
        """
        vectors = self.candidates[image : image + 1].row_vectors()
        half = self.inverse.whitened(vectors)
        # As rows, (R, k): a column-major matrix with few columns multiplies 40 times slower.
        W = self.inverse.times_root(half)
        FW = W @ self.criterion.pool_fisher
        A, B = W @ vectors.T, W @ FW.T
        drift = self.drift(self.A[image], A, self.B[image], B)
        if not self.accepts(drift):
            return False
        self.just_computed = False
        # (1 + sign A)^{-1} = L^{-T} L^{-1}; with L^{-1} W for W, M^{-1} changes by -sign W^T W.
        L = self.criterion.cholesky(torch.eye(len(A), dtype=A.dtype, device=A.device) + sign * A)
        half, W, FW = (torch.linalg.solve_triangular(L, x, upper=False) for x in (half, W, FW))
        self.objective -= sign * float((W * FW).sum())
        Z = self.inverse.times(FW) - (sign / 2) * (W @ FW.T) @ W
        both = torch.cat([W, Z]).T.contiguous()
        products = self.candidates.times(both)
        size = images_at_once(self.A[0].numel(), self.A.device)
        parts = (x.split(size) for x in (self.A, self.B, products))
        for one_A, one_B, PQ in zip(*parts, strict=True):
            P, Q = PQ.split(len(W), dim=2)
            one_A.baddbmm_(P, P.mT, alpha=-sign)
            cross = torch.bmm(P, Q.mT)
            one_B.sub_(cross, alpha=sign).sub_(cross.mT, alpha=sign)
        (self.inside.append if sign > 0 else self.inside.remove)(image)
        self.inverse.change(half, sign)
        if self.inverse.has_many_rows:
            del self.inverse
            self.inverse = self.criterion.inverse(self.blocks_inside(), whole=True)
        return True
