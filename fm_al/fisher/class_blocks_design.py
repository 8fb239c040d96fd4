"""A query with one block of information per class: from a pool's problem to the greedy design."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from fm_al.fisher.chunks import images_at_once
from fm_al.fisher.class_blocks import ClassBlocks, ClassCriterion, ClassInformationSum
from fm_al.fisher.class_scores import class_greedy_design
from fm_al.fisher.criterion import LOW_RANK, ROWS_LEAST
from fm_al.fisher.eigenvalues import checked_scale, largest_eigenvalue_of
from fm_al.fisher.inputs import Inputs
from fm_al.fisher.pool_design import PoolDesign, PoolProblem


def class_blocks_design(problem: PoolProblem) -> PoolDesign:
    """Solve the problem with a block per class, over k = C D weights.

    Raises:
        RunError: The selection cannot be carried out in float64.
    """
    pool, device = problem.pool, problem.float64_device
    inputs = Inputs.of_pool(pool)
    sizes = pool.classes, inputs.dimensions, device
    weights = problem.pool_weights().to(device)
    prior, whole_pool = ClassInformationSum(*sizes), ClassInformationSum(*sizes)
    for indices, weight in problem.known:
        for some, part in _parts(problem, inputs, indices):
            prior.add(part.scaled(weight))
            whole_pool.add(part.scaled(weights[some]))
    kept = _kept(problem, inputs)
    whole_pool.add(kept.scaled(weights[problem.candidates.to(device)]))
    for some, part in _parts(problem, inputs, problem.others):
        whole_pool.add(part.scaled(weights[some]))

    pool_fisher = information = whole_pool.total()
    C, D = information.shape[:2]
    mean = float(information.diagonal(dim1=1, dim2=2).mean())
    lambda_ = problem.regularization(lambda: checked_scale(mean))
    if problem.identity:
        pool_fisher = torch.eye(D).to(information).expand(C, D, D)
    criterion = ClassCriterion(pool_fisher, prior.total(), lambda_)
    selection = class_greedy_design(
        kept, problem.n, criterion, problem.pick_weight, problem.options.oversampling
    )

    def times(vectors: Tensor) -> Tensor:
        return torch.bmm(information, vectors.view(C, D, -1)).view(C * D, -1)

    largest = largest_eigenvalue_of(times, C * D, information)
    return PoolDesign(selection, lambda_, mean, largest)


def class_blocks_needs(problem: PoolProblem) -> dict[torch.device, dict[str, int]]:
    """Peak memory of `class_blocks_design`: for every device, bytes by purpose."""
    C, D = problem.pool.classes, problem.pool.embeddings.shape[1] + problem.pool.head_bias
    candidates = len(problem.candidates)
    picked = min(candidates, math.ceil(problem.n * (1 + problem.options.oversampling)))
    rows = min(picked, int(max(LOW_RANK * D, ROWS_LEAST)) + 1)
    needs = {
        f"{candidates:,} candidates' six numbers of {C:,} classes": 6 * 8 * candidates * C,
        f"three {D:,} x {D:,} matrices of {C:,} classes": 3 * 8 * C * D**2,
        f"{rows:,} rows of {C:,} classes": 2 * 8 * C * rows * D,
        f"eight {D:,} x {D:,} matrices": 8 * 8 * D**2,
        f"{picked:,} picks' matrices": 8 * (3 * picked**2 + 4 * picked * (C + D)),
    }
    return {problem.float64_device: needs}


def _blocks(problem: PoolProblem, inputs: Inputs, indices: Tensor) -> ClassBlocks:
    device = problem.float64_device
    logits = problem.pool.logits[indices].to(device)
    return ClassBlocks.of_logits(logits, inputs[indices.to(device)], problem.temperature)


def _batch(problem: PoolProblem) -> int:
    return images_at_once(5 * problem.pool.classes, problem.float64_device)


def _parts(
    problem: PoolProblem, inputs: Inputs, indices: Tensor
) -> Iterator[tuple[Tensor, ClassBlocks]]:
    """Yield these images' indices batch by batch, with their blocks."""
    for batch in indices.split(_batch(problem)):
        yield batch.to(problem.float64_device), _blocks(problem, inputs, batch)


def _kept(problem: PoolProblem, inputs: Inputs) -> ClassBlocks:
    """Return the candidates' blocks."""
    candidates, device = problem.candidates, problem.float64_device
    shape = len(candidates), problem.pool.classes
    q = torch.empty(shape, dtype=torch.float64, device=device)
    size = _batch(problem)
    for into, batch in zip(q.split(size), candidates.split(size), strict=True):
        into.copy_(_blocks(problem, inputs, batch).weights)
    return ClassBlocks(q, inputs[candidates.to(device)])
