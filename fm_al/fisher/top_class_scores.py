"""Every candidate's score over likeliest classes, kept up to date while images are picked."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from fm_al.errors import RunError
from fm_al.fisher.chunks import images_at_once
from fm_al.fisher.precision import TIE, DriftControl
from fm_al.fisher.top_class_blocks import TopClassBlocks
from fm_al.fisher.top_class_criterion import TopClassCriterion
from fm_al.fisher.traces import traces

# Multiplications that the careful way may take.
CAREFUL_MOST = {"cpu": 3 * 10**11, "cuda": 3 * 10**13}


class TopClassScores(DriftControl):
    """M^{-1} with the picks inside, and every candidate's A_x and B_x; see `CandidateScores`.

    Attributes:
        candidates: V_x of the candidates.
        at: Their positions in the pool.
        scale: By which their V_x are scaled.
        inside: Positions of the picks among them, in the order of picking.
        A, B: (n, c - 1, c - 1) float64.
        known: M^{-1}.
    """

    # Images that M knows well have scores near 0 that are differences of large numbers. Errors are
    # harmless where scores that differ by as much count as equal.
    harmless = TIE

    def __init__(self, criterion: TopClassCriterion, at: Tensor, scale: float) -> None:
        self.criterion: TopClassCriterion = criterion
        self.fisher = criterion.fisher
        self.at = at
        self.scale = scale
        self.candidates = self.fisher.pool[at].scaled(scale)
        self.inside: list[int] = []
        self.recompute()
        self.at_first = self.objective

    def recompute(self) -> None:
        """Compute M^{-1}, A, B and the objective from scratch."""
        self.known = self.criterion.known(self.blocks_inside())
        if self._images_are_few() or (self.careful and self._can_be_careful()):
            self._careful_forms()
        else:
            self._forms()
        if not bool(self.A.isfinite().all() and self.B.isfinite().all()):
            raise RunError(
                "selection cannot start: the candidates' embeddings or logits, or the pool's, are "
                "not finite"
            )
        self.just_computed = True

    def _forms(self) -> None:
        """Compute A and B from M^{-1} = (1 - T^T T) / lambda.

        With N = (1 - T^T T / 2) F T^T, lambda^2 B = V F V^T - V N T V^T - (V N T V^T)^T.
        """
        fisher, candidates = self.fisher, self.candidates
        A, B = candidates.grams(), fisher.forms(self.at, candidates.factors)
        self.objective = fisher.trace()
        for T in self.known.whitened_rows(fisher.rows_at_once):
            of_pool = fisher.pool.times(T)
            FT = fisher.times(T, of_pool)
            self.objective -= float((T * FT).sum())
            along = self.scale * of_pool[self.at]
            weighted = candidates.times(FT - self.known.explained(FT) / 2)
            A.baddbmm_(along, along.mT, alpha=-1)
            product = torch.bmm(weighted, along.mT)
            B.sub_(product).sub_(product.mT)
        lambda_ = self.criterion.regularization
        self.A, self.B = A / lambda_, B / lambda_**2
        self.objective /= lambda_

    def _careful_forms(self) -> None:
        """Compute A and B from M^{-1} V_x^T of every candidate, without squares that cancel.

        This takes a product with the whole pool for every candidate.
        """
        shape = len(self.candidates), self.candidates.rows, self.candidates.rows
        self.A, self.B = (self.candidates.factors.new_empty(shape) for _ in range(2))
        for part, W in self._rows_over_M():
            n, R = len(self.A[part]), self.candidates.rows
            A = self.known.information_over(W, self.candidates[part]).view(n, R, n, R)
            self.A[part] = A.diagonal(dim1=0, dim2=2).permute(2, 0, 1)
            if self.fisher.identity:
                rows = W.view(n, R, -1)
                self.B[part] = torch.bmm(rows, rows.mT)
                continue
            along = self.fisher.pool.times(W) * self.fisher.weights.sqrt()[:, None, None]
            rows = along.flatten(0, 1).T.reshape(n, R, -1)
            self.B[part] = torch.bmm(rows, rows.mT)
        self.objective = self.criterion.value(self.blocks_inside())

    def _rows_over_M(self) -> Iterator[tuple[slice, Tensor]]:
        size = max(1, self.fisher.rows_at_once // self.candidates.rows)
        for start in range(0, len(self.candidates), size):
            part = slice(start, start + size)
            yield part, self.known.over(self.candidates[part].row_vectors())

    def _images_are_few(self) -> bool:
        """Whether the careful way is also the faster one."""
        pool, rows = self.fisher.pool, self.candidates.rows
        by_pair = 3 * len(self.criterion.prior) * rows + pool.top.shape[1] * pool.dimensions
        return len(self.at) * rows <= by_pair

    def _can_be_careful(self) -> bool:
        """Whether the careful way takes seconds rather than minutes."""
        pool, rows = self.fisher.pool, len(self.at) * self.candidates.rows
        return rows * pool.top.numel() * pool.dimensions <= CAREFUL_MOST[self.at.device.type]

    def blocks_inside(self) -> TopClassBlocks:
        """Return the V_x of the picks."""
        return self.candidates[torch.tensor(self.inside, dtype=torch.int64, device=self.at.device)]

    def final_objective(self) -> float:
        """Return tr(M^{-1} F), computed again if the updates have cancelled its digits."""
        if self.has_cancelled:
            return self.criterion.value(self.blocks_inside())
        return self.objective

    def add_best(self) -> None:
        """Pick one more candidate."""
        while (image := self._best_to_add()) is None or not self.add(image):
            self.recompute()

    def _best_to_add(self) -> int | None:
        return self.most(traces(self.A, self.B, 1), self.inside)

    def add(self, image: int) -> bool:
        """Add I(x) to M, and update M^{-1} and every A and B.

        Returns False and changes nothing if this image's A and B have drifted.
        """
        block = self.candidates[image : image + 1]
        vectors = block.row_vectors()
        W = self.known.over(vectors)
        of_pool = self.fisher.pool.times(W)
        FW = self.fisher.times(W, of_pool)
        A, B = W @ vectors.T, W @ FW.T
        drift = self.drift(self.A[image], A, self.B[image], B)
        if not self.accepts(drift):
            return False
        self.just_computed = False
        # (1 + A)^{-1} = L^{-T} L^{-1}; with L^{-1} W for W, M^{-1} changes by -W^T W.
        L = self.criterion.cholesky(torch.eye(len(A), dtype=A.dtype, device=A.device) + A)
        inverse = torch.linalg.solve_triangular(
            L, torch.eye(len(A), dtype=A.dtype, device=A.device), upper=False
        )
        W, FW = inverse @ W, inverse @ FW
        self.objective -= float((W * FW).sum())
        Z = self.known.over(FW) - (W @ FW.T) @ W / 2
        P, Q = self.scale * of_pool[self.at] @ inverse.T, self.candidates.times(Z)
        size = images_at_once(4 * A.numel(), A.device)
        for one_A, one_B, p, q in zip(
            *(x.split(size) for x in (self.A, self.B, P, Q)), strict=True
        ):
            one_A.baddbmm_(p, p.mT, alpha=-1)
            cross = torch.bmm(p, q.mT)
            one_B.sub_(cross).sub_(cross.mT)
        self.inside.append(image)
        self.known.add(block, vectors, L)
        return True
