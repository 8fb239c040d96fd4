"""Slow, obviously right versions of the strategies that cover the pool: float64, matrices of all
pairs."""

from __future__ import annotations

import numpy as np

EQUAL = 1e-9  # gains that differ by less are ties


def directions(points: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1; zeros stay."""
    points = points.astype(np.float64)
    norms = np.sqrt((points**2).sum(axis=1, keepdims=True))
    return points / np.where(norms == 0, 1, norms)


def distances(points: np.ndarray) -> np.ndarray:
    """Of all pairs of scaled rows."""
    scaled = directions(points)
    return np.sqrt(((scaled[:, None] - scaled) ** 2).sum(axis=2))


def herding(
    points: np.ndarray, labelled: list[int], n: int, sigma: float, weights: np.ndarray | None = None
) -> list[int]:
    """Plain greedy: the unlabelled j of the largest sum_i w_i max(k(i, j) - m_i, 0)."""
    kernel = np.exp(-(distances(points) ** 2) / sigma**2)
    weights = np.ones(len(points)) if weights is None else weights
    chosen = list(labelled)
    while len(chosen) < len(labelled) + n:
        covered = kernel[:, chosen].max(axis=1) if chosen else np.zeros(len(points))
        gains = (weights[:, None] * np.maximum(kernel - covered[:, None], 0)).sum(axis=0)
        gains[chosen] = -np.inf
        rounding = 1e-12 * (weights @ kernel).max()
        chosen.append(int(np.flatnonzero(gains >= gains.max() - rounding)[0]))
    return chosen[len(labelled) :]


def smallest_distance(points: np.ndarray, labelled: list[int]) -> float:
    """The smallest positive distance of two labelled points; 1 if there is none."""
    among = distances(points[labelled])
    positive = among[among > 1e-4]
    return float(positive.min()) if len(positive) else 1.0


def uncertainties(probabilities: np.ndarray, kind: str) -> np.ndarray:
    ordered = np.sort(probabilities.astype(np.float64), axis=1)[:, ::-1]
    if kind == "margin":
        return 1 - (ordered[:, 0] - ordered[:, 1])
    if kind == "least_confidence":
        return 1 - ordered[:, 0]
    logarithms = np.log(np.where(ordered > 0, ordered, 1))
    return -(ordered * logarithms).sum(axis=1)


def probcover(
    points: np.ndarray, labelled: list[int], n: int, delta: float
) -> tuple[list[int], int]:
    """The picks, and how often everything was covered before they were made.

    The graph has an edge from x to y if they are closer than delta. Edges into covered points are
    dropped. When none is left, all of them come back.
    """
    near = distances(points) < delta - EQUAL
    edges, taken, picks, restarts = near.copy(), list(labelled), [], 0
    edges[:, near[labelled].any(axis=0)] = False
    while len(picks) < n:
        free = [x for x in range(len(points)) if x not in taken]
        if not edges[free].any():
            edges, restarts = near.copy(), restarts + 1
        pick = max(free, key=lambda x: (edges[x].sum(), -x))
        edges[:, near[pick]] = False
        taken.append(pick)
        picks.append(pick)
    return picks, restarts


def pure_radius(points: np.ndarray, clusters: np.ndarray) -> float:
    """The largest delta such that at least 95% of the balls hold points of one cluster alone, at
    most 2: the largest distance on the sphere."""
    apart = np.where(clusters[:, None] == clusters, np.inf, distances(points)).min(axis=1)
    candidates = np.unique(np.minimum(apart, 2))
    return float(max(d for d in candidates if (apart >= d - EQUAL).mean() >= 0.95))


def most_typical(points: np.ndarray, neighbours: int) -> int:
    """The point of the smallest mean distance to its nearest min(neighbours, N / 2), at least 1."""
    if len(points) == 1:
        return 0
    points = points.astype(np.float64)
    apart = np.sqrt(((points[:, None] - points) ** 2).sum(axis=2))
    np.fill_diagonal(apart, np.inf)
    count = max(1, min(neighbours, len(points) // 2))
    means = np.sort(apart, axis=1)[:, :count].mean(axis=1)
    return int(np.flatnonzero(means <= means.min() + EQUAL)[0])


def typiclust(
    points: np.ndarray, clusters: np.ndarray, labelled: list[int], n: int, neighbours: int
) -> list[int]:
    """The picks for given clusters: of more than 5 points in turn, then, when those have no
    unlabelled points left, of the others."""
    scaled = directions(points)
    free = [x for x in range(len(points)) if x not in labelled]

    def rank(cluster: int) -> tuple[int, int, int]:
        members = np.flatnonzero(clusters == cluster)
        return len(set(members) & set(labelled)), -len(members), cluster

    order = sorted(set(clusters.tolist()), key=rank)
    picks: list[int] = []
    for large in (True, False):
        group = [c for c in order if ((clusters == c).sum() > 5) == large]
        turn = 0
        while len(picks) < n and any(clusters[x] in group for x in free):
            left = [x for x in free if clusters[x] == group[turn % len(group)]]
            if left:
                pick = left[most_typical(scaled[left], neighbours)]
                picks.append(pick)
                free.remove(pick)
            turn += 1
    return picks
