"""Slow, obviously correct versions of what the package computes fast.

They use float64 and NumPy; torch only where a network is needed or a time is compared."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Array = NDArray[np.float64]
Number = TypeVar("Number", float, Decimal)
DIGITS = 60  # of the arithmetic that judges optimal designs
TIE = Decimal("1e-6")  # scores that differ by less, relatively, are equal


def kmeans_plus_plus(
    points: Array, candidates: list[int], first: int, n: int, uniforms: list[float]
) -> list[int]:
    """Textbook k-means++ among the candidates; pick i uses uniforms[i - 1].

    If all distances are 0, the lowest remaining index is picked.
    """
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
    """Return (p - e_yhat) ⊗ h of every image: (N, C D)."""
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
    """Greedy k-center from the whole matrix of distances.

    Without labelled images it starts from the image closest to the mean.
    """
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
    """Return the mutual information of every prediction and its masks (S, N, D): (N,)."""
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


def mask(
    kind: str,
    fisher: dict[str, list[float]],
    last_layer: list[str],
    fraction: str | None,
    whole_last_layer: bool,
) -> set[tuple[str, int]]:
    """Return (parameter, flat index) of the chosen weights, for any kind but random.

    fraction: As typed.
    """
    parameters = sum(len(values) for values in fisher.values())
    last = sum(len(fisher[name]) for name in last_layer)
    share = max(Fraction("0.002"), Fraction(2 * last, parameters))
    share = min(Fraction(1), share) if fraction is None else Fraction(fraction)

    def largest(entries: list[tuple[float, str, int]], n: int) -> set[tuple[str, int]]:
        # Python's sort is stable: equal ones stay in order.
        return {(name, i) for _, name, i in sorted(entries, key=lambda entry: -entry[0])[:n]}

    layers = {
        name: [(value, name, i) for i, value in enumerate(values)]
        for name, values in fisher.items()
        if not (whole_last_layer and name in last_layer)
    }
    chosen = {(name, i) for name in fisher if name not in layers for i in range(len(fisher[name]))}
    if kind == "standard":
        left = math.floor(share * parameters) - len(chosen)
        chosen |= largest([entry for entries in layers.values() for entry in entries], left)
    for entries in layers.values():
        if kind == "dispersed":
            chosen |= largest(entries, math.ceil(share * len(entries)))
        if kind == "relative":
            mean = sum(value for value, _, _ in entries) / len(entries)
            above = [entry for entry in entries if entry[0] > 2 * mean]
            chosen |= largest(above, math.floor(Fraction("0.025") * len(entries)))
    return chosen


def information(
    jacobian: Array, logits: Array, weighting: str = "fisher", temperature: float = 1
) -> Array:
    """Return sum_c w_c g_c g_c^T of one image, g_c = J_c - sum_j p_j J_j: (k, k).

    jacobian: J, (C, k). temperature: T; the network is taken to have the logits z / T.
    """
    logits, jacobian = logits / temperature, jacobian / temperature
    exponentials = np.exp(logits - logits.max())
    p = exponentials / exponentials.sum()
    total = np.zeros((jacobian.shape[1], jacobian.shape[1]))
    for c in range(len(p)):
        gradient = jacobian[c] - sum(p[j] * jacobian[j] for j in range(len(p)))
        total += (p[c] if weighting == "fisher" else 1) * np.outer(gradient, gradient)
    return total


def last_layer_jacobian(embedding: Array, classes: int) -> Array:
    """Return the Jacobian of the logits W h with respect to W, flattened: (C, C D)."""
    return np.kron(np.eye(classes), embedding[None])


def exact(matrix: Array) -> NDArray[np.object_]:
    """Return the same numbers as decimals; see `optimal_design`."""
    return np.array([[Decimal(float(value)) for value in row] for row in matrix], dtype=object)


def design_objective(
    picks: list[int],
    informations: list[Array],
    pool_fisher: Array,
    prior: Array,
    scale: float,
    regularization: float,
) -> float:
    """Return tr(M^{-1} F), exact to the last digit."""
    matrices = [exact(information) for information in informations]
    base = exact(regularization * np.eye(len(prior))) + exact(prior)
    M = base + sum((Decimal(scale) * matrices[x] for x in picks), 0 * base)
    with localcontext(prec=DIGITS):
        return float(trace_of_solution(M, exact(pool_fisher)))


def trace_of_solution(M: NDArray[np.object_], F: NDArray[np.object_]) -> Decimal:
    """tr(M^{-1} F) by Gaussian elimination, without pivots since M is positive definite."""
    M, F = M.copy(), F.copy()
    for j in range(len(M)):
        for i in range(len(M)):
            if i != j and M[i, j]:
                ratio = M[i, j] / M[j, j]
                M[i, j:] -= ratio * M[j, j:]
                F[i] -= ratio * F[j]
    return sum((F[j, j] / M[j, j] for j in range(len(M))), Decimal(0))


def greedy(
    n: int,
    candidates: int,
    oversampling: float,
    objective: Callable[[list[int]], Number],
    rounding: float = 0,
) -> list[int]:
    """Pick forward, then remove backward, by the objective of every set.

    Scores are equal if they differ by less than a millionth, plus `rounding` times the objective.
    Of equal scores the lowest position goes first.
    """

    def lowest_of_the_best(objectives: dict[int, Number], now: Number) -> int:
        number = type(now)
        changes = {x: after - now for x, after in objectives.items()}
        best = min(changes.values())
        close = number(TIE) * abs(best) + number(rounding) * abs(now)
        return min(x for x, change in changes.items() if change <= best + close)

    picks: list[int] = []
    while len(picks) < min(n + int(oversampling * n + 0.5), candidates):
        left = [x for x in range(candidates) if x not in picks]
        objectives = {x: objective([*picks, x]) for x in left}
        picks.append(lowest_of_the_best(objectives, objective(picks)))
    while len(picks) > n:
        objectives = {x: objective([y for y in picks if y != x]) for x in picks}
        picks.remove(lowest_of_the_best(objectives, objective(picks)))
    return picks


def optimal_design(
    n: int,
    informations: list[Array],
    pool_fisher: Array,
    prior: Array,
    scale: float,
    regularization: float,
    oversampling: float = 0,
) -> list[int]:
    """`greedy` in decimal arithmetic of `DIGITS` digits, on the given float64 numbers.

    With a small regularization, an explicit inverse in float64 loses more digits than the code that
    it should judge.
    """
    matrices = [Decimal(scale) * exact(information) for information in informations]
    base = exact(regularization * np.eye(len(prior))) + exact(prior)
    F = exact(pool_fisher)

    def objective(picks: list[int]) -> Decimal:
        return trace_of_solution(base + sum((matrices[x] for x in picks), 0 * base), F)

    with localcontext(prec=DIGITS):
        return greedy(n, len(informations), oversampling, objective)


def float64_design(
    n: int,
    informations: list[Array],
    pool_fisher: Array,
    prior: Array,
    scale: float,
    regularization: float,
    oversampling: float = 0,
) -> list[int]:
    """`optimal_design` in float64: a thousand times faster, if the regularization is not small."""
    base = regularization * np.eye(len(prior)) + prior

    def objective(picks: list[int]) -> float:
        M = base + scale * sum((informations[x] for x in picks), 0 * base)
        return float(np.trace(np.linalg.solve(M, pool_fisher)))

    return greedy(n, len(informations), oversampling, objective, rounding=1e-13)


def textbook_design(
    n: int, factors: Tensor, pool_fisher: Tensor, prior: Tensor, scale: float, regularization: float
) -> list[int]:
    """Forward selection as it is usually written, in torch and float64.

    factors: V_x, (N, R, k). Every pick takes, for all candidates, two products with k x k matrices
    and an R x R inverse.
    """
    V = scale**0.5 * factors
    _, rows, k = V.shape
    eye = torch.eye(rows, dtype=V.dtype)
    inverse = torch.linalg.inv(regularization * torch.eye(k, dtype=V.dtype) + prior)
    picks: list[int] = []
    for _ in range(n):
        A = torch.bmm((V.view(-1, k) @ inverse).view_as(V), V.mT)
        weighted = inverse @ pool_fisher @ inverse
        B = torch.bmm((V.view(-1, k) @ weighted).view_as(V), V.mT)
        scores = (torch.linalg.inv(eye + A) * B).sum(dim=(1, 2))
        scores[picks] = -torch.inf
        picks.append(int(scores.argmax()))
        W = inverse @ V[picks[-1]].T
        inverse = inverse - W @ torch.linalg.inv(eye + V[picks[-1]] @ W) @ W.T
    return picks


def jacobian(model: nn.Module, images: Tensor) -> dict[str, Array]:
    """Return the gradients of the logits by parameter, (N, C, *shape), one by one."""
    model = copy.deepcopy(model).double().requires_grad_(True)
    gradients: dict[str, list[list[Array]]] = {name: [] for name, _ in model.named_parameters()}
    for image in images.double():
        logits = model(image[None].contiguous())[0]
        for rows in gradients.values():
            rows.append([])
        for logit in logits:
            model.zero_grad(set_to_none=False)
            logit.backward(retain_graph=True)
            for name, parameter in model.named_parameters():
                gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                gradients[name][-1].append(gradient.detach().numpy().copy())
    return {name: np.array(rows) for name, rows in gradients.items()}
