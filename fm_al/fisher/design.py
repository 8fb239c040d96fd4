"""Greedy optimal design: the images that make the inverse Fisher information smallest.

Images x have the Fisher information I(x) = V_x^T V_x over k weights. n of them are picked to
minimise tr(M^{-1} F), where M = lambda 1 + prior + scale * (sum of I(x) over the picks) and F is
the pool's mean information: greedily forward and, if wished, greedily backward from more than n
picks. This is the selection of BAIT (Ash et al. 2021, arXiv 2106.09675) and of FisherMask (Gul et
al. 2024, arXiv 2411.05752).

Cost. The textbook multiplies k x k matrices for every candidate and every pick. Here each candidate
keeps two small matrices, A_x = V_x M^{-1} V_x^T and B_x = V_x M^{-1} F M^{-1} V_x^T. Picking it
lowers the objective by tr((1 + A_x)^{-1} B_x), and a pick changes all A and B by products of V_x
with a k x 2R matrix. The picks are the same, at O(N R^2 k) per pick instead of O(N R k^2). For the
last layer, whose gradients are Kronecker products, D takes the place of k.

Precision. V_x is stored in float32 or less: rounding the input only moves the optimum a little, in
the same way at every step. Everything computed from it is in float64: M^{-1}, A, B, F and the
products that they are computed from. Rounding any one of them to float32 would change the picks,
as a test shows.

A small lambda costs digits. A starts at the information over lambda and B at its square, and little
is left of either once picks resemble x. Two signs reveal the loss: the best candidate's A and B
differ from those computed from scratch, or a score is negative, which no exact score is. Then A and
B of all candidates are computed from scratch. If that is not enough, they are computed from
whitened vectors L^{-1} V_x^T with M = L L^T, where the square does not arise. `Removal` removes
picks without such losses. The picks are those of exact arithmetic down to a lambda of 1e-6 of the
mean eigenvalue of F in all pools tested, including pools with duplicates.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fm_al.fisher.blocks import Blocks
from fm_al.fisher.candidate_scores import CandidateScores
from fm_al.fisher.criterion import Criterion
from fm_al.fisher.greedy import Selection, check_design, greedy
from fm_al.fisher.removal import Removal, most_rows


def greedy_design(
    candidates: Blocks,
    n: int,
    pool_fisher: Tensor,
    prior: Tensor | None = None,
    scale: float = 1.0,
    regularization: float = 1.0,
    oversampling: float = 0.0,
) -> Selection:
    """Pick n candidates that make tr(M^{-1} F) small, M = lambda 1 + prior + scale * sum of I(x).

    With n_L labelled images of mean information I_L and n = K, BAIT and FisherMask have the prior
    n_L / (n_L + K) I_L and the scale K / (n_L + K). Of scores that are equal to a millionth, the
    candidate of the lowest position is picked.

    Args:
        candidates: V_x of the candidates, with k = `candidates.width`.
        n: How many to pick, from 1 to all candidates.
        pool_fisher: F: the pool's mean information (see `fisher_sum`), or the identity. (k, k)
            float64, symmetric, on the device of the candidates' factors.
        prior: What is known without the picks, like F; None for nothing.
        scale: The weight of a pick's information, above 0.
        regularization: lambda, above 0.
        oversampling: b, at least 0. n + b n images are picked, rounded and at most all candidates;
            then all but n are removed again.

    Returns:
        The picks and their objective.

    Raises:
        RunError: M is singular, less than three digits of the scores are left, or the gradients,
            F or the prior are not finite.
        ValueError: An argument is out of range or has the wrong shape or type.
    """
    check_design(n, len(candidates), regularization, scale, oversampling)
    for name, matrix in (("pool_fisher", pool_fisher), ("prior", prior)):
        if matrix is not None and matrix.shape != (candidates.width, candidates.width):
            raise ValueError(
                f"{name} is {tuple(matrix.shape)}, the candidates have k={candidates.width}"
            )
        if matrix is not None and matrix.dtype != torch.float64:
            raise ValueError(f"{name} is {matrix.dtype}: should be torch.float64")
    criterion = Criterion(pool_fisher, prior, regularization)

    def backward(blocks: Blocks, inside: list[int]) -> Removal[Blocks] | CandidateScores:
        few_rows = len(blocks) * blocks.rows <= most_rows(blocks.width)
        return (Removal if few_rows else CandidateScores)(blocks, criterion, inside)

    return greedy(
        lambda: CandidateScores(candidates.scaled(math.sqrt(scale)), criterion),
        backward,
        n,
        len(candidates),
        oversampling,
    )
