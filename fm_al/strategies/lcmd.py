"""LCMD: the farthest image of the largest cluster around labelled and picked images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fm_al.strategies.badge import Gradients, residuals_of_logits
from fm_al.strategies.base import FLOAT, Query, QuerySizes, Strategy
from fm_al.strategies.candidates import CandidateOptions
from fm_al.strategies.chunks import most_rows, row_chunks
from fm_al.strategies.distances import CENTRES


@dataclass(frozen=True, kw_only=True)
class LCMD(CandidateOptions, Strategy):
    """Repeat: of the largest cluster, pick the image farthest from its centre.

    Largest cluster maximum distance (Holzmüller, Zaverkin, Kästner and Steinwart 2023, arXiv
    2203.09410, section 5.2.6), as in the authors' code: the labelled images and the picks are
    centres, every image belongs to the nearest one, and the largest cluster is that with the
    largest sum of squared distances to its centre. An image that is as near to two centres stays
    with the older one. Clusters of equal sums are treated as one; ties between images go to the
    lowest index. If nothing is labelled, the first pick is the image of the largest norm.

    The paper is about regression. The authors recommend sketched gradients of all layers (sketched
    finite-width neural tangent kernels). Here only the last layer's gradients are used, the weaker
    variant; for regression these are the embeddings. With classes the predicted class is taken as
    true and the bias is left out, as in `BADGE`; their N x CD matrix is never built. A pick costs
    O(N (C + D)), of which the clusters are O(N).

    Args:
        representation: What distances are computed from: `gradients` of the last layer,
            `embeddings`, or `features`, which do not change with the network.
    """

    representation: Literal["gradients", "embeddings", "features"] = "gradients"

    @property
    def reads_features(self) -> bool:
        return self.representation == "features"

    def memory(self, sizes: QuerySizes, n: int) -> dict[str, int]:
        points, dimension = sizes.embeddings, sizes.embedding
        if self.representation == "gradients":
            points, dimension = sizes.embeddings | sizes.logits, dimension + sizes.classes
        if self.representation == "features":
            points, dimension = sizes.fixed_features, sizes.features
        in_chunk = FLOAT * most_rows(sizes.images) * (3 * CENTRES + 2 * dimension)
        rows = {f"distances to {CENTRES} labelled images, some rows at a time": in_chunk}
        return points | rows | sizes.vectors(16)

    def select(self, query: Query, n: int, generator: torch.Generator) -> Tensor:
        gradients = self._gradients(query)
        labelled = query.labelled
        clusters = Clusters(gradients, labelled)
        picks: list[int] = []
        while len(picks) < n:
            if picks or len(labelled):
                pick = clusters.farthest_of_largest()
            else:
                pick = int(gradients.squared_norms.argmax())
            clusters.add(pick, gradients.squared_distances(pick))
            picks.append(pick)
        return torch.tensor(picks)

    def _gradients(self, query: Query) -> Gradients:
        """The representation; embeddings and features are gradients whose residual is 1."""
        if self.representation == "gradients":
            embeddings = query.embeddings
            return Gradients(residuals_of_logits(query.take("logits")), embeddings)
        points = query.features if self.reads_features else query.embeddings
        return Gradients(points.new_ones(len(points), 1), points)


class Clusters:
    """Images with their nearest centre, on the CPU, where sums have a fixed order.

    Args:
        gradients: Of N images.
        centres: Indices of the first centres, int64.
    """

    def __init__(self, gradients: Gradients, centres: Tensor) -> None:
        self._distances, self._centres = (part.cpu() for part in _nearest(gradients, centres))
        self._is_centre = torch.zeros(len(self._centres), dtype=torch.bool)
        first = centres.cpu()
        self._is_centre[first] = True
        self._centres[first] = first
        self._distances[first] = 0

    def add(self, centre: int, distances: Tensor) -> None:
        """Add a centre with the squared distances of all images to it, (N,)."""
        distances = distances.to(self._distances.device)
        closer = distances < self._distances
        closer[centre] = True
        self._centres[closer] = centre
        torch.where(closer, distances, self._distances, out=self._distances)
        self._distances[centre] = 0
        self._is_centre[centre] = True

    def farthest_of_largest(self) -> int:
        """The index of the farthest image of the cluster of largest sum; it is no centre."""
        sums = torch.bincount(self._centres, weights=self._distances.double())
        in_largest = (sums == sums.max())[self._centres]
        return int(self._distances.where(in_largest & ~self._is_centre, -1).argmax())


def _nearest(gradients: Gradients, centres: Tensor) -> tuple[Tensor, Tensor]:
    """Find the nearest centre of every image, by the expanded form of the distance.

    Returns:
        The squared distances, (N,), infinite if there are no centres, and the centres' indices,
        int64 (N,).
    """
    a, h, norms = gradients.residuals.points, gradients.embeddings.points, gradients.squared_norms
    distances = torch.full_like(norms, torch.inf)
    nearest = torch.zeros_like(norms, dtype=torch.int64)
    if not len(centres):
        return distances, nearest
    for chunk in centres.split(CENTRES):
        for rows in row_chunks(len(norms)):
            expanded = (a[rows] @ a[chunk].T).mul_(h[rows] @ h[chunk].T).mul_(-2)
            closest, which = expanded.add_(norms[chunk]).min(dim=1)
            closer = closest < distances[rows]
            distances[rows] = torch.where(closer, closest, distances[rows])
            nearest[rows] = torch.where(closer, chunk[which], nearest[rows])
    return gradients.squared_distances_of_pairs(nearest), nearest
