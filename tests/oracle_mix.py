"""LCMD, ALFA-Mix and DropQuery as their papers and authors' code describe them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def lcmd(points: Array, labelled: list[int], n: int) -> list[int]:
    """Largest cluster, maximum distance: everything anew for every pick."""
    picks: list[int] = []
    while len(picks) < n:
        centres = labelled + picks
        free = [i for i in range(len(points)) if i not in centres]
        if not centres:
            picks.append(int(np.argmax(np.sum(points**2, axis=1))))
            continue
        distances = np.array(
            [[np.sum((point - points[c]) ** 2) for c in centres] for point in points]
        )
        nearest, own = distances.min(axis=1), distances.argmin(axis=1)
        sums = [nearest[own == cluster].sum() for cluster in range(len(centres))]
        largest = [cluster for cluster, total in enumerate(sums) if total == max(sums)]
        picks.append(max((i for i in free if own[i] in largest), key=lambda i: (nearest[i], -i)))
    return picks


def softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


def alfa_mix_changes(
    embedding: Array, anchor: Array, weight: Array, bias: Array, epsilon: float
) -> bool:
    """Whether the prediction of an image changes when it is mixed with an anchor, by the authors'
    formula for the mixing ratio of every number."""
    logits = weight @ embedding + bias
    predicted = int(np.argmax(logits))
    gradient = weight.T @ (softmax(logits) - np.eye(len(bias))[predicted])
    difference = anchor - embedding
    ratio = epsilon / math.sqrt(len(embedding)) * np.linalg.norm(difference)
    ratio = ratio * gradient / np.linalg.norm(gradient) / (difference + 1e-8)
    mixed = ratio * anchor + (1 - ratio) * embedding
    return int(np.argmax(weight @ mixed + bias)) != predicted


def alfa_mix_candidates(
    embeddings: Array,
    targets: dict[int, int],
    weight: Array,
    bias: Array,
    n: int,
    step: float,
) -> tuple[list[int], float]:
    """Unlabelled images whose prediction changes for some anchor, and the epsilon reached."""
    anchors = [
        np.mean([embeddings[i] for i, label in targets.items() if label == of_class], axis=0)
        for of_class in sorted(set(targets.values()))
    ]
    epsilon, candidates = 0.0, []
    for count in range(1, math.ceil(1 / step) + 1):
        epsilon = min(count * step, 1.0)
        candidates = [
            i
            for i in range(len(embeddings))
            if i not in targets
            and any(alfa_mix_changes(embeddings[i], a, weight, bias, epsilon) for a in anchors)
        ]
        if len(candidates) > n:
            break
    return candidates, epsilon


def drop_query_candidates(
    embeddings: Array, masks: Array, dropout: float, weight: Array, bias: Array, enough: int
) -> tuple[list[int], int]:
    """Images whose class changes under more masks than a threshold, and the threshold.

    Args:
        embeddings: Of unlabelled images, (N, D).
        masks: 1 where a number is kept, (M, N, D).
    """
    changes = []
    for image, embedding in enumerate(embeddings):
        predicted = np.argmax(weight @ embedding + bias)
        dropped = [embedding * mask[image] / (1 - dropout) for mask in masks]
        changes.append(sum(np.argmax(weight @ h + bias) != predicted for h in dropped))
    threshold = len(masks) // 2
    while threshold >= 0 and sum(count > threshold for count in changes) < enough:
        threshold -= 1
    return [image for image, count in enumerate(changes) if count > threshold], threshold
