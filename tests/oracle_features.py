"""Whitened PCA by the definition: a dense singular value decomposition in numpy, float64."""

from __future__ import annotations

import numpy as np


def whitened_pca(train: np.ndarray, others: np.ndarray, dimensions: int) -> np.ndarray:
    """Coordinates of images along the train images' principal directions, of variance 1 there.

    Args:
        train: uint8 (N, ...).
        others: uint8 (M, ...).
        dimensions: How many.

    Returns:
        (M, dimensions), each column with the sign that makes its direction's largest entry
        positive.
    """
    pixels, others = (each.reshape(len(each), -1) / 255 for each in (train, others))
    mean = pixels.mean(axis=0)
    _, singular, directions = np.linalg.svd(pixels - mean, full_matrices=False)
    columns = []
    for value, direction in zip(singular[:dimensions], directions, strict=False):
        sign = np.sign(direction[np.abs(direction).argmax()])
        deviation = value / np.sqrt(len(pixels))
        columns.append((others - mean) @ (sign * direction) / deviation)
    return np.stack(columns, axis=1)
