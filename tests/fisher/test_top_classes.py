"""Selection over likeliest classes picks what dense matrices pick."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from fm_al.errors import RunError
from fm_al.fisher import chunks, class_sums, top_class_fisher
from fm_al.fisher.options import DesignOptions, OptionNames
from fm_al.fisher.pool import ScoredPool
from fm_al.fisher.pool_weights import pool_weights
from fm_al.fisher.selection import bait_selection
from fm_al.fisher.top_class_blocks import TopClassBlocks, likeliest
from fm_al.fisher.top_class_memory import TopClassSizes, top_classes_needs
from fm_al.fisher.top_class_scores import TopClassScores
from fm_al.fisher.top_classes import (
    KnownWeights,
    largest_eigenvalue,
    mean_eigenvalue,
    top_classes_design,
)
from tests import oracle_top_classes as oracle
from tests.fisher.problems import NASTY, WEIGHTINGS, nasty


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


@pytest.fixture(params=["by image", "by pair of classes"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How A and B are computed at the start."""
    by_image = request.param == "by image"
    monkeypatch.setattr(TopClassScores, "_images_are_few", lambda _: by_image)
    return request.param


@pytest.fixture(params=["by class", "densely"])
def products_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How embeddings are multiplied with the blocks of classes."""
    by_class = request.param == "by class"
    monkeypatch.setattr(class_sums, "_by_class", lambda *_: by_class)
    monkeypatch.setitem(chunks.CHUNK_BYTES, "cpu", 500)
    monkeypatch.setattr(class_sums, "SQUARES_LEAST", 4)
    monkeypatch.setitem(top_class_fisher.ROWS_BYTES, "cpu", 5000)
    return request.param


@pytest.mark.parametrize("top_classes", [2, 3, 5])
@pytest.mark.parametrize("oversampling", [0, 1])
@pytest.mark.parametrize("identity", [False, True])
def test_every_way_picks_the_same(
    way: str, products_way: str, top_classes: int, oversampling: float, identity: bool
) -> None:
    problem = replace(Problem.random(30, 5, 3), labelled=6, bias=True)
    generator = torch.Generator().manual_seed(1)
    weights = torch.rand(30, generator=generator, dtype=torch.float64)
    ours, expected = both_designs(
        problem,
        5,
        top_classes,
        0.01,
        oversampling,
        labelled_weight="each",
        identity=identity,
        weights=weights / weights.sum(),
        exactly=False,
    )
    assert_same(ours, expected)


@pytest.mark.parametrize("kind", NASTY)
@pytest.mark.parametrize("top_classes", [2, 4])
@pytest.mark.parametrize("regularization", [1.0, 1e-4])
def test_nasty_pools(way: str, kind: str, top_classes: int, regularization: float) -> None:
    asked = nasty(kind, 14, (4, 2, 1), seed=3)
    problem = Problem(asked.embeddings, asked.logits, labelled=2)
    # The one-hot and the saturated have next to no information: its share of lambda is kept.
    information = top_class_blocks(problem, top_classes).grams().diagonal(dim1=1, dim2=2).sum()
    lambda_ = regularization * (float(information) / 14 or 1.0)
    ours, expected = both_designs(problem, 4, top_classes, lambda_, oversampling=0.5)
    assert_same(ours, expected)


def test_a_pool_that_float64_can_hardly_tell_apart(way: str) -> None:
    problem = Problem.random(20, 4, 2, seed=5, logit_scale=6).of(torch.arange(20) // 2)
    ours, expected = both_designs(replace(problem, labelled=3), 6, 3, 1e-7)
    assert_same(ours, expected)


def test_a_thousand_classes_and_fifteen_labels_of_nine() -> None:
    classes, D, top_classes, labelled, n, lambda_ = 1000, 2, 2, 15, 4, 0.01
    problem = Problem.random(40, classes, D, logit_scale=1)
    logits = problem.logits
    logits[torch.arange(labelled), torch.arange(labelled) % 9] = 6
    pool = replace(problem, labelled=labelled).pool
    blocks = TopClassBlocks.of_pool(pool, top_classes, "fisher", 1.0)
    weights = torch.full((40,), 1 / 40, dtype=torch.float64)
    known = KnownWeights(pool.labelled, torch.full((labelled,), 0.2, dtype=torch.float64))
    ours = top_classes_design(blocks, pool.unlabelled, n, weights, known, 0.2, lambda_, 0.5)

    seen = logits.topk(top_classes).indices.unique()
    informations = [
        oracle.information(h.numpy(), z.numpy(), top_classes)
        for h, z in zip(problem.embeddings.double(), logits[:, seen].double(), strict=True)
    ]
    # Columns of classes that are never among the likeliest hold nothing.
    picks, objective = oracle.design(
        n,
        informations,
        pool.unlabelled.tolist(),
        sum(informations) / 40,
        dict.fromkeys(range(labelled), 0.2),
        0.2,
        lambda_,
        0.5,
        exactly=False,
    )
    assert_same((ours.picks.tolist(), ours.objective), (picks, objective))


def test_the_order_of_the_pool_does_not_matter() -> None:
    problem = Problem.random(50, 6, 4)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(2))
    picks = []
    for images in (torch.arange(50), order):
        pool = problem.of(images).pool
        blocks = TopClassBlocks.of_pool(pool, 3, "fisher", 1.0)
        weights = torch.full((50,), 1 / 50, dtype=torch.float64)
        nothing = KnownWeights(images[:0], weights[:0])
        design = top_classes_design(
            blocks, torch.arange(50), 8, weights, nothing, 1.0, 0.01, oversampling=0.5
        )
        picks.append(images[design.picks].tolist())
    assert picks[0] == picks[1]


@pytest.mark.parametrize("pool_fisher", ["pool", "soft_class_balanced", "identity"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_with_all_classes_it_is_the_exact_selection(
    way: str, pool_fisher: str, bias: bool, weighting: str
) -> None:
    problem = replace(Problem.random(60, 4, 5), labelled=10, bias=bias)
    options = DesignOptions(
        pool_fisher=pool_fisher, weighting=weighting, temperature=0.8, oversampling=0.5
    )
    pool = problem.pool
    exact = bait_selection(pool, 8, torch.Generator(), options, OptionNames())

    blocks = TopClassBlocks.of_pool(pool, 4, weighting, 0.8)
    weights = pool_weights(pool, options, 0.8)
    mean = mean_eigenvalue(blocks, weights)
    assert mean == pytest.approx(exact.report["mean_eigenvalue"], rel=1e-12)
    largest = largest_eigenvalue(blocks, weights)
    assert largest == pytest.approx(exact.report["largest_eigenvalue"], rel=2e-3)
    scale = 8 / 18
    known = KnownWeights(pool.labelled, torch.full((10,), scale, dtype=torch.float64))
    ours = top_classes_design(
        blocks,
        pool.unlabelled,
        8,
        weights,
        known,
        scale,
        options.regularization * mean,
        0.5,
        identity=pool_fisher == "identity",
    )
    assert pool.unlabelled[ours.picks].tolist() == exact.picks.tolist()
    assert ours.objective == pytest.approx(exact.report["objective"], rel=1e-9)


class LargestTensor(TorchDispatchMode):
    """Notes the bytes of the largest tensor that is made."""

    def __init__(self) -> None:
        super().__init__()
        self.size = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for made in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(made, Tensor):
                self.size = max(self.size, made.untyped_storage().nbytes())
        return result


@pytest.mark.parametrize("oversampling", [0, 1])
def test_no_tensor_is_as_large_as_what_is_stated(oversampling: float) -> None:
    classes, D, images, labelled, n = 1000, 64, 600, 15, 4
    problem = replace(Problem.random(images, classes, D), labelled=labelled)
    pool = problem.pool
    sizes = TopClassSizes(
        images=images,
        dimensions=D,
        classes=classes,
        top_classes=2,
        candidates=images - labelled,
        known=labelled,
        n=n,
        oversampling=oversampling,
        copied=0,
    )
    stated = sum(top_classes_needs(sizes, pool.device).values())
    weights = torch.full((images,), 1 / images, dtype=torch.float64)
    known = KnownWeights(pool.labelled, torch.full((labelled,), 0.2, dtype=torch.float64))
    with LargestTensor() as largest:
        blocks = TopClassBlocks.of_pool(pool, 2, "fisher", 1.0)
        top_classes_design(
            blocks, pool.unlabelled, n, weights, known, 0.2, 0.01, oversampling=oversampling
        )
    assert largest.size < stated / 4 < (classes * D) ** 2


def test_the_likeliest_classes() -> None:
    logits = torch.tensor([[1.0, 3.0, 3.0, 1.0], [-torch.inf, 0.0, -torch.inf, -torch.inf]])
    top, values = likeliest(logits, 3)
    assert top.tolist() == [[1, 2, 0], [1, 0, 2]]
    assert values.tolist() == logits.gather(1, top).tolist()
    assert likeliest(logits, 4)[0].tolist() == [[1, 2, 0, 3], [1, 0, 2, 3]]


def test_equal_images_are_picked_from_the_lowest_on(way: str) -> None:
    problem = Problem.random(3, 4, 5).of(torch.zeros(10, dtype=torch.int64))
    assert both_designs(problem, 4, 2)[0][0] == [0, 1, 2, 3]


@pytest.mark.parametrize("where", ["embeddings", "logits"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_numbers_that_are_not_finite_are_an_error(way: str, where: str, value: float) -> None:
    problem = Problem.random(9, 4, 3)
    getattr(problem, where)[2, 1] = value
    blocks = top_class_blocks(problem, 2)
    weights = torch.full((9,), 1 / 9, dtype=torch.float64)
    nothing = KnownWeights(torch.arange(0), weights[:0])
    with pytest.raises(RunError, match="finite"):
        top_classes_design(blocks, torch.arange(9), 2, weights, nothing, 1.0, 1.0)


def test_arguments_out_of_range() -> None:
    problem = Problem.random(6, 4, 3)
    for wrong in (1, 5):
        with pytest.raises(ValueError, match=f"top_classes={wrong}: should be from 2 to 4"):
            top_class_blocks(problem, wrong)
    blocks = top_class_blocks(problem, 2)
    weights = torch.full((6,), 1 / 6, dtype=torch.float64)
    nothing = KnownWeights(torch.arange(0), weights[:0])

    def design(n: int = 1, **wrong: float) -> None:
        numbers = {"scale": 1.0, "regularization": 1.0} | wrong
        top_classes_design(blocks, torch.arange(6), n, weights, nothing, **numbers)

    with pytest.raises(ValueError, match="n=7: there are 6 candidates"):
        design(7)
    with pytest.raises(ValueError, match="scale=0: should be above 0"):
        design(scale=0)
    with pytest.raises(ValueError, match="regularization=-1: should be above 0"):
        design(regularization=-1)
    with pytest.raises(ValueError, match="oversampling=-1: should be 0 or above"):
        design(oversampling=-1)
