from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fm_al.strategies import alfa_mix
from fm_al.strategies.alfa_mix import ALFAMix, class_means, smallest_epsilons
from fm_al.strategies.base import Query
from fm_al.strategies.margin import Margin
from tests import oracle_mix
from tests.helpers.synthetic import given_query

D = 6  # numbers of an embedding that the head of the tests' network reads


def query_of(
    embeddings: Tensor, weight: Tensor, bias: Tensor, labelled: list[int], targets: Tensor
) -> Query:
    """Of a network whose last layer has these weights, (C, D) and (C,)."""
    query = given_query(embeddings, embeddings @ weight.T + bias, labelled, targets)
    with torch.no_grad():
        query.model.head.weight.copy_(weight)
        query.model.head.bias.copy_(bias)
    return query


def random_query(seed: int, classes: int, labelled: list[int]) -> Query:
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(90, D, generator=generator).relu()
    weight = torch.randn(classes, D, generator=generator)
    bias = torch.randn(classes, generator=generator)
    return query_of(embeddings, weight, bias, labelled, torch.arange(90) % classes)


def picks_of(strategy: ALFAMix, query: Query, n: int) -> list[int]:
    return strategy.select(query, n, torch.Generator().manual_seed(0)).tolist()


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("labelled", [[3], [3, 8, 13], list(range(20))])
@pytest.mark.parametrize("step", [0.03125, 0.2, 1.0])
def test_candidates_and_epsilon_equal_the_authors_formula(
    classes: int, labelled: list[int], step: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alfa_mix, "CHUNK", 32)
    for seed in range(3):
        query = random_query(seed, classes, labelled)
        head, n = query.model.head, 9
        expected, epsilon = oracle_mix.alfa_mix_candidates(
            query.embeddings.double().numpy(),
            {i: i % classes for i in labelled},
            head.weight.detach().double().numpy(),
            head.bias.detach().double().numpy(),
            n,
            step,
        )
        picks = picks_of(ALFAMix(epsilon=step), query, n)
        assert query.recorded["alfa_mix"] == {
            "epsilon": epsilon,
            "candidates": len(expected),
            "by_margin": max(0, n - len(expected)),
        }
        assert len(set(picks) & set(expected)) == min(n, len(expected))


@given(
    smallest=st.lists(
        st.one_of(st.floats(0, 1.25, width=32), st.sampled_from([0.25, 0.5, 1.0, math.inf])),
        min_size=1,
        max_size=12,
    ),
    step=st.one_of(st.floats(1e-3, 1), st.sampled_from([0.03125, 0.25, 0.1, 1 / 49, 1.0])),
    data=st.data(),
)
@settings(deadline=None)
def test_epsilon_is_raised_step_by_step(
    smallest: list[float], step: float, data: st.DataObject
) -> None:
    needed, n = torch.tensor(smallest), data.draw(st.integers(1, len(smallest)))
    epsilon = 0.0
    for count in range(1, math.ceil(1 / step) + 1):
        epsilon = min(count * step, 1.0)
        if (needed < epsilon).sum() > n:
            break
    assert ALFAMix(epsilon=step).raised(needed, n) == epsilon


def test_a_tiny_epsilon_takes_few_comparisons(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    less = Tensor.__lt__
    monkeypatch.setattr(Tensor, "__lt__", lambda *args: compared.append(1) or less(*args))
    assert ALFAMix(epsilon=1e-6).raised(torch.tensor([0.1, 0.7, 0.3]), 1) == pytest.approx(
        0.3, abs=2e-6
    )
    assert len(compared) <= 21


def test_a_number_in_which_image_and_anchor_are_equal_cannot_change() -> None:
    """Without the first number, along which the boundary lies, no mixing reaches it."""
    head = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    images = torch.tensor([[0.1, 0.0], [0.1, 0.0]])
    equal, other = torch.tensor([[0.1, 5.0]]), torch.tensor([[0.2, 5.0]])
    assert (smallest_epsilons(head, images, equal) > 1e5).all()
    # The way to the boundary is 0.1, and |z* - h| / sqrt(2) is 3.536.
    reached = smallest_epsilons(head, images, other)
    torch.testing.assert_close(reached, torch.full((2,), 0.1 / (25.01 / 2) ** 0.5))


def test_predictions_next_to_certain_have_a_direction() -> None:
    head = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[60.0, 0.0], [-60.0, 0.0]]))
    reached = smallest_epsilons(head, torch.tensor([[0.5, 0.0]]), torch.tensor([[-4.5, 5.0]]))
    torch.testing.assert_close(reached, torch.tensor([0.5 / 5]))


