"""Selection over likeliest classes picks what dense matrices pick."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fm_al.fisher.pool import ScoredPool
from fm_al.fisher.top_class_blocks import TopClassBlocks
from fm_al.fisher.top_classes import KnownWeights, top_classes_design
from tests import oracle_top_classes as oracle
from tests.fisher.problems import WEIGHTINGS


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


@settings(max_examples=60, deadline=None)
@given(
    classes=st.integers(2, 5),
    dimensions=st.integers(1, 3),
    images=st.integers(1, 9),
    labelled=st.integers(0, 3),
    logit_scale=st.sampled_from([0.0, 1.0, 5.0]),
    weighting=st.sampled_from(WEIGHTINGS),
    labelled_weight=st.sampled_from(["mean", "each", "none"]),
    regularization=st.sampled_from([1e-3, 1.0, 30.0]),
    oversampling=st.sampled_from([0, 0.5, 1]),
    temperature=st.sampled_from([1.0, 0.3]),
    bias=st.booleans(),
    identity=st.booleans(),
    seed=st.integers(0, 99),
    data=st.data(),
)
def test_picks_are_those_of_dense_matrices(
    classes,
    dimensions,
    images,
    labelled,
    logit_scale,
    weighting,
    labelled_weight,
    regularization,
    oversampling,
    temperature,
    bias,
    identity,
    seed,
    data,
) -> None:
    problem = Problem.random(images + labelled, classes, dimensions, seed, logit_scale)
    if data.draw(st.booleans(), label="with duplicates"):
        problem = problem.of(torch.arange(images + labelled) // 2)
    problem = replace(problem, labelled=labelled, bias=bias)
    n = data.draw(st.integers(1, images), label="n")
    top_classes = data.draw(st.integers(2, classes), label="top_classes")
    ours, expected = both_designs(
        problem,
        n,
        top_classes,
        regularization,
        oversampling,
        weighting,
        temperature,
        labelled_weight,
        identity,
    )
    assert_same(ours, expected)
