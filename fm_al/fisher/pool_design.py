"""What a query asks of a pool, and its answer with the information in matrices."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fm_al.device import float64_device
from fm_al.fisher.blocks import InformationSum
from fm_al.fisher.design import greedy_design
from fm_al.fisher.eigenvalues import information_scale, largest_eigenvalue
from fm_al.fisher.greedy import Selection
from fm_al.fisher.options import DesignOptions
from fm_al.fisher.pool import ScoredPool
from fm_al.fisher.pool_blocks import PoolBlocks
from fm_al.fisher.pool_weights import pool_weights


@dataclass(frozen=True)
class PoolProblem:
    """Pick n candidates that make tr(M^{-1} F) small, with M and F of a pool's images.

    Attributes:
        pool: The pool and its scores.
        temperature: By which logits are divided.
        candidates: Indices of the images to choose from, int64 on the pool's device.
        given: Indices of unlabelled images that are in the batch anyway.
        n: How many to pick beside them.
        options: The options.
    """

    pool: ScoredPool
    temperature: float
    candidates: Tensor
    given: Tensor
    n: int
    options: DesignOptions

    @property
    def float64_device(self) -> torch.device:
        """Where float64 is computed."""
        return float64_device(self.pool.device)

    @property
    def pick_weight(self) -> float:
        """K / (n_L + K), the weight of a pick's information in M."""
        batch = self.n + len(self.given)
        return batch / (len(self.pool.labelled) + batch)

    @property
    def labelled_weight(self) -> float:
        """w_L, the weight of a labelled image's information in M."""
        if not self.options.labelled_fisher:
            return 0.0
        if self.options.labelled_weight == "each":
            return self.pick_weight
        return self.pick_weight / (self.n + len(self.given))

    @property
    def known(self) -> list[tuple[Tensor, float]]:
        """The images that M knows without the picks, with the weights of their information."""
        return [(self.given, self.pick_weight), (self.pool.labelled, self.labelled_weight)]

    @property
    def others(self) -> Tensor:
        """Indices of the images that are neither known nor candidates."""
        free = without(self.pool.unlabelled, self.given)
        return without(free, self.candidates)

    def pool_weights(self) -> Tensor:
        """Return each image's weight in F, (N,) float64 of sum 1."""
        return pool_weights(self.pool, self.options, self.temperature)

    @property
    def identity(self) -> bool:
        """Whether the identity takes F's place."""
        return self.options.pool_fisher == "identity"

    def regularization(self, mean_eigenvalue: Callable[[], float]) -> float:
        """Return lambda. mean_eigenvalue: Returns that of F; called if lambda is in its units."""
        if self.options.regularization_scale == "absolute":
            return self.options.regularization
        return self.options.regularization * mean_eigenvalue()


@dataclass(frozen=True)
class PoolDesign:
    """The answer.

    Attributes:
        selection: Picks among the candidates, and their objective.
        regularization: lambda.
        mean_eigenvalue: tr(F) / k.
        largest_eigenvalue: That of F.
    """

    selection: Selection
    regularization: float
    mean_eigenvalue: float
    largest_eigenvalue: float


def matrix_design(problem: PoolProblem, blocks: PoolBlocks) -> PoolDesign:
    """Solve the problem with V_x as in `blocks`, by `greedy_design`.

    Raises:
        RunError: The selection cannot be carried out in float64.
    """
    candidates = problem.candidates
    roots = problem.pool_weights().sqrt().to(blocks.device)
    prior = InformationSum(blocks.width, blocks.device)
    whole_pool = InformationSum(blocks.width, blocks.device)
    for indices, weight in problem.known:
        for some, part in blocks.parts(indices):
            prior.add(part.scaled(math.sqrt(weight)))
            whole_pool.add(part.scaled(roots[some.to(blocks.device)]))
    kept = blocks.kept(candidates)
    whole_pool.add(kept.scaled(roots[candidates.to(blocks.device)]))
    for some, part in blocks.parts(problem.others):
        whole_pool.add(part.scaled(roots[some.to(blocks.device)]))

    pool_fisher = information = whole_pool.total()
    lambda_ = problem.regularization(lambda: information_scale(information))
    of_left_out = 0.0
    if problem.identity:
        pool_fisher = torch.eye(len(information)).to(information)
        # The objective is that of all weights; those without any information are left out.
        of_left_out = blocks.left_out / lambda_
    selection = greedy_design(
        kept,
        problem.n,
        pool_fisher,
        prior.total(),
        problem.pick_weight,
        lambda_,
        problem.options.oversampling,
    )
    return PoolDesign(
        Selection(selection.picks, selection.objective + of_left_out),
        lambda_,
        float(information.trace()) / len(information),
        largest_eigenvalue(information),
    )


def without(indices: Tensor, excluded: Tensor) -> Tensor:
    """Return the indices that are not excluded, in their order."""
    return indices[~torch.isin(indices, excluded)]
