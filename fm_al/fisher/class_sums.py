"""Products of embeddings with the blocks of a few classes per image.

There are two ways. By class, the images that have a class among theirs are gathered and multiplied
with its block: c products per image, and each embedding is fetched c times. Densely, all images are
multiplied with the blocks of all classes, and the products of other classes are thrown away: better
if c is close to C, if there are few images per class, or on a GPU.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from fm_al.fisher.chunks import SQUARES_LEAST, images_at_once

FETCHED = 8  # multiplications that take as long as fetching a number and converting it
PER_CLASS = {"cpu": 5 * 10**5, "cuda": 10**9}  # those that take as long as starting another product


class HasTopClasses(Protocol):
    """What products read of `TopClassBlocks`."""

    @property
    def embeddings(self) -> Tensor: ...
    @property
    def positions(self) -> Tensor: ...
    @property
    def top(self) -> Tensor: ...
    @property
    def class_count(self) -> int: ...
    @property
    def groups(self) -> ClassGroups: ...


@dataclass(frozen=True)
class ClassGroups:
    """The images that have a class among theirs, for every class.

    Entry e = x c + j stands for class j of image x.

    Attributes:
        entries: All entries, sorted by class, (N c,) int64.
        bounds: Where each class starts in `entries`, C + 1 numbers.
    """

    entries: Tensor
    bounds: list[int]

    @classmethod
    def of(cls, top: Tensor, class_count: int) -> ClassGroups:
        """Group the classes (N, c) of all images."""
        classes = top.flatten()
        counts = torch.bincount(classes, minlength=class_count)
        bounds = [0, *counts.cumsum(0).tolist()]
        return cls(classes.argsort(stable=True), bounds)

    def chunks(self, size: int) -> Iterator[tuple[slice, list[tuple[int, slice]]]]:
        """Yield parts of `entries`, each with its classes and where in the part these are."""
        for start in range(0, len(self.entries), size):
            end = min(start + size, len(self.entries))
            label, classes = bisect_right(self.bounds, start) - 1, []
            while self.bounds[label] < end:
                first, last = max(self.bounds[label], start), min(self.bounds[label + 1], end)
                if first < last:
                    classes.append((label, slice(first - start, last - start)))
                label += 1
            yield slice(start, end), classes


def class_products(images: HasTopClasses, rows: Tensor) -> Tensor:
    """Multiply every h_x with the blocks of its classes.

    Args:
        images: N images.
        rows: (m, C D) float64.

    Returns:
        h_x^T rows_a for all a in idx_x, (N, c, m) float64.
    """
    (n, c), (m, D) = images.top.shape, (len(rows), images.embeddings.shape[1])
    rows = rows.contiguous()
    blocks = rows.view(m, images.class_count, D)
    products = rows.new_empty(n * c, m)
    if _by_class(images, m):
        in_order = torch.empty_like(products)
        for part, h, classes in _class_chunks(images, m):
            for label, where in classes:
                torch.mm(h[where], blocks[:, label].T, out=in_order[part][where])
        products[images.groups.entries] = in_order
        return products.view(n, c, m)
    for part, h in _image_chunks(images, m):
        top = images.top[part]
        of_all = (h @ rows.view(-1, D).T).view(len(h), m, images.class_count)
        chosen = of_all.gather(2, top[:, None].expand(-1, m, -1))
        products.view(n, c, m)[part] = chosen.mT
    return products.view(n, c, m)


def class_sums(images: HasTopClasses, weights: Tensor) -> Tensor:
    """Sum weighted embeddings by class.

    Args:
        images: N images.
        weights: For every image and each of its classes, (N, c, m) float64.

    Returns:
        Block a of row i is the sum of weights[x, a, i] h_x, (m, C D) float64.
    """
    (n, c, m), D = weights.shape, images.embeddings.shape[1]
    if _by_class(images, m):
        sums = weights.new_zeros(m, images.class_count, D)
        in_order = weights.reshape(n * c, m)[images.groups.entries]
        for part, h, classes in _class_chunks(images, m):
            for label, where in classes:
                sums[:, label].addmm_(in_order[part][where].T, h[where])
        return sums.view(m, -1)
    total = weights.new_zeros(m * images.class_count, D)
    for part, h in _image_chunks(images, m):
        of_all = h.new_zeros(len(h), m, images.class_count)
        of_all.scatter_(2, images.top[part][:, None].expand(-1, m, -1), weights[part].mT)
        total.addmm_(of_all.view(len(h), -1).T, h)
    return total.view(m, -1)


def _by_class(images: HasTopClasses, m: int) -> bool:
    """Whether products with m rows take less time by class than densely."""
    (n, c), D = images.top.shape, images.embeddings.shape[1]
    C = images.class_count
    by_class = n * c * D * (m + FETCHED) + C * PER_CLASS[images.top.device.type]
    return by_class < n * D * (C * m + FETCHED)


def _class_chunks(
    images: HasTopClasses, m: int
) -> Iterator[tuple[slice, Tensor, list[tuple[int, slice]]]]:
    """Yield `ClassGroups.chunks` with the embeddings of their images, in float64."""
    groups, c, D = images.groups, images.top.shape[1], images.embeddings.shape[1]
    positions = images.positions[groups.entries // c]
    size = images_at_once(D + m, images.top.device)
    for part, classes in groups.chunks(size):
        yield part, images.embeddings[positions[part]].double(), classes


def _image_chunks(images: HasTopClasses, m: int) -> Iterator[tuple[slice, Tensor]]:
    """Yield all images in parts with their embeddings, in float64."""
    numbers = images.embeddings.shape[1] + m * images.class_count
    size = max(SQUARES_LEAST, images_at_once(numbers, images.top.device))
    for start in range(0, len(images.top), size):
        part = slice(start, start + size)
        yield part, images.embeddings[images.positions[part]].double()
