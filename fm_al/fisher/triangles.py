"""Products with symmetric and triangular matrices, at half the cost of whole ones."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

TILE = 96  # columns computed together in a triangular product


def upper_half(symmetric: Tensor) -> Tensor:
    """Return the upper triangular U with U + U^T the matrix."""
    half = symmetric.triu()
    half.diagonal().div_(2)
    return half


def _tiles(width: int) -> Iterator[tuple[int, int]]:
    for start in range(0, width, TILE):
        yield start, min(start + TILE, width)


def times_triangle(rows: Tensor, upper: Tensor) -> Tensor:
    """Multiply rows by an upper triangular matrix and skip most of its zeros."""
    product = torch.empty_like(rows)
    for start, end in _tiles(upper.shape[1]):
        torch.mm(rows[:, :end], upper[:end, start:end], out=product[:, start:end])
    return product


def add_triangle(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add left^T right, which must be symmetric, to the upper triangle of total."""
    for start, end in _tiles(total.shape[1]):
        total[:end, start:end].addmm_(left[:, :end].T, right[:, start:end])


def complete(upper: Tensor) -> None:
    """Mirror the upper triangle into the lower one, in place."""
    upper.triu_().add_(upper.triu(1).T)
