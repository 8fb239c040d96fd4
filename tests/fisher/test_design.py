"""The fast selection picks what explicit inverses pick."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fm_al.errors import RunError
from fm_al.fisher import chunks, triangles
from fm_al.fisher.blocks import Blocks
from fm_al.fisher.design import greedy_design
from tests import oracle
from tests.fisher.problems import (
    WEIGHTINGS,
    Problem,
    assert_same_picks,
)


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.tuples(st.integers(2, 5), st.integers(0, 4), st.integers(0, 4)),
    images=st.integers(1, 9),
    labelled=st.integers(0, 3),
    logit_scale=st.sampled_from([0.0, 1.0, 5.0, 1e5]),
    weighting=st.sampled_from(WEIGHTINGS),
    regularization=st.sampled_from([1e-3, 1.0, 30.0]),
    oversampling=st.sampled_from([0, 0.5, 1]),
    seed=st.integers(0, 99),
    data=st.data(),
)
def test_picks_are_those_of_explicit_inverses(
    sizes, images, labelled, logit_scale, weighting, regularization, oversampling, seed, data
) -> None:
    classes, dimensions, others = sizes
    if dimensions + others == 0:
        dimensions = 1
    problem = Problem.random(
        images + labelled, classes, dimensions, others, seed, logit_scale, weighting
    )
    if data.draw(st.booleans(), label="with duplicates"):
        twice = torch.arange(images + labelled) // 2
        problem = problem.of(twice)
    n = data.draw(st.integers(1, images), label="n")
    # Explicit inverses, in float64, don't tell candidates apart that add next to nothing.
    largest = max(np.trace(information) for information in problem.informations()[labelled:])
    same_picks = largest == 0 or largest > 1e-9 * regularization
    assert_same_picks(problem, n, labelled, regularization, oversampling, same_picks)


@pytest.mark.parametrize("classes", [2, 3, 8, 20])
@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_picks_are_those_of_explicit_inverses_for_many_classes(
    classes: int, weighting: str
) -> None:
    assert_same_picks(Problem.random(8, classes, 2, 3, weighting=weighting), 2, 2, 1.0, 1)


def test_all_of_the_pool_and_one_image() -> None:
    problem = Problem.random(8, 3, 3, 4)
    assert_same_picks(problem, 8, 0, 1.0, 1)
    assert_same_picks(problem, 1, 0, 1.0, 0)
    assert_same_picks(problem.of(torch.tensor([3])), 1, 0, 1.0, 1)


@pytest.mark.slow
def test_picks_do_not_depend_on_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = Problem.random(60, 4, 6, 9).blocks
    blocks = blocks[torch.arange(60) // 3]
    picks = []
    for chunk_bytes, tile in product((1, 1000, 10**6), (2, 256)):
        monkeypatch.setitem(chunks.CHUNK_BYTES, "cpu", chunk_bytes)
        monkeypatch.setattr(triangles, "TILE", tile)
        monkeypatch.setattr(chunks, "SQUARES_LEAST", tile)
        picks.append(greedy_design(blocks, 25, blocks.fisher(), oversampling=1).picks.tolist())
    assert all(other == picks[0] for other in picks)


def test_equal_images_are_picked_from_the_lowest_on() -> None:
    problem = Problem.random(3, 4, 5, 6)
    one = problem.of(torch.zeros(10, dtype=torch.int64)).blocks
    assert greedy_design(one, 4, one.fisher()).picks.tolist() == [0, 1, 2, 3]
    pairs = problem.of(torch.tensor([2, 1, 0, 0, 1, 2])).blocks
    picks = greedy_design(pairs, 3, pairs.fisher()).picks.tolist()
    assert sorted(picks) == [0, 1, 2]


def test_images_without_information_are_picked_from_the_lowest_on() -> None:
    problem = Problem.random(6, 3, 4, 0, logit_scale=1e8)
    assert greedy_design(problem.blocks, 3, problem.blocks.fisher()).picks.tolist() == [0, 1, 2]


def test_the_identity_in_the_pool_fishers_place() -> None:
    problem = Problem.random(15, 3, 4, 3)
    blocks, informations = problem.blocks, problem.informations()
    k = len(informations[0])
    expected = oracle.optimal_design(4, informations, np.eye(k), np.zeros((k, k)), 1.0, 0.5)
    identity = torch.eye(blocks.width, dtype=torch.float64)
    assert greedy_design(blocks, 4, identity, regularization=0.5).picks.tolist() == expected


def test_no_worse_than_a_thousand_random_batches() -> None:
    problem = Problem.random(60, 4, 5, 6)
    blocks, informations = problem.blocks, problem.informations()
    zeros = np.zeros_like(informations[0])
    others = sum(informations) / len(informations), zeros, 1.0, 1.0
    selection = greedy_design(blocks, 6, blocks.fisher())
    greedy = oracle.design_objective(selection.picks.tolist(), informations, *others)
    assert selection.objective == pytest.approx(greedy, rel=1e-10)
    generator = np.random.default_rng(0)
    rows = blocks.row_vectors().view(60, -1, blocks.width)
    V = (rows.mT @ rows).numpy()
    batches = [generator.choice(60, 6, replace=False).tolist() for _ in range(1000)]
    M = np.eye(blocks.width) + np.array([sum(V[batch]) for batch in batches])
    at_random = np.trace(np.linalg.inv(M) @ blocks.fisher().numpy(), axis1=1, axis2=2)
    assert greedy <= at_random.min()


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("where", ["factors", "embeddings", "dense"])
def test_numbers_that_are_not_finite_are_an_error(where: str, value: float) -> None:
    blocks = Problem.random(6, 3, 4, 5).blocks
    fisher = blocks.fisher()
    getattr(blocks, where)[2].view(-1)[1] = value
    with pytest.raises(RunError, match="finite"):
        greedy_design(blocks, 2, fisher)


def test_arguments_that_can_not_be() -> None:
    blocks = Problem.random(6, 3, 4, 5).blocks
    fisher = blocks.fisher()
    with pytest.raises(ValueError, match="n=7: there are 6 candidates"):
        greedy_design(blocks, 7, fisher)
    with pytest.raises(ValueError, match="n=0"):
        greedy_design(blocks, 0, fisher)
    for value in (0, -1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match=f"regularization={value}: should be above 0"):
            greedy_design(blocks, 1, fisher, regularization=value)
        with pytest.raises(ValueError, match=f"scale={value}: should be above 0"):
            greedy_design(blocks, 1, fisher, scale=value)
    with pytest.raises(ValueError, match="oversampling=-1: should be 0 or above"):
        greedy_design(blocks, 1, fisher, oversampling=-1)
    with pytest.raises(ValueError, match=r"pool_fisher is \(2, 2\), the candidates have k=13"):
        greedy_design(blocks, 1, torch.eye(2, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"prior is torch\.float32: should be torch\.float64"):
        greedy_design(blocks, 1, fisher, prior=torch.eye(blocks.width))
    with pytest.raises(ValueError, match="images or rows differ"):
        Blocks.of_last_layer(blocks.factors, blocks.embeddings, blocks.dense[:, :1])
