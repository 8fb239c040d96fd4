"""Pools with dense information over likeliest classes, and the picks made of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from fm_al.fisher.pool import ScoredPool
from fm_al.fisher.top_class_blocks import TopClassBlocks
from fm_al.fisher.top_classes import KnownWeights, top_classes_design
from tests import oracle_top_classes as oracle


@dataclass(frozen=True)
class Problem:
    """A pool whose first images are labelled."""

    embeddings: Tensor
    logits: Tensor
    labelled: int = 0
    bias: bool = False

    @classmethod
    def random(
        cls, images: int, classes: int, dimensions: int, seed: int = 0, logit_scale: float = 2.0
    ) -> Problem:
        generator = torch.Generator().manual_seed(seed)
        return cls(
            torch.randn(images, dimensions, generator=generator).relu(),
            torch.randn(images, classes, generator=generator) * logit_scale,
        )

    def of(self, images: Tensor) -> Problem:
        return replace(self, embeddings=self.embeddings[images], logits=self.logits[images])

    @property
    def pool(self) -> ScoredPool:
        images = torch.arange(len(self.logits))
        return ScoredPool(
            self.embeddings,
            self.logits,
            self.bias,
            images[: self.labelled],
            images[self.labelled :],
        )


def top_class_blocks(problem: Problem, top_classes: int) -> TopClassBlocks:
    return TopClassBlocks.of_pool(problem.pool, top_classes, "fisher", 1.0)


def both_designs(
    problem: Problem,
    n: int,
    top_classes: int,
    regularization: float = 1.0,
    oversampling: float = 0,
    weighting: str = "fisher",
    temperature: float = 1.0,
    labelled_weight: str = "mean",
    identity: bool = False,
    weights: Tensor | None = None,
    exactly: bool = True,
) -> tuple[tuple[list[int], float], tuple[list[int], float]]:
    """Picks and objective: ours and the oracle's."""
    pool = problem.pool
    images, labelled = len(pool), problem.labelled
    scale = n / (labelled + n)
    each = {"mean": 1 / (labelled + n), "each": scale, "none": 0.0}[labelled_weight]
    if weights is None:
        weights = torch.full((images,), 1 / images, dtype=torch.float64)
    blocks = TopClassBlocks.of_pool(pool, top_classes, weighting, temperature)
    known = KnownWeights(pool.labelled, torch.full((labelled,), each, dtype=torch.float64))
    ours = top_classes_design(
        blocks, pool.unlabelled, n, weights, known, scale, regularization, oversampling, identity
    )

    h = problem.embeddings.double().numpy()
    if problem.bias:
        h = np.concatenate([h, np.ones((images, 1))], axis=1)
    z = problem.logits.double().numpy()
    informations = [
        oracle.information(h[x], z[x], top_classes, weighting, temperature) for x in range(images)
    ]
    F = sum(w * x for w, x in zip(weights.numpy(), informations, strict=True))
    if identity:
        F = np.eye(len(informations[0]))
    expected = oracle.design(
        n,
        informations,
        pool.unlabelled.tolist(),
        F,
        dict.fromkeys(range(labelled), each),
        scale,
        regularization,
        oversampling,
        exactly,
    )
    return (ours.picks.tolist(), ours.objective), expected


def assert_same(ours: tuple[list[int], float], expected: tuple[list[int], float]) -> None:
    assert ours[0] == expected[0]
    assert ours[1] == pytest.approx(expected[1], rel=1e-8)
