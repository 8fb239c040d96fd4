from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fm_al.strategies.base import Query
from fm_al.strategies.base_quota import BASE, boundary_distances, quotas, weight_distances
from fm_al.strategies.lowest import lowest
from fm_al.strategies.margin import Margin
from tests.helpers.rare_classes import share_of_rare_labels
from tests.helpers.synthetic import given_query
from tests.oracle_quota import base_picks


def query_of(
    embeddings: Tensor, weights: Tensor, bias: Tensor, labelled: list[int] | None = None
) -> Query:
    query = given_query(embeddings, embeddings @ weights.T + bias, labelled or [])
    head = nn.Linear(weights.shape[1], len(weights))
    head.weight, head.bias = nn.Parameter(weights), nn.Parameter(bias)
    query.model.head = head
    return query


def picks_of(query: Query, n: int) -> list[int]:
    return BASE().select(query, n, torch.Generator()).tolist()


def test_a_worked_example() -> None:
    """Three classes on a line: boundaries at -1 (0 and 1) and at 1 (1 and 2); 0 and 2 at 0."""
    weights = torch.tensor([[-1.0], [0.0], [1.0]])
    bias = torch.tensor([-1.0, 0.0, -1.0])
    points = torch.tensor([[-3.0], [-1.5], [-0.9], [0.0], [0.8], [1.3], [5.0]])
    query = query_of(points, weights, bias)
    # To the boundary of 0: predicted 0 (-3, -1.5) by the least, others by their own.
    assert boundary_distances(query.logits.clone(), weight_distances(weights)) == pytest.approx(
        torch.tensor(
            [
                [2.0, 2.0, 3.0],
                [0.5, 0.5, 1.5],
                [0.1, 0.1, 1.9],
                [1.0, 1.0, 1.0],
                [1.8, 0.2, 0.2],
                [1.3, 0.3, 0.3],
                [5.0, 4.0, 4.0],
            ]
        )
    )
    assert picks_of(query, 5) == [2, 1, 4, 5, 3]


@given(seed=st.integers(0, 10_000), classes=st.integers(2, 6), share=st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_the_picks_are_those_of_the_definition(seed: int, classes: int, share: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    # Small integers: ties, duplicates and equal rows happen, and float32 is exact.
    embeddings = torch.randint(-2, 3, (30, 2), generator=generator).float()
    weights = torch.randint(-1, 2, (classes, 2), generator=generator).float()
    bias = torch.randint(-1, 2, (classes,), generator=generator).float()
    query = query_of(embeddings, weights, bias, [4, 7])
    n = max(1, round(share * 28))
    unlabelled = query.unlabelled.tolist()
    expected = base_picks(query.logits, weights, unlabelled, n)
    assert picks_of(query, n) == expected


def test_classes_with_equal_rows_have_no_boundary_and_come_last() -> None:
    weights = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    query = query_of(torch.randn(20, 2), weights, torch.tensor([0.0, -5.0, 0.0]))
    distances = boundary_distances(query.logits.clone(), weight_distances(weights))
    is_first = query.logits.argmax(dim=1) == 0
    assert distances[is_first, 1].isinf().all()
    assert distances[~is_first].isfinite().all()
    assert sorted(picks_of(query, 20)) == list(range(20))
    equal = query_of(torch.randn(9, 2), torch.ones(3, 2), torch.zeros(3))
    assert picks_of(equal, 5) == [0, 1, 2, 3, 4]


def test_permuting_the_pool_permutes_the_picks() -> None:
    generator = torch.Generator().manual_seed(3)
    embeddings, weights, bias = (
        torch.randn(*shape, generator=generator) for shape in ((80, 5), (4, 5), (4,))
    )
    picks = picks_of(query_of(embeddings, weights, bias), 22)
    order = torch.randperm(80, generator=generator)
    permuted = picks_of(query_of(embeddings[order], weights, bias), 22)
    assert order[permuted].tolist() == picks


@pytest.mark.parametrize("n", [0, 1, 9, 10, 11, 25])
def test_quotas_add_up_and_the_first_classes_have_one_more(n: int) -> None:
    shares = quotas(n, 10)
    assert sum(shares) == n
    assert shares == sorted(shares, reverse=True)
    assert max(shares) - min(shares) <= 1


@given(values=st.lists(st.sampled_from([0.0, 1.0, 2.5, float("inf")]), min_size=1), data=st.data())
def test_the_lowest_are_those_of_a_stable_sort(values: list[float], data: st.DataObject) -> None:
    count = data.draw(st.integers(0, len(values)))
    numbers = torch.tensor(values)
    assert lowest(numbers, count).tolist() == numbers.argsort(stable=True)[:count].tolist()


def test_it_collects_more_of_rare_classes_than_margin() -> None:
    shares, of_margin = (
        [share_of_rare_labels(strategy, seed) for seed in range(5)]
        for strategy in (BASE(), Margin())
    )
    assert all(share >= other for share, other in zip(shares, of_margin, strict=True))
    assert sum(shares) > sum(of_margin) + 0.05
