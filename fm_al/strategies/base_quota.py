"""BASE: for every class in turn, the images nearest to its decision boundary."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fm_al.strategies.base import FLOAT, Query, QuerySizes, Strategy
from fm_al.strategies.candidates import CandidateOptions
from fm_al.strategies.chunks import most_rows, row_chunks
from fm_al.strategies.lowest import lowest


@dataclass(frozen=True, kw_only=True)
class BASE(CandidateOptions, Strategy):
    """Pick the same number of images for every class: those nearest to the class's boundary.

    Emam et al. 2021, Active Learning at the ImageNet Scale (arXiv 2111.12880). In the space of
    embeddings, an image that is predicted as y has the distance

        d_c = (z_y - z_c) / |w_y - w_c|

    to its boundary with class c, where z are the logits, with the bias, and w the rows of the last
    layer. Two classes with equal rows have no boundary with each other: the distance is infinite,
    as in the authors' code, and such images come last. Each class c has a quota of n // C picks,
    and of one more for the first n mod C classes. It takes the images with the smallest distance
    that no earlier class took: d_c, or the least of all distances where c is predicted. Ties go to
    the lowest index.

    With n < C only the first n classes are served, in every round: the authors' rule is for n much
    larger than C. The authors combine BASE with self-supervised pretraining: the embeddings are
    those of the network, pretrained.
    """

    def memory(self, sizes: QuerySizes, n: int) -> dict[str, int]:
        in_chunk = 4 * FLOAT * most_rows(sizes.images) * sizes.classes
        return (
            sizes.embeddings
            | sizes.logits
            | {
                "distances, some rows at a time": in_chunk,
                "distances between the classes": 2 * FLOAT * sizes.classes**2,
            }
            | sizes.vectors(10)
        )

    def select(self, query: Query, n: int, generator: torch.Generator) -> Tensor:
        norms = weight_distances(query.model.head.weight.detach())
        distances = boundary_distances(query.take("logits"), norms)
        left, picks = query.unlabelled, []
        for c, quota in enumerate(quotas(n, query.classes)):
            taken = lowest(distances[left, c], quota)
            picks.append(left[taken])
            stays = torch.ones_like(left, dtype=torch.bool)
            stays[taken] = False
            left = left[stays]
        return torch.cat(picks)


def quotas(n: int, classes: int) -> list[int]:
    """How many of n picks each class has: the first classes have one more than the others."""
    each, more = divmod(n, classes)
    return [each + (c < more) for c in range(classes)]


def weight_distances(weights: Tensor) -> Tensor:
    """Compute |w_i - w_j| for all pairs of rows, (C, D): float32 (C, C), 0 for equal rows.

    Squared differences are summed. The Gram matrix would lose rows that are nearly equal.
    """
    rows = weights.cpu().double()
    distances = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")
    return distances.float().to(weights.device)


def boundary_distances(logits: Tensor, norms: Tensor) -> Tensor:
    """Replace logits by distances to the boundaries of the classes, in place.

    Args:
        logits: float32 (N, C).
        norms: Distances between the rows of the last layer, (C, C).

    Returns:
        float32 (N, C): of each image to its boundary with each class; for its predicted class the
        least of these.
    """
    for rows in row_chunks(len(logits)):
        z = logits[rows]
        predicted = z.argmax(dim=1, keepdim=True)
        between = norms[predicted[:, 0]]
        distances = (z.gather(1, predicted) - z).div_(between)
        distances.masked_fill_(between == 0, torch.inf)  # of the predicted class, too
        logits[rows] = distances.scatter_(1, predicted, distances.amin(dim=1, keepdim=True))
    return logits
