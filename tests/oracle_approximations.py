"""Queries of BAIT with approximate information, by dense matrices and explicit inverses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tests import oracle, oracle_top_classes
from tests.oracle import Array


@dataclass(frozen=True)
class Answer:
    """Picks as indices into the pool, tr(M^{-1} F) with them, and lambda."""

    picks: list[int]
    objective: float
    regularization: float


def softmax(logits: Array) -> Array:
    exponentials = np.exp(logits - logits.max())
    return exponentials / exponentials.sum()


def variance(p: Array, c: int) -> float:
    """p_c (1 - p_c), with 1 - p_c the sum of the other probabilities."""
    return float(p[c] * (p[:c].sum() + p[c + 1 :].sum()))


def information(
    kind: str,
    embedding: Array,
    logits: Array,
    temperature: float = 1,
    top_classes: int = 5,
    weighting: str = "fisher",
) -> Array:
    """Return I(x): (C D, C D), or (D, D) of `binary`."""
    classes = len(logits)
    if kind == "exact":
        jacobian = oracle.last_layer_jacobian(embedding, classes)
        return oracle.information(jacobian, logits, weighting, temperature)
    if kind == "top_classes":
        c = min(top_classes, classes)
        return oracle_top_classes.information(embedding, logits, c, weighting, temperature)
    p = softmax(logits / temperature)
    outer = np.outer(embedding, embedding) / temperature**2
    if kind == "binary":
        return variance(p, int(np.argmax(p))) * outer
    return np.kron(np.diag([variance(p, c) for c in range(classes)]), outer)


def pool_weights(kind: str, logits: Array, temperature: float) -> Array:
    """Return the weight of each image in F, (N,)."""
    images, classes = logits.shape
    if kind == "class_balanced":
        members = [np.eye(classes)[np.argmax(z)] for z in logits]
    elif kind == "soft_class_balanced":
        members = [softmax(z / temperature) for z in logits]
    else:
        return np.full(images, 1 / images)
    totals = np.sum(members, axis=0)
    there = [c for c in range(classes) if totals[c] > 0]
    return np.array([np.mean([one[c] / totals[c] for c in there]) for one in members])


def bait(
    kind: str,
    embeddings: Array,
    logits: Array,
    labelled: list[int],
    n: int,
    *,
    bias: bool = False,
    temperature: float = 1.0,
    top_classes: int = 5,
    weighting: str = "fisher",
    regularization: float = 1.0,
    regularization_scale: str = "information",
    pool_fisher: str = "pool",
    labelled_weight: str = "each",
    labelled_fisher: bool = True,
    oversampling: float = 0.0,
    exactly: bool = True,
) -> Answer:
    """Return the greedy batch. exactly: In decimal arithmetic."""
    if bias:
        embeddings = np.concatenate([embeddings, np.ones((len(embeddings), 1))], axis=1)
    informations = [
        information(kind, h, z, temperature, top_classes, weighting)
        for h, z in zip(embeddings, logits, strict=True)
    ]
    weights = pool_weights(pool_fisher, logits, temperature)
    F = sum(w * one for w, one in zip(weights, informations, strict=True))
    classes, D = logits.shape[1], embeddings.shape[1]
    k = {"binary": 1, "blocks": classes}.get(kind, classes - 1) * D
    if regularization_scale == "information":
        regularization *= float(np.trace(F)) / k
    if pool_fisher == "identity":
        F = np.eye(len(F))
    scale = n / (len(labelled) + n)
    each = {"each": scale, "mean": scale / n}[labelled_weight] * labelled_fisher
    prior = sum((each * informations[x] for x in labelled), np.zeros_like(F))
    candidates = [x for x in range(len(logits)) if x not in labelled]
    arguments = [informations[x] for x in candidates], F, prior, scale, regularization
    greedy = oracle.optimal_design if exactly else oracle.float64_design
    picks = greedy(n, *arguments, oversampling)
    objective = oracle.design_objective(picks, *arguments)
    return Answer([candidates[x] for x in picks], objective, regularization)


def bait_by_classes(
    embeddings: Array, logits: Array, labelled: list[int], n: int, regularization: float
) -> list[int]:
    """Return what `bait` picks with `blocks`, from D x D matrices class by class, in float64.

    For a thousand classes; F is the pool's mean, and a labelled image weighs like a pick.
    """
    D, scale = embeddings.shape[1], n / (len(labelled) + n)
    q = np.array([[variance(p, c) for c in range(len(p))] for p in map(softmax, logits)])
    blocks = np.einsum("nc,nd,ne->ncde", q, embeddings, embeddings)
    F = blocks.mean(axis=0)
    lambda_ = regularization * np.trace(F, axis1=1, axis2=2).mean() / D
    base = lambda_ * np.eye(D) + scale * blocks[labelled].sum(axis=0)
    candidates = [x for x in range(len(logits)) if x not in labelled]

    def objective(picks: list[int]) -> float:
        M = base + scale * blocks[[candidates[x] for x in picks]].sum(axis=0)
        return float(np.trace(np.linalg.solve(M, F), axis1=1, axis2=2).sum())

    picks = oracle.greedy(n, len(candidates), 0, objective, rounding=1e-13)
    return [candidates[x] for x in picks]
