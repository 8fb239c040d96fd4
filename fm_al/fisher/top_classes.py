"""Greedy optimal design over each image's likeliest classes, for any number of classes.

The objective and the greedy way are those of `design`: n candidates are picked to minimise
tr(M^{-1} F), forward and then, if wished, backward. Only the information differs, see
`TopClassBlocks`. Nothing of size k x k exists, with k = C D: F is an operator on the pool, and
M^{-1} is kept through the images that M knows.

Cost. With c classes per image, a pick takes three passes over the pool, O(N c D R) with R = c - 1.
The start takes O(N c^2 D^2), for the blocks of F, and O(N c D r) for r rows of labelled images; or,
if that is less, O(N n c D R) for n candidates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from fm_al.fisher.eigenvalues import checked_scale, largest_eigenvalue_of
from fm_al.fisher.greedy import Selection, check_design, greedy
from fm_al.fisher.removal import Removal
from fm_al.fisher.top_class_blocks import TopClassBlocks
from fm_al.fisher.top_class_criterion import TopClassCriterion
from fm_al.fisher.top_class_fisher import TopClassFisher, information_trace
from fm_al.fisher.top_class_scores import TopClassScores


@dataclass(frozen=True)
class KnownWeights:
    """The images that M knows beside the picks.

    Attributes:
        images: Their positions in the pool, (n,) int64.
        weights: The weight of each one's information in M, (n,) float64.
    """

    images: Tensor
    weights: Tensor


def mean_eigenvalue(pool: TopClassBlocks, pool_weights: Tensor) -> float:
    """Return tr(F) / k over the k = (C - 1) D coordinates that may hold information.

    Raises:
        RunError: It is 0 or not finite.
    """
    k = (pool.class_count - 1) * pool.dimensions
    return checked_scale(information_trace(pool, pool_weights) / k)


def largest_eigenvalue(pool: TopClassBlocks, pool_weights: Tensor) -> float:
    """Return the largest eigenvalue of F, within 0.1%."""
    fisher = TopClassFisher(pool, pool_weights)
    return largest_eigenvalue_of(
        lambda vectors: fisher.times(vectors.T.contiguous()).T, pool.width, pool.factors
    )


def top_classes_design(
    pool: TopClassBlocks,
    candidates: Tensor,
    n: int,
    pool_weights: Tensor,
    known: KnownWeights,
    scale: float,
    regularization: float,
    oversampling: float = 0.0,
    identity: bool = False,
) -> Selection:
    """Pick n candidates that make tr(M^{-1} F) small; see `greedy_design`.

    M = lambda 1 + sum over known images of their weight times I(x) + scale * sum of I(x) over the
    picks. Of scores that are equal to a millionth, the candidate of the lowest position is picked.

    Args:
        pool: V_x of the whole pool.
        candidates: Positions in the pool of the images to choose from, int64.
        n: How many to pick, from 1 to all candidates.
        pool_weights: w_x with F = sum_x w_x I(x), (N,) float64, on the device of `pool`.
        known: The images that M knows without the picks.
        scale: The weight of a pick's information, above 0.
        regularization: lambda, above 0.
        oversampling: b, at least 0. n + b n images are picked, rounded and at most all candidates;
            then all but n are removed again.
        identity: Whether F is the identity over all C D weights instead.

    Returns:
        The picks, as positions among the candidates, and their objective.

    Raises:
        RunError: M is singular, less than three digits of the scores are left, or embeddings or
            logits are not finite.
        ValueError: An argument is out of range.
    """
    check_design(n, len(candidates), regularization, scale, oversampling)
    fisher = TopClassFisher(pool, pool_weights, identity)
    prior = pool[known.images].scaled(known.weights.sqrt())
    criterion = TopClassCriterion(fisher, prior, regularization)
    return greedy(
        lambda: TopClassScores(criterion, candidates, math.sqrt(scale)),
        lambda blocks, inside: Removal(blocks, criterion, inside),
        n,
        len(candidates),
        oversampling,
    )
