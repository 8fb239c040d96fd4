"""Fisher information over each image's likeliest classes, as a dense matrix, and picks by it."""

from __future__ import annotations

import numpy as np

from tests import oracle
from tests.oracle import Array


def information(
    embedding: Array,
    logits: Array,
    top_classes: int,
    weighting: str = "fisher",
    temperature: float = 1,
) -> Array:
    """Return I(x), (C D, C D): of the softmax over the likeliest classes alone."""
    classes, D = len(logits), len(embedding)
    # Python's sort is stable: of equal logits the lowest class comes first.
    top = sorted(range(classes), key=lambda c: -logits[c])[:top_classes]
    z = np.array([logits[c] for c in top]) / temperature
    p = np.exp(z - z.max())
    p /= p.sum()
    total = np.zeros((classes * D, classes * D))
    for j in range(top_classes):
        gradient = np.zeros((classes, D))
        for i, c in enumerate(top):
            gradient[c] = ((i == j) - p[i]) * embedding / temperature
        weight = p[j] if weighting == "fisher" else 1
        total += weight * np.outer(gradient.ravel(), gradient.ravel())
    return total


def design(
    n: int,
    informations: list[Array],
    candidates: list[int],
    pool_fisher: Array,
    known: dict[int, float],
    scale: float,
    regularization: float,
    oversampling: float = 0,
    exactly: bool = True,
) -> tuple[list[int], float]:
    """Return the greedy picks, as positions among the candidates, and their objective.

    known: The weight of each image that M knows. exactly: In decimal arithmetic.
    """
    prior = sum((w * informations[x] for x, w in known.items()), 0 * informations[0])
    of_candidates = [informations[x] for x in candidates]
    arguments = pool_fisher, prior, scale, regularization
    greedy = oracle.optimal_design if exactly else oracle.float64_design
    picks = greedy(n, of_candidates, *arguments, oversampling)
    if exactly:
        return picks, oracle.design_objective(picks, of_candidates, *arguments)
    M = regularization * np.eye(len(prior)) + prior
    M += scale * sum((of_candidates[x] for x in picks), 0 * M)
    return picks, float(np.trace(np.linalg.solve(M, pool_fisher)))
