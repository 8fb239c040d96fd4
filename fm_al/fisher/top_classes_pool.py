"""A query over each image's likeliest classes: from a pool's problem to `top_classes_design`."""

from __future__ import annotations

import torch

from fm_al.fisher.eigenvalues import checked_scale
from fm_al.fisher.pool_design import PoolDesign, PoolProblem
from fm_al.fisher.top_class_blocks import TopClassBlocks
from fm_al.fisher.top_class_fisher import information_trace
from fm_al.fisher.top_class_memory import TopClassSizes, top_classes_needs
from fm_al.fisher.top_classes import (
    KnownWeights,
    largest_eigenvalue,
    top_classes_design,
)


def top_classes_pool_design(problem: PoolProblem) -> PoolDesign:
    """Solve the problem with the information about the likeliest classes.

    Raises:
        RunError: The selection cannot be carried out in float64.
    """
    options, device = problem.options, problem.float64_device
    blocks = TopClassBlocks.of_pool(
        problem.pool, _top_classes(problem), options.weighting, problem.temperature
    )
    weights = problem.pool_weights().to(device)
    known = [(images.to(device), weight) for images, weight in problem.known if weight > 0]
    mean = information_trace(blocks, weights) / ((blocks.class_count - 1) * blocks.dimensions)
    lambda_ = problem.regularization(lambda: checked_scale(mean))
    selection = top_classes_design(
        blocks,
        problem.candidates.to(device),
        problem.n,
        weights,
        KnownWeights(
            torch.cat([images for images, _ in known]),
            torch.cat([weights.new_full((len(images),), weight) for images, weight in known]),
        ),
        problem.pick_weight,
        lambda_,
        options.oversampling,
        problem.identity,
    )
    return PoolDesign(selection, lambda_, mean, largest_eigenvalue(blocks, weights))


def top_classes_pool_needs(problem: PoolProblem) -> dict[torch.device, dict[str, int]]:
    """Peak memory of `top_classes_pool_design`: for every device, bytes by purpose."""
    pool, device = problem.pool, problem.float64_device
    sizes = TopClassSizes(
        images=len(pool),
        dimensions=pool.embeddings.shape[1] + pool.head_bias,
        classes=pool.classes,
        top_classes=_top_classes(problem),
        candidates=len(problem.candidates),
        known=sum(len(images) for images, weight in problem.known if weight > 0),
        n=problem.n,
        oversampling=problem.options.oversampling,
        copied=pool.embeddings.itemsize * pool.head_bias,
    )
    return {device: top_classes_needs(sizes, device)}


def _top_classes(problem: PoolProblem) -> int:
    """c: all classes if there are fewer."""
    return min(problem.options.top_classes, problem.pool.classes)
