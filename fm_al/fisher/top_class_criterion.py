"""The criterion tr(M^{-1} F) over likeliest classes, and M^{-1} through the images that M knows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from fm_al.fisher.criterion import DesignCriterion
from fm_al.fisher.top_class_blocks import TopClassBlocks
from fm_al.fisher.top_class_fisher import TopClassFisher, row_chunks


@dataclass(frozen=True)
class TopClassCriterion(DesignCriterion[TopClassBlocks]):
    """`DesignCriterion` with F an operator and M^{-1} kept through images.

    Attributes:
        fisher: F.
        prior: The images whose information is the prior, with their weights in the scales.
        regularization: lambda.
    """

    fisher: TopClassFisher
    prior: TopClassBlocks
    regularization: float

    def known(self, inside: TopClassBlocks) -> KnownImages:
        """Return M^{-1} with these images inside."""
        return KnownImages(self, self.prior.joined(inside))

    def over_prior(self, images: TopClassBlocks) -> tuple[Tensor, Tensor]:
        known = KnownImages(self, self.prior)
        parts = [known.over(rows) for _, rows in row_chunks(images, self.fisher.rows_at_once)]
        X_over_M0 = torch.cat(parts)
        return X_over_M0, known.information_over(X_over_M0, images)

    def fisher_form(self, rows: Tensor) -> Tensor:
        return self.fisher.form(rows)

    def value(self, inside: TopClassBlocks) -> float:
        known, along = self.known(inside), 0.0
        for T in known.whitened_rows(self.fisher.rows_at_once):
            along += float((T * self.fisher.times(T)).sum())
        return (self.fisher.trace() - along) / self.regularization


class KnownImages:
    """M^{-1} = (1 - V^T G^{-1} V) / lambda with G = lambda 1 + V V^T.

    V are the V_x of all images in M, one below the other, with r rows. Only G is stored, so M^{-1}
    takes r x r numbers. With L L^T = G and T = L^{-1} V, M^{-1} = (1 - T^T T) / lambda.

    Attributes:
        images: V.
        L: (r, r), lower triangular.
    """

    def __init__(self, criterion: TopClassCriterion, images: TopClassBlocks) -> None:
        self.images = images
        self.regularization = criterion.regularization
        r = len(images) * images.rows
        G = images.factors.new_empty(r, r)
        for part, rows in row_chunks(images, criterion.fisher.rows_at_once):
            columns = slice(part.start * images.rows, part.stop * images.rows)
            G[:, columns] = images.times(rows).flatten(0, 1)
        G.diagonal().add_(self.regularization)
        self.L = criterion.cholesky(G) if r else G

    def _along(self, rows: Tensor) -> Tensor:
        """Return V rows^T, (r, m)."""
        return self.images.times(rows).flatten(0, 1)

    def _back(self, weights: Tensor) -> Tensor:
        """Return weights^T V as rows (m, k), for weights (r, m)."""
        shape = len(self.images), self.images.rows, weights.shape[1]
        return self.images.transposed_times(weights.reshape(shape))

    def explained(self, rows: Tensor) -> Tensor:
        """Return rows V^T G^{-1} V, for rows (m, k)."""
        if not len(self.images):
            return torch.zeros_like(rows)
        return self._back(torch.cholesky_solve(self._along(rows), self.L))

    def over(self, rows: Tensor) -> Tensor:
        """Return rows M^{-1}, for rows (m, k)."""
        return (rows - self.explained(rows)) / self.regularization

    def information_over(self, over: Tensor, images: TopClassBlocks) -> Tensor:
        """Return X M^{-1} X^T for X the V_x of these images and over = X M^{-1}.

        It is computed as lambda |X M^{-1}|^2 + |G^{-1} V X^T|^2, where nothing cancels.
        """
        information = self.regularization * (over @ over.T)
        if len(self.images):
            along = torch.cat(
                [
                    torch.cholesky_solve(self._along(rows), self.L)
                    for _, rows in row_chunks(images, max(1, len(self.L)))
                ],
                dim=1,
            )
            information += along.T @ along
        return information

    def whitened_rows(self, at_once: int) -> Iterator[Tensor]:
        """Yield T, in parts of at most so many rows (m, k)."""
        if not len(self.images):
            return
        for start in range(0, len(self.L), at_once):
            # Rows of L^{-1} are columns of L^{-T}.
            unit = self.L.new_zeros(len(self.L), min(at_once, len(self.L) - start))
            unit[start:].fill_diagonal_(1)
            yield self._back(torch.linalg.solve_triangular(self.L.mT, unit, upper=True))

    def add(self, image: TopClassBlocks, vectors: Tensor, L_of_image: Tensor) -> None:
        """Add one image to M.

        Args:
            image: Its blocks.
            vectors: V_x, (c - 1, k).
            L_of_image: The Cholesky factor of 1 + V_x M^{-1} V_x^T.
        """
        r, R = len(self.L), len(vectors)
        L = self.L.new_zeros(r + R, r + R)
        L[:r, :r] = self.L
        if r:
            along = torch.linalg.solve_triangular(self.L, self._along(vectors), upper=False)
            L[r:, :r] = along.T
        L[r:, r:] = self.regularization**0.5 * L_of_image
        self.L = L
        self.images = self.images.joined(image)
