"""Slow versions of the strategies that share a batch among the classes, in float64 with loops."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from torch import Tensor


def base_picks(logits: Tensor, weights: Tensor, unlabelled: Sequence[int], n: int) -> list[int]:
    """BASE by its definition, one class and one pick after the other."""
    z, w = logits.double(), weights.double()
    classes = z.shape[1]

    def distance(i: int, c: int) -> float:
        y = int(logits[i].argmax())
        others = [j for j in range(classes) if j != y] if c == y else [c]
        return min(to_boundary(i, y, j) for j in others)

    def to_boundary(i: int, y: int, j: int) -> float:
        norm = math.sqrt(sum(float(d) ** 2 for d in w[y] - w[j]))
        return math.inf if norm == 0 else float(abs(z[i, y] - z[i, j])) / norm

    picks: list[int] = []
    for c in range(classes):
        quota = n // classes + (1 if c < n % classes else 0)
        for _ in range(quota):
            left = [i for i in unlabelled if i not in picks]
            picks.append(min(left, key=lambda i: (distance(i, c), i)))
    return picks


def levelled_one_by_one(counts: Sequence[int], n: int, most: Sequence[int]) -> list[int]:
    """Give n images one after the other to the class that has the fewest, the first of equals."""
    shares = [0] * len(counts)
    for _ in range(n):
        open_ones = [c for c in range(len(counts)) if shares[c] < most[c]]
        shares[min(open_ones, key=lambda c: (counts[c] + shares[c], c))] += 1
    return shares


def cbal_objective(p: np.ndarray, z: np.ndarray, want: np.ndarray, weight: float) -> float:
    """z^T (sum_c p log p) + weight |P^T z - want|_1."""
    logs = np.log(np.where(p > 0, p, 1))
    return float(z @ (p * logs).sum(axis=1) + weight * np.abs(p.T @ z - want).sum())


def cbal_swapped(
    p: np.ndarray, picks: Sequence[int], want: np.ndarray, weight: float
) -> list[list[int]]:
    """The picks after each best swap of one pick, until none lowers the objective by 1e-9."""
    all_picks, best = [list(picks)], True
    while best:
        picks, best, least = all_picks[-1], None, (-1e-9, -1, 0)
        present = cbal_objective(p, np.isin(range(len(p)), picks).astype(float), want, weight)
        for joining in set(range(len(p))) - set(picks):
            for place, leaving in enumerate(picks):
                changed = [*picks[:place], joining, *picks[place + 1 :]]
                z = np.isin(range(len(p)), changed).astype(float)
                change = round(cbal_objective(p, z, want, weight) - present, 10)
                if (change, joining, -leaving) < least:
                    least, best = (change, joining, -leaving), changed
        if best:
            all_picks.append(best)
    return all_picks


def cbal_least_integer_objective(
    p: np.ndarray, n: int, want: np.ndarray, weight: float, gap: float = 0
) -> float:
    """The least objective over z in {0, 1} with sum n, by a solver of integer programs.

    Args:
        gap: The relative distance from the least objective at which the solver may stop.
    """
    images, classes = p.shape
    logs = np.log(np.where(p > 0, p, 1))
    costs = np.concatenate([(p * logs).sum(axis=1), np.full(classes, weight)])
    distance, none = np.eye(classes), np.zeros((1, classes))
    constraints = [  # |p^T z - want| <= the distance of each class
        LinearConstraint(np.hstack([p.T, -distance]), ub=want),
        LinearConstraint(np.hstack([p.T, distance]), lb=want),
        LinearConstraint(np.hstack([np.ones((1, images)), none]), lb=n, ub=n),
    ]
    whole = np.concatenate([np.ones(images), np.zeros(classes)])
    bounds = Bounds(0, np.concatenate([np.ones(images), np.full(classes, np.inf)]))
    found = milp(
        costs,
        integrality=whole,
        bounds=bounds,
        constraints=constraints,
        options={"mip_rel_gap": gap},
    )
    assert found.success, found.message
    return float(found.fun)


def average_linkage_clusters(points: np.ndarray, count: int) -> list[set[int]]:
    """Merge the two clusters of the least mean distance until `count` are left."""
    clusters = [{i} for i in range(len(points))]

    def mean_distance(a: set[int], b: set[int]) -> float:
        return float(np.mean([[np.linalg.norm(points[i] - points[j]) for j in b] for i in a]))

    while len(clusters) > count:
        pairs = [(a, b) for a in range(len(clusters)) for b in range(a)]
        a, b = min(pairs, key=lambda pair: mean_distance(clusters[pair[0]], clusters[pair[1]]))
        clusters[b] |= clusters.pop(a)
    return clusters


def turns(clusters: Sequence[int], n: int) -> list[int]:
    """Take n items, cluster by cluster, the smallest first, an item at a time."""
    items: dict[int, list[int]] = {}
    for item, cluster in enumerate(clusters):
        items.setdefault(cluster, []).append(item)
    order = sorted(items.values(), key=lambda of_cluster: (len(of_cluster), of_cluster[0]))
    taken: list[int] = []
    while len(taken) < n:
        for of_cluster in order:
            if of_cluster and len(taken) < n:
                taken.append(of_cluster.pop(0))
    return taken
