"""The pool's mean information over likeliest classes, as an operator: F is never stored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from fm_al.fisher.chunks import images_at_once
from fm_al.fisher.top_class_blocks import TopClassBlocks

ROWS_BYTES = {"cpu": 2**28, "cuda": 2**30}  # of rows of length k that are computed together


@dataclass(frozen=True)
class TopClassFisher:
    """F = sum_x w_x I(x) over the whole pool, or the identity.

    Attributes:
        pool: V_x of the N images of the pool.
        weights: w_x, (N,) float64.
        identity: Whether F is the identity.
    """

    pool: TopClassBlocks
    weights: Tensor
    identity: bool = False

    @property
    def rows_at_once(self) -> int:
        """How many rows of length k are multiplied together."""
        images, c = self.pool.top.shape
        return rows_at_once(images, c, self.pool.width, self.weights.device)

    def times(self, rows: Tensor, products: Tensor | None = None) -> Tensor:
        """Return rows F, for rows (m, k). products: `pool.times(rows)`, if known."""
        if self.identity:
            return rows
        products = self.pool.times(rows) if products is None else products
        return self.pool.transposed_times(self.weights[:, None, None] * products)

    def form(self, rows: Tensor) -> Tensor:
        """Return rows F rows^T, (m, m)."""
        parts = [self.times(some) @ rows.T for some in rows.split(self.rows_at_once)]
        return torch.cat(parts)

    def trace(self) -> float:
        """Return tr(F)."""
        if self.identity:
            return float(self.pool.width)
        return information_trace(self.pool, self.weights)

    def forms(self, of: Tensor, factors: Tensor) -> Tensor:
        """Return V_x F V_x^T of some images of the pool.

        With F_ab the block of two classes, the block of image x is sum_ab E_xa (h_x^T F_ab h_x)
        E_xb. Only images that have both classes have a part in F_ab, and only these need it, so the
        blocks are computed and used in turn.

        Args:
            of: Positions of the images in the pool, (n,).
            factors: Their E_x, (n, c - 1, c).
        """
        if self.identity:
            lengths = self.pool[of].squared_lengths()[:, None, None]
            return torch.bmm(factors * lengths, factors.mT)
        inner = self._pair_forms()[of]
        return torch.bmm(torch.bmm(factors, inner), factors.mT)

    def _pair_forms(self) -> Tensor:
        """Return h_x^T F_ab h_x for all pairs of classes of every image, (N, c, c)."""
        pool, c = self.pool, self.pool.top.shape[1]
        i, j = torch.triu_indices(c, c, device=pool.top.device)
        shares = torch.bmm(pool.factors.mT, pool.factors) * self.weights[:, None, None]
        shares = shares[:, i, j].flatten()
        first, second = pool.top[:, i], pool.top[:, j]
        keys = torch.minimum(first, second) * pool.class_count + torch.maximum(first, second)
        keys, order = keys.flatten().sort(stable=True)
        counts = keys.unique_consecutive(return_counts=True)[1].tolist()
        sorted_forms = [
            self._weighted_forms(pool.positions[entries // len(i)], shares[entries])
            for entries in order.split(counts)
        ]
        forms = torch.empty_like(shares)
        forms[order] = torch.cat(sorted_forms)
        inner = pool.factors.new_empty(len(pool), c, c)
        inner[:, i, j] = inner[:, j, i] = forms.view(len(pool), -1)
        return inner

    def _weighted_forms(self, positions: Tensor, shares: Tensor) -> Tensor:
        """Return h_x^T (sum_y u_y h_y h_y^T) h_x of n images, (n,), with shares u."""
        embeddings, D = self.pool.embeddings, self.pool.dimensions
        if len(positions) <= D:
            h = embeddings[positions].double()
            return (h @ h.T).square_() @ shares
        size = max(D, images_at_once(2 * D, positions.device))
        block = shares.new_zeros(D, D)
        for some, share in zip(positions.split(size), shares.split(size), strict=True):
            h = embeddings[some].double()
            block.addmm_((h * share[:, None]).T, h)
        forms = []
        for some in positions.split(size):
            h = embeddings[some].double()
            forms.append(((h @ block) * h).sum(dim=1))
        return torch.cat(forms)


def rows_at_once(images: int, top_classes: int, width: int, device: torch.device) -> int:
    """How many rows of length k = `width` are multiplied together with so many images."""
    return max(1, ROWS_BYTES[device.type] // (8 * max(width, images * top_classes)))


def information_trace(images: TopClassBlocks, weights: Tensor) -> float:
    """Return sum_x w_x tr I(x)."""
    squares = images.factors.square().sum(dim=(1, 2))
    return float((weights * squares * images.squared_lengths()).sum())


def row_chunks(images: TopClassBlocks, rows: int) -> Iterator[tuple[slice, Tensor]]:
    """Yield V_x of all images in parts of about so many rows, (n (c - 1), k)."""
    size = max(1, rows // images.rows)
    for start in range(0, len(images), size):
        part = slice(start, start + size)
        yield part, images[part].row_vectors()
