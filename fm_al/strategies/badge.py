"""BADGE: batches of large and diverse gradients of the last layer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fm_al.strategies.base import FLOAT, Query, QuerySizes, Strategy
from fm_al.strategies.candidates import CandidateOptions
from fm_al.strategies.chunks import most_rows, row_chunks
from fm_al.strategies.distances import SquaredDistances
from fm_al.strategies.kmeans_plus_plus import kmeans_plus_plus


@dataclass(frozen=True, kw_only=True)
class BADGE(CandidateOptions, Strategy):
    """Seed k-means++ on the last layer's gradients, taking the predicted class as true.

    Batch active learning by diverse gradient embeddings (Ash et al. 2020, arXiv 1906.03671,
    algorithm 1). The gradient of an image x is a_x ⊗ h_x, with a_x = p - e_yhat and h_x the
    embedding. As in the authors' code, the first pick is the longest gradient, and a bias of the
    last layer is left out. The N x CD matrix of gradients is never built, so a pick costs
    O(N (C + D)).

    Args:
        augment: Score images as training sees them.
    """

    augment: bool = False

    def memory(self, sizes: QuerySizes, n: int) -> dict[str, int]:
        in_chunk = 5 * FLOAT * most_rows(sizes.images) * sizes.classes
        rows = {"residuals, some rows at a time": in_chunk}
        return sizes.embeddings | sizes.logits | rows | sizes.vectors(20)

    def select(self, query: Query, n: int, generator: torch.Generator) -> Tensor:
        unlabelled = query.unlabelled
        embeddings = query.embeddings
        gradients = Gradients(residuals_of_logits(query.take("logits")), embeddings)
        first = int(unlabelled[gradients.squared_norms[unlabelled].argmax()])
        candidates = torch.zeros(len(embeddings), dtype=torch.bool, device=query.device)
        candidates[unlabelled] = True
        return kmeans_plus_plus(gradients.squared_distances, candidates, first, n, generator)


def residuals_of_logits(logits: Tensor) -> Tensor:
    """Replace logits, float32 (N, C), by the `residuals` of their softmax, in place."""
    for rows in row_chunks(len(logits)):
        logits[rows] = residuals(logits[rows].softmax(dim=1))
    return logits


def residuals(probabilities: Tensor) -> Tensor:
    """Compute p - e_yhat of every row, with yhat the first of its largest entries.

    The entry of yhat is minus the sum of the others. That is 0 only if all of them are, whereas
    1 - p is 0 in float32 once the others are below 6e-8.

    Args:
        probabilities: float32 (N, C).

    Returns:
        float32 (N, C).
    """
    predicted = probabilities.argmax(dim=1, keepdim=True)
    others = probabilities.scatter(1, predicted, 0)
    return others.scatter(1, predicted, -others.sum(dim=1, keepdim=True))


class Gradients:
    """Gradients a_x ⊗ h_x, kept as their factors.

    Args:
        residuals: a, (N, C).
        embeddings: h, (N, D).
    """

    def __init__(self, residuals: Tensor, embeddings: Tensor) -> None:
        self.residuals = SquaredDistances(residuals)
        self.embeddings = SquaredDistances(embeddings)

    @property
    def squared_norms(self) -> Tensor:
        """|a_x|^2 |h_x|^2, (N,)."""
        return self.residuals.norms * self.embeddings.norms

    def squared_distances(self, index: int) -> Tensor:
        """Compute |a_x ⊗ h_x - a_y ⊗ h_y|^2 for all images x and one image y.

        That is |a_x|^2 |h_x|^2 + |a_y|^2 |h_y|^2 - 2 (a_x.a_y) (h_x.h_y). It is written in terms of
        |a_x - a_y|^2 and |h_x - h_y|^2, so that it does not cancel for gradients that are close
        compared with their norms. It is exactly 0 between equal gradients.

        Args:
            index: Of y.

        Returns:
            (N,), not negative.
        """
        a, h = self.residuals.norms, self.embeddings.norms
        return _combined(self.residuals(index), self.embeddings(index), a, a[index], h, h[index])

    def squared_distances_of_pairs(self, others: Tensor) -> Tensor:
        """Compute the same for all images x, with image others[x] as y; int64 (N,)."""
        a, h = self.residuals, self.embeddings
        distances = torch.empty_like(a.norms)
        for rows in row_chunks(len(distances)):
            pairs = others[rows]
            da = (a.points[rows] - a.points[pairs]).square_().sum(dim=1)
            dh = (h.points[rows] - h.points[pairs]).square_().sum(dim=1)
            distances[rows] = _combined(
                da, dh, a.norms[rows], a.norms[pairs], h.norms[rows], h.norms[pairs]
            )
        return distances


def _combined(da: Tensor, dh: Tensor, a: Tensor, a_y: Tensor, h: Tensor, h_y: Tensor) -> Tensor:
    """Squared distances of gradients from those of their factors and the factors' squared norms."""
    doubled = da * (h + h_y - dh) + dh * (a + a_y) + (a - a_y) * (h - h_y)
    return doubled.div_(2).clamp_(min=0)
