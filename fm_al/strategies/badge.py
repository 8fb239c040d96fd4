"""BADGE, batch active learning by diverse gradient embeddings (Ash et al. 2020, algorithm 1)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fm_al.strategies.base import Query, Strategy
from fm_al.strategies.distances import SquaredDistances
from fm_al.strategies.kmeans_plus_plus import kmeans_plus_plus


@dataclass(frozen=True, kw_only=True)
class BADGE(Strategy):
    """k-means++ on the gradients of the last layer's weights, were the predicted class the true
    one: a_x ⊗ h_x, with a_x = p - e_yhat and h_x the embedding. As in the authors' code, the first
    pick is the longest gradient and a bias of the last layer has no part. The N x CD matrix of
    gradients is never built; a pick costs O(N (C + D)).
    """

    augment: bool = False

    def select(self, query: Query, n: int, generator: torch.Generator) -> Tensor:
        unlabelled = query.unlabelled
        gradients = Gradients(residuals(query.probabilities), query.embeddings)
        first = int(unlabelled[gradients.squared_norms[unlabelled].argmax()])
        candidates = torch.zeros(len(query.embeddings), dtype=torch.bool, device=query.device)
        candidates[unlabelled] = True
        return kmeans_plus_plus(gradients.squared_distances, candidates, first, n, generator)


def residuals(probabilities: Tensor) -> Tensor:
    """p - e_yhat of each row, yhat its largest entry, the first of several: (N, C).

    The entry of yhat is minus the sum of the others, which is not 0 before they all are: 1 - p is,
    in float32, as soon as the others are below 6e-8."""
    predicted = probabilities.argmax(dim=1, keepdim=True)
    others = probabilities.scatter(1, predicted, 0)
    return others.scatter(1, predicted, -others.sum(dim=1, keepdim=True))


class Gradients:
    """Products a_x ⊗ h_x, of residuals (N, C) and embeddings (N, D), by their factors."""

    def __init__(self, residuals: Tensor, embeddings: Tensor) -> None:
        self.residuals = SquaredDistances(residuals)
        self.embeddings = SquaredDistances(embeddings)

    @property
    def squared_norms(self) -> Tensor:
        """|a_x|^2 |h_x|^2, (N,)."""
        return self.residuals.norms * self.embeddings.norms

    def squared_distances(self, index: int) -> Tensor:
        """|a_x ⊗ h_x - a_y ⊗ h_y|^2 for all x, y the one of this index: (N,).

        That is |a_x|^2 |h_x|^2 + |a_y|^2 |h_y|^2 - 2 (a_x.a_y) (h_x.h_y), written in |a_x - a_y|^2
        and |h_x - h_y|^2 so that it does not cancel between images that are close compared with
        their gradients' norms, and is exactly 0 between equal ones and between gradients of 0.
        """
        a, h = self.residuals.norms, self.embeddings.norms
        da, dh = self.residuals(index), self.embeddings(index)
        doubled = da * (h + h[index] - dh) + dh * (a + a[index]) + (a - a[index]) * (h - h[index])
        return doubled.div_(2).clamp_(min=0)