def test_classes_without_labels_have_no_anchor() -> None:
    embeddings = torch.arange(12.0).reshape(6, 2)
    means = class_means(embeddings, torch.tensor([5, 0, 1]), torch.tensor([3, 1, 3]))
    assert means.tolist() == [[0, 1], [6, 7]]
    assert class_means(embeddings, torch.tensor([]).long(), torch.tensor([]).long()).shape == (0, 2)


def two_classes(labelled: list[int]) -> Query:
    """Images along the first number, the boundary in the middle, between images 59 and 60."""
    embeddings = torch.zeros(120, D)
    embeddings[:, 0] = torch.linspace(-1, 1, 120)
    weight = torch.zeros(2, D)
    weight[0, 0], weight[1, 0] = -2, 2
    return query_of(embeddings, weight, torch.zeros(2), labelled, (torch.arange(120) > 59).long())


def test_images_near_the_boundary_are_found() -> None:
    query = two_classes([2, 117])
    picks = picks_of(ALFAMix(), query, 6)
    recorded = query.recorded["alfa_mix"]
    assert 6 < recorded["candidates"] < 30
    assert recorded["by_margin"] == 0
    assert all(45 <= pick < 75 for pick in picks)


def test_too_few_candidates_are_completed_by_the_lowest_margin() -> None:
    """With both labels at the same side, mixing moves by at most 1 / sqrt(6) of the way to them."""
    query = two_classes([2, 3])
    picks = picks_of(ALFAMix(), query, 100)
    recorded = query.recorded["alfa_mix"]
    assert recorded["epsilon"] == 1
    assert 0 < recorded["candidates"] == 100 - recorded["by_margin"]
    assert picks[: recorded["candidates"]] == sorted(picks[: recorded["candidates"]])
    rest = picks[recorded["candidates"] :]
    from_boundary = [abs(pick - 59.5) for pick in rest]
    assert from_boundary == sorted(from_boundary)


def test_without_labels_all_picks_are_those_of_the_lowest_margin() -> None:
    query = random_query(0, 4, [])
    expected = Margin().select(query, 10, torch.Generator()).tolist()
    assert picks_of(ALFAMix(), query, 10) == expected
    assert query.recorded["alfa_mix"] == {"epsilon": 1.0, "candidates": 0, "by_margin": 10}


def test_one_image_of_each_group_of_candidates() -> None:
    """Four directions on the boundary, five images of other lengths in each: clusters are those of
    directions, since embeddings are scaled to length 1."""
    directions = torch.eye(D)[1:5]
    lengths = torch.tensor([1.0, 1.5, 2.0, 2.5, 3.0])
    near = (directions[:, None] * lengths[:, None]).flatten(end_dim=1)
    near[:, 0] = 1e-3
    far = torch.zeros(6, D)
    far[:, 0] = torch.tensor([-9.0, 9, 8, -8, 7, -7])
    weight = torch.zeros(2, D)
    weight[0, 0], weight[1, 0] = -1, 1
    embeddings = torch.cat([far, near])
    query = query_of(embeddings, weight, torch.zeros(2), [0, 1], torch.arange(26) % 2)
    picks = picks_of(ALFAMix(), query, 4)
    assert sorted((pick - 6) // 5 for pick in picks) == [0, 1, 2, 3]
