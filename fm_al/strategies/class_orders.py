"""The pool in the order of each class, and the classes that are known: what GALAXY and DIRECT
search."""

from __future__ import annotations

import torch
from torch import Tensor

from fm_al.strategies.base import FLOAT, Query, QuerySizes
from fm_al.strategies.chunks import most_rows, row_chunks

UNKNOWN = -1  # in place of a class


class ClassOrders:
    """For a class c, all images by p_c - max p + 1e-8 max p, the largest first.

    So the images that are predicted as c come first, the surest of them at the very top (in
    float32; images with p = 1 tie); the others follow by how far p_c is below the largest
    probability (GALAXY, arXiv 2202.01402, section 3).
    Ties go to the lowest index.

    Args:
        logits: float32 (N, C), overwritten.
        keep: Keep every order that has been asked for, 4 N bytes each. Else it is sorted anew.
    """

    def __init__(self, logits: Tensor, keep: bool) -> None:
        self._margins = _margins_of_logits(logits)
        self._keep = keep
        self._kept: dict[int, Tensor] = {}

    def __call__(self, of_class: int) -> Tensor:
        """Indices of all images in the order of a class, int32 (N,)."""
        if of_class in self._kept:
            return self._kept[of_class]
        order = self._margins[:, of_class].argsort(descending=True, stable=True).int()
        if self._keep:
            self._kept[of_class] = order
        return order


def _margins_of_logits(logits: Tensor) -> Tensor:
    """Replace logits, float32 (N, C), by p_c - max p + 1e-8 max p, in place."""
    for rows in row_chunks(len(logits)):
        probabilities = logits[rows].softmax(dim=1)
        largest = probabilities.amax(dim=1, keepdim=True)
        logits[rows] = (probabilities - largest).add_(largest, alpha=1e-8)
    return logits


class KnownClasses:
    """Classes of the labelled images and of those that are revealed in a round.

    What the query has revealed before counts among the n picks.

    Attributes:
        of: The class of every image, int64 (N,) on the device; UNKNOWN if it is not known.
        left: How many of the n picks are left.
    """

    def __init__(self, query: Query, n: int) -> None:
        self._query = query
        self.left = n - len(query.revealed)
        if self.left < 0:
            raise ValueError(f"n={n}: must be at least {len(query.revealed)}, the revealed images")
        self.of = torch.full((query.sizes.images,), UNKNOWN, device=query.device)
        self.of[query.labelled] = query.labelled_targets
        self.of[query.revealed] = query.revealed_targets

    def reveal(self, images: Tensor) -> None:
        """Ask for the classes of these images, (m,): they are picks."""
        images = images.long()
        self.of[images] = self._query.reveal(images)
        self.left -= len(images)


def orders_memory(sizes: QuerySizes, kept: int) -> dict[str, int]:
    """Bytes of `ClassOrders` with so many orders kept, of `KnownClasses`, and of a search."""
    in_chunk = 3 * FLOAT * most_rows(sizes.images) * sizes.classes
    orders = {f"{kept} orders of the pool": FLOAT * kept * sizes.images} if kept else {}
    return (
        sizes.embeddings
        | sizes.logits
        | {"margins, some rows at a time": in_chunk}
        | orders
        | sizes.vectors(14)
    )
