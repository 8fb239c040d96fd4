"""Traces of products with inverses, for many small matrices at once."""

from __future__ import annotations

import torch
from torch import Tensor

from fm_al.fisher.chunks import images_at_once


def traces(A: Tensor, B: Tensor, shift: float) -> Tensor:
    """Return tr((shift + A)^{-1} B) of N pairs of symmetric matrices.

    All matrices are eliminated together, column by column. LAPACK would factor them one by one and
    take three times as long.

    Args:
        A: (N, R, R) float64.
        B: (N, R, R) float64.
        shift: A multiple of the identity.

    Returns:
        (N,) float64; NaN where shift + A is not positive definite.
    """

    def columns(matrices: Tensor) -> Tensor:
        return matrices.permute(1, 2, 0).clone(memory_format=torch.contiguous_format)

    size = images_at_once(A.shape[1] ** 2, A.device)
    parts = zip(A.split(size), B.split(size), strict=True)
    return torch.cat([_traces_of_columns(columns(a), columns(b), shift) for a, b in parts])


def _traces_of_columns(A: Tensor, B: Tensor, shift: float) -> Tensor:
    """`traces` of matrices (R, R, N), which are overwritten.

    With shift + A = L D L^T the trace is the sum of (L^{-1} B L^{-T})_jj / D_jj.
    """
    A.diagonal().add_(shift)
    trace = torch.zeros_like(A[0, 0])
    for j in range(len(A)):
        pivot = torch.where(A[j, j] > 0, A[j, j], torch.nan)
        trace += B[j, j] / pivot
        column = A[j + 1 :, j] / pivot
        rest = B[j + 1 :, j] - column * (B[j, j] / 2)
        A[j + 1 :, j + 1 :].addcmul_(column[:, None], A[j, j + 1 :][None], value=-1)
        B[j + 1 :, j + 1 :].addcmul_(column[:, None], rest[None], value=-1)
        B[j + 1 :, j + 1 :].addcmul_(rest[:, None], column[None], value=-1)
    return trace
