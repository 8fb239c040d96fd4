"""Greedy optimal design with one block of information per class; see `ClassBlocks`.

M and F have such blocks, too, and the objective tr(M^{-1} F) is a sum over classes. Each candidate
keeps two numbers per class, A_xc = q_xc h^T M_c^{-1} h and B_xc = q_xc h^T M_c^{-1} F_c M_c^{-1} h.
Picking it lowers the objective by sum_c B_xc / (1 + A_xc). A pick changes every M_c by a matrix of
rank 1, and all A and B by products of h with a D x 2C matrix.

The start takes O(N C D^2), a pick O(N C D), and the matrices 3 C D^2 numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fm_al.device import indices_on
from fm_al.errors import RunError
from fm_al.fisher.class_blocks import ClassBlocks, ClassCriterion
from fm_al.fisher.greedy import Selection, greedy
from fm_al.fisher.precision import DriftControl
from fm_al.fisher.triangles import times_triangle, upper_half


class ClassScores(DriftControl):
    """M^{-1} with the picks inside, and every candidate's 1 + A_xc or 1 - A_xc, and B_xc.

    Picking x lowers the objective by sum_c B_xc / (1 + A_xc); removing it raises the objective by
    sum_c B_xc / (1 - A_xc). Both denominators change alike.

    Attributes:
        candidates: The N candidates.
        inside: Positions of the picks among them, in the order of picking.
        sign: 1 if images are picked; -1 if they are removed, and then all candidates are inside.
        denominators: 1 + sign A, (N, C) float64.
        B: (N, C) float64.
        inverse: M^{-1}.
    """

    careful = True

    def __init__(
        self, candidates: ClassBlocks, criterion: ClassCriterion, inside: list[int], sign: int
    ) -> None:
        self.candidates = candidates
        self.criterion: ClassCriterion = criterion
        self.inside = inside
        self.sign = sign
        self.recompute()
        roots = zip(self.inverse.root, criterion.pool_fisher, strict=True)
        self.objective = sum(float((root @ F * root).sum()) for root, F in roots)
        self.at_first = self.objective

    def recompute(self) -> None:
        """Compute M^{-1}, the denominators and B from scratch.

        From the whitened vectors L_c^{-1} h, with M_c = L_c L_c^T, so that nothing cancels.
        """
        self.inverse = self.criterion.inverse(self.blocks_inside())
        q, inputs = self.candidates.weights, self.candidates.inputs
        self.denominators, self.B = torch.empty_like(q), torch.empty_like(q)
        classes = zip(self.inverse.root, self.criterion.pool_fisher, strict=True)
        for c, (root, F) in enumerate(classes):
            half, upper = upper_half(root @ F @ root.T), root.T.contiguous()
            for part, h in inputs.chunks(self.candidates.chunk_images):
                rows = times_triangle(h, upper)
                self.denominators[part, c] = rows.square().sum(dim=1)
                self.B[part, c] = times_triangle(rows, half).mul_(rows).sum(dim=1)
        self.denominators.mul_(q).mul_(self.sign).add_(1)
        self.B.mul_(q).mul_(2)
        if self.sign < 0 and len(self.candidates) <= inputs.dimensions:
            self.denominators = self._rests()
        if not bool(self.denominators.isfinite().all() and self.B.isfinite().all()):
            raise RunError(
                "selection cannot start: the candidates' embeddings or logits, or the pool's, are "
                "not finite"
            )
        self.just_computed = True

    def _rests(self) -> Tensor:
        """Return 1 - A of the candidates, the picks inside, without that subtraction.

        It is the diagonal of (1 + X M_0^{-1} X^T)^{-1}, with X the picks' sqrt(q) h and M_0 the M
        without them. If no other pick resembles x, 1 - A is as small as lambda over the
        information.
        """
        inside = self.blocks_inside()
        h, rests = inside.inputs.float64(), torch.ones_like(self.B)
        none = self.candidates[:0]
        for c, root in enumerate(self.criterion.roots(none)):
            rows = times_triangle(h * inside.weights[:, c, None].sqrt(), root.T.contiguous())
            gram = rows @ rows.T
            gram.diagonal().add_(1)
            inverse = torch.cholesky_inverse(self.criterion.cholesky(gram))
            rests[self.inside, c] = inverse.diagonal()
        return rests

    def blocks_inside(self) -> ClassBlocks:
        """Return the blocks of the picks."""
        return self.candidates[torch.tensor(self.inside, dtype=torch.int64)]

    def final_objective(self) -> float:
        """Return the criterion, computed again if the updates have cancelled its digits."""
        if self.has_cancelled:
            return self.criterion.value(self.blocks_inside())
        return self.objective

    def add_best(self) -> None:
        """Pick one more candidate."""
        while (image := self.most(self._scores(), self.inside)) is None or not self.change(image):
            self.recompute()

    def remove_best(self, positions: Tensor) -> None:
        """Remove one pick; see `DriftControl.least`."""
        while True:
            inside = torch.tensor(self.inside)
            there = indices_on(self.B.device, self.inside)
            image = self.least(self._scores()[there], inside, positions)
            if image is not None and self.change(image):
                return
            self.recompute()

    def _scores(self) -> Tensor:
        """Return by how much every candidate changes the objective; NaN without a solution."""
        scores = (self.B / self.denominators).sum(dim=1)
        return scores.where((self.denominators > 0).all(dim=1), torch.nan)

    def change(self, image: int) -> bool:
        """Add or remove an image, and update M^{-1}, the denominators and B.

        Returns False and changes nothing if this image's own have drifted.
        """
        sign, q = self.sign, self.candidates.weights[image]
        h = self.candidates.inputs[image : image + 1].float64().expand(len(q), -1)
        half = self.inverse.whitened(h)
        W = self.inverse.times_root(half)
        FW = torch.bmm(W[:, None], self.criterion.pool_fisher)[:, 0]
        of_W = (W * FW).sum(dim=1)
        denominators, B = 1 + sign * q * (W * h).sum(dim=1), q * of_W
        drift = self.drift(self.denominators[image], denominators, self.B[image], B)
        if not self.accepts(drift):
            return False
        self.just_computed = False
        shares = q / self.denominators[image]  # M_c^{-1} changes by -sign shares w w^T
        self.objective -= sign * float((shares * of_W).sum())
        Z = self.inverse.times(FW) - (sign / 2) * (shares * of_W)[:, None] * W
        both = torch.cat([W, Z]).T.contiguous()
        for part, inputs in self.candidates.inputs.chunks(self.candidates.chunk_images):
            P, Q = (inputs @ both).split(len(q), dim=1)
            steps = (self.candidates.weights[part] * shares).mul_(P)
            self.denominators[part] -= steps * P
            self.B[part] -= steps.mul_(Q).mul_(2 * sign)
        (self.inside.append if sign > 0 else self.inside.remove)(image)
        self.inverse.change(half * shares.sqrt()[:, None], sign)
        if self.inverse.has_many_rows:
            del self.inverse
            self.inverse = self.criterion.inverse(self.blocks_inside())
        return True


def class_greedy_design(
    candidates: ClassBlocks,
    n: int,
    criterion: ClassCriterion,
    scale: float = 1.0,
    oversampling: float = 0.0,
) -> Selection:
    """Pick n candidates that make sum_c tr(M_c^{-1} F_c) small; see `greedy_design`.

    Args:
        candidates: The candidates.
        n: How many to pick, from 1 to all candidates.
        criterion: F, the prior and lambda.
        scale: The weight of a pick's information, above 0.
        oversampling: b, at least 0. n + b n images are picked, rounded and at most all candidates;
            then all but n are removed again.

    Returns:
        The picks, as positions among the candidates, and their objective.

    Raises:
        RunError: M is singular, less than three digits of the scores are left, or embeddings or
            logits are not finite.
    """
    return greedy(
        lambda: ClassScores(candidates.scaled(scale), criterion, [], +1),
        lambda blocks, inside: ClassScores(blocks, criterion, inside, -1),
        n,
        len(candidates),
        oversampling,
    )
