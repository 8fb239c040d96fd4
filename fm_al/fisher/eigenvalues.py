"""Eigenvalues of the pool's Fisher information, the scale that lambda is measured by."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fm_al.errors import RunError

SUBSPACE = 8  # vectors iterated together
RESIDUAL = 1e-3  # relative residual of the leading eigenvector at which the iteration stops
MOST_ITERATIONS = 100


def information_scale(pool_fisher: Tensor) -> float:
    """Return tr(F) / k, the mean eigenvalue of F.

    Lambda competes with the eigenvalues of the information. Their size depends on the norms of the
    embeddings and on how confident the network is, so lambda should be a share of this number.

    Args:
        pool_fisher: F, the mean information of the pool, (k, k).

    Raises:
        RunError: The trace is 0 or not finite.
    """
    return checked_scale(float(pool_fisher.diagonal().double().mean()))


def checked_scale(scale: float) -> float:
    """Return the mean eigenvalue of F. Raises RunError if it is 0 or not finite."""
    if not math.isfinite(scale):
        raise RunError(
            f"the mean eigenvalue of the pool's Fisher information is {scale}: should be finite; "
            "has training diverged?"
        )
    if scale <= 0:
        raise RunError(
            f"the mean eigenvalue of the pool's Fisher information is {scale}: the network is sure "
            "of every image, so there is no scale for lambda; raise temperature, or set "
            "regularization_scale=absolute"
        )
    return scale


def largest_eigenvalue(symmetric: Tensor) -> float:
    """Return the largest eigenvalue of a positive semi-definite matrix (k, k), within 0.1%.

    See `largest_eigenvalue_of`.
    """
    return largest_eigenvalue_of(lambda vectors: symmetric @ vectors, len(symmetric), symmetric)


def largest_eigenvalue_of(multiply: Callable[[Tensor], Tensor], k: int, like: Tensor) -> float:
    """Return the largest eigenvalue of a positive semi-definite operator, within 0.1%.

    By subspace iteration from a fixed start: several vectors are iterated together, which converges
    even if the largest eigenvalues are close. It stops when the leading vector's residual bounds
    the error.

    Args:
        multiply: Returns the operator's products with vectors (k, m).
        k: Length of the vectors.
        like: A tensor of the type and on the device of the vectors.
    """
    start = torch.randn(k, min(SUBSPACE, k), generator=torch.Generator().manual_seed(0))
    product = multiply(start.to(like))
    value = 0.0
    for _ in range(MOST_ITERATIONS):
        vectors = torch.linalg.qr(product).Q
        product = multiply(vectors)
        values, rotation = torch.linalg.eigh(vectors.T @ product)
        value, leading = float(values[-1]), rotation[:, -1]
        if value <= 0:
            break
        residual = product @ (leading / value) - vectors @ leading
        if float(residual.norm()) <= RESIDUAL:
            break
    return value
