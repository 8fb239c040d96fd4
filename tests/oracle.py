"""Slow, obviously right versions of what the package does fast, in NumPy and float64."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def kmeans_plus_plus(
    points: Array, candidates: list[int], first: int, n: int, uniforms: list[float]
) -> list[int]:
    """Textbook k-means++ among the candidates: pick i uses uniforms[i - 1]; where all distances
    are 0, the lowest index left."""
    picks = [first]
    for uniform in uniforms[: n - 1]:
        left = [i for i in candidates if i not in picks]
        distances = [min(np.sum((points[i] - points[j]) ** 2) for j in picks) for i in left]
        total, below = sum(distances), 0.0
        pick = left[0]
        if total > 0:
            for i, distance in zip(left, distances, strict=True):
                if distance > 0:
                    pick, below = i, below + distance
                    if below > uniform * total:
                        break
        picks.append(pick)
    return picks


def badge_gradients(probabilities: Array, embeddings: Array) -> Array:
    """(p - e_yhat) ⊗ h of each image: (N, C D)."""
    gradients = []
    for p, h in zip(probabilities, embeddings, strict=True):
        residual = p.copy()
        residual[np.argmax(p)] -= 1
        gradients.append(np.outer(residual, h).ravel())
    return np.array(gradients)


def badge(
    probabilities: Array,
    embeddings: Array,
    unlabelled: list[int],
    n: int,
    uniforms: list[float],
) -> list[int]:
    gradients = badge_gradients(probabilities, embeddings)
    lengths = [np.sum(gradients[i] ** 2) for i in unlabelled]
    first = unlabelled[int(np.argmax(lengths))]
    return kmeans_plus_plus(gradients, unlabelled, first, n, uniforms)


def coreset(embeddings: Array, labelled: list[int], n: int) -> list[int]:
    """Greedy k-center from the whole matrix of distances; without labelled images, from the one
    closest to the mean."""
    distances = np.sum((embeddings[:, None] - embeddings[None]) ** 2, axis=2)
    picks: list[int] = []
    if not labelled:
        picks.append(int(np.argmin(np.sum((embeddings - embeddings.mean(axis=0)) ** 2, axis=1))))
    while len(picks) < n:
        centres = labelled + picks
        left = [i for i in range(len(embeddings)) if i not in centres]
        picks.append(left[int(np.argmax([distances[i, centres].min() for i in left]))])
    return picks


def entropy(probabilities: Array) -> float:
    return -sum(float(p * np.log(p)) for p in probabilities if p > 0)


def bald(embeddings: Array, weight: Array, bias: Array, masks: Array, dropout: float) -> Array:
    """Mutual information of each image's prediction and its masks (S, N, D): (N,)."""
    information = []
    for image, embedding in enumerate(embeddings):
        predictions = []
        for mask in masks[:, image]:
            logits = weight @ (embedding * mask / (1 - dropout)) + bias
            exponentials = np.exp(logits - logits.max())
            predictions.append(exponentials / exponentials.sum())
        expected = sum(entropy(p) for p in predictions) / len(predictions)
        information.append(entropy(np.mean(predictions, axis=0)) - expected)
    return np.array(information)
