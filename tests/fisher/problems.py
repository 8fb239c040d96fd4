"""Pools with known information, and the picks that explicit inverses make of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from fm_al.fisher.blocks import Blocks, fisher_sum
from fm_al.fisher.design import greedy_design
from fm_al.fisher.factors import contrasts, fisher_factors
from tests import oracle

WEIGHTINGS = ("fisher", "uniform")


@dataclass(frozen=True)
class Problem:
    """A pool: logits (N, C), embeddings (N, D), Jacobian at other weights (N, C, q)."""

    logits: Tensor
    embeddings: Tensor
    jacobian: Tensor
    weighting: str = "fisher"

    @classmethod
    def random(
        cls,
        images: int,
        classes: int,
        dimensions: int,
        others: int,
        seed: int = 0,
        logit_scale: float = 2.0,
        weighting: str = "fisher",
    ) -> Problem:
        generator = torch.Generator().manual_seed(seed)
        return cls(
            torch.randn(images, classes, generator=generator) * logit_scale,
            torch.randn(images, dimensions, generator=generator).relu(),
            torch.randn(images, classes, others, generator=generator),
            weighting,
        )

    def of(self, images: Tensor) -> Problem:
        return Problem(
            self.logits[images], self.embeddings[images], self.jacobian[images], self.weighting
        )

    @property
    def blocks(self) -> Blocks:
        factors = fisher_factors(self.logits, self.weighting)
        dense = torch.bmm(factors, self.jacobian.double()).float()
        last = factors @ contrasts(self.logits.shape[1])
        return Blocks.of_last_layer(last, self.embeddings, dense)

    def informations(self) -> list[np.ndarray]:
        """I(x) over all C D + q weights; the gradients at the others as rounded in the blocks."""
        dense = self.blocks.dense.double().numpy()
        factors = fisher_factors(self.logits, self.weighting).double().numpy()
        informations = []
        for logits, h, R, G in zip(
            self.logits.double().numpy(),
            self.embeddings.double().numpy(),
            factors,
            dense,
            strict=True,
        ):
            last = oracle.last_layer_jacobian(h, len(logits))
            V = np.concatenate([R @ last, G], axis=1)
            information = V.T @ V
            # The last layer's part has no use for R: R^T R is what the oracle says.
            D = last.shape[1]
            expected = oracle.information(last, logits, self.weighting)
            np.testing.assert_allclose(information[:D, :D], expected, atol=1e-12)
            informations.append(information)
        return informations


def assert_same_picks(
    problem: Problem,
    n: int,
    labelled: int,
    regularization: float,
    oversampling: float,
    same_picks: bool = True,
    objective: float = 1e-8,
) -> None:
    """Among all images after the labelled ones, with F of all of them; or picks as good."""
    blocks, informations = problem.blocks, problem.informations()
    k = len(informations[0])
    scale = n / (labelled + n)
    pool_fisher = sum(informations) / len(informations)
    prior = sum(informations[:labelled], np.zeros((k, k))) / (labelled + n)
    arguments = pool_fisher, prior, scale, regularization
    expected = oracle.optimal_design(n, informations[labelled:], *arguments, oversampling)

    fast_prior = fisher_sum([blocks[:labelled]], blocks.width, torch.device("cpu")) / (labelled + n)
    selection = greedy_design(
        blocks[labelled:], n, blocks.fisher(), fast_prior, scale, regularization, oversampling
    )
    if same_picks:
        assert selection.picks.tolist() == expected
    exact = oracle.design_objective(expected, informations[labelled:], *arguments)
    assert selection.objective == pytest.approx(exact, rel=objective)


NASTY = (
    "plain",
    "saturated",
    "one-hot",
    "sure, less sure and unsure",
    "duplicates",
    "near duplicates",
    "embeddings of zero",
)


def nasty(kind: str, images: int, sizes: tuple[int, int, int], seed: int) -> Problem:
    """Pools whose M is ill conditioned, or whose candidates are hard to tell apart."""
    scale = {"saturated": 27.6, "one-hot": 1e5}.get(kind, 2.0)
    problem = Problem.random(images, *sizes, seed, scale)
    position = torch.arange(images)
    if kind == "sure, less sure and unsure":
        logits = problem.logits * torch.tensor([1.0, 10.0, 20.0])[position % 3, None]
        return replace(problem, logits=logits)
    if kind == "duplicates":
        return problem.of(position // 2)
    if kind == "near duplicates":
        noise = torch.randn(images, 1, generator=torch.Generator().manual_seed(seed))
        pairs = problem.of(position // 2)
        return replace(pairs, embeddings=pairs.embeddings * (1 + 1e-5 * noise))
    if kind == "embeddings of zero":
        shown = (position % 2)[:, None].float()
        jacobian = problem.jacobian * (position % 4 > 0)[:, None, None]
        return replace(problem, embeddings=problem.embeddings * shown, jacobian=jacobian)
    return problem


def ill_conditioned() -> Blocks:
    """Gradients of 100 in a few directions common to all, and of 5 in the others."""
    generator = torch.Generator().manual_seed(0)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator)

    factors = fisher_factors(2 * normal(400, 4))
    jacobian = 100 * (normal(400, 4, 6) @ normal(6, 40)) + 5 * normal(400, 4, 40)
    return Blocks.of_dense(torch.bmm(factors, jacobian.double()).float())
