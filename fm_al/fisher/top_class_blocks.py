"""Roots of the Fisher information that images hold about their likeliest classes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from fm_al.device import float64_device
from fm_al.fisher.chunks import images_at_once
from fm_al.fisher.class_sums import ClassGroups, class_products, class_sums
from fm_al.fisher.factors import Weighting, fisher_factors
from fm_al.fisher.pool import ScoredPool


@dataclass(frozen=True)
class TopClassBlocks:
    """V_x of N images, each with c - 1 rows and k = C D columns, c D of which are not 0.

    With idx_x the c likeliest classes of image x, p their probabilities, renormalised to sum 1, and
    h_x the embedding, with a 1 appended if the layer has a bias, I(x) = V_x^T V_x has the blocks
    (p_a [a = b] - p_a p_b) h_x h_x^T / T^2 for classes a and b in idx_x and is 0 elsewhere: the
    Fisher information of the softmax restricted to these classes. This is the expectation over the
    likeliest classes of Huseljic et al. 2024, "Fast Fishing", arXiv 2404.08981. Their code keeps
    the gradient of the softmax over all classes, which has entries for every class. With c = C
    both are the exact Fisher information.

    Columns are sorted by class: weight d of class a is column a D + d. A matrix with m rows of
    length k is called `rows` below.

    Attributes:
        embeddings: h, (N', D), any float type; shared by all parts of a pool.
        positions: Which row of `embeddings` is h_x, (N,) int64.
        top: idx_x, (N, c) int64.
        factors: `fisher_factors` of the logits of these classes, (N, c - 1, c) float64.
        class_count: C.
    """

    embeddings: Tensor
    positions: Tensor
    top: Tensor
    factors: Tensor
    class_count: int

    @classmethod
    def of_pool(
        cls, pool: ScoredPool, top_classes: int, weighting: Weighting, temperature: float
    ) -> TopClassBlocks:
        """Compute the blocks of all images of a pool.

        Args:
            pool: The pool. Its embeddings are not copied if the head has no bias.
            top_classes: c, from 2 to C.
            weighting: See `fisher_factors`.
            temperature: T, by which logits are divided.

        Raises:
            ValueError: c is out of range.
        """
        if not 2 <= top_classes <= pool.classes:
            raise ValueError(
                f"top_classes={top_classes}: should be from 2 to {pool.classes}, the classes"
            )
        device = float64_device(pool.device)
        embeddings = pool.embeddings.to(device)
        if pool.head_bias:
            embeddings = torch.cat([embeddings, torch.ones_like(embeddings[:, :1])], dim=1)
        size = images_at_once(pool.classes + 5 * top_classes**2, device)
        tops, factors = [], []
        for logits in pool.logits.split(size):
            top, values = likeliest(logits.to(device), top_classes)
            tops.append(top)
            factors.append(fisher_factors(values, weighting, temperature))
        positions = torch.arange(len(embeddings), device=device)
        return cls(embeddings, positions, torch.cat(tops), torch.cat(factors), pool.classes)

    def __len__(self) -> int:
        """N."""
        return len(self.factors)

    def __getitem__(self, images: Tensor | slice) -> TopClassBlocks:
        return replace(
            self,
            positions=self.positions[images],
            top=self.top[images],
            factors=self.factors[images],
        )

    @property
    def rows(self) -> int:
        """c - 1."""
        return self.factors.shape[1]

    @property
    def dimensions(self) -> int:
        """D."""
        return self.embeddings.shape[1]

    @property
    def width(self) -> int:
        """k = C D."""
        return self.class_count * self.dimensions

    @cached_property
    def groups(self) -> ClassGroups:
        """The images of every class."""
        return ClassGroups.of(self.top, self.class_count)

    def scaled(self, scales: float | Tensor) -> TopClassBlocks:
        """Multiply V_x by one scale, or by one scale per image, (N,)."""
        if isinstance(scales, Tensor):
            scales = scales[:, None, None]
        return replace(self, factors=self.factors * scales)

    def joined(self, other: TopClassBlocks) -> TopClassBlocks:
        """Append other images of the same pool."""
        return replace(
            self,
            positions=torch.cat([self.positions, other.positions]),
            top=torch.cat([self.top, other.top]),
            factors=torch.cat([self.factors, other.factors]),
        )

    def squared_lengths(self) -> Tensor:
        """Return |h_x|^2 of every image, (N,) float64."""
        size = images_at_once(self.dimensions, self.factors.device)
        parts = [
            self.embeddings[x].double().square().sum(dim=1) for x in self.positions.split(size)
        ]
        return torch.cat(parts)

    def grams(self) -> Tensor:
        """Return V_x V_x^T of every image, (N, c - 1, c - 1)."""
        lengths = self.squared_lengths()[:, None, None]
        return torch.bmm(self.factors * lengths, self.factors.mT)

    def row_vectors(self) -> Tensor:
        """Return V_x of all images, one below the other: (N (c - 1), k) float64."""
        n, R, D = len(self), self.rows, self.dimensions
        vectors = self.factors.new_zeros(n, self.class_count, R, D)
        h = self.embeddings[self.positions].double()
        image = torch.arange(n, device=h.device)[:, None]
        vectors[image, self.top] = self.factors.mT[..., None] * h[:, None, None]
        return vectors.transpose(1, 2).reshape(n * R, self.width)

    def times(self, rows: Tensor) -> Tensor:
        """Multiply every V_x by the transpose of rows (m, k): (N, c - 1, m)."""
        return torch.bmm(self.factors, class_products(self, rows))

    def transposed_times(self, products: Tensor) -> Tensor:
        """Return the sum of V_x^T Y_x over all images, as rows (m, k), for Y (N, c - 1, m)."""
        return class_sums(self, torch.bmm(self.factors.mT, products))


def likeliest(logits: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Return the classes of the n largest logits of every image, and these logits.

    Largest first. Of equal logits the lowest class goes first.

    Args:
        logits: (N, C).
        n: At most C.

    Returns:
        Classes (N, n) int64 and logits (N, n), of the type of the logits.
    """
    # Taken classes get -inf, below every other.
    left = logits.clamp_min(torch.finfo(logits.dtype).min)
    top = torch.empty(len(logits), n, dtype=torch.int64, device=logits.device)
    for place in range(n):
        best = left.argmax(dim=1, keepdim=True)
        top[:, place : place + 1] = best
        left.scatter_(1, best, -torch.inf)
    return top, logits.gather(1, top)
