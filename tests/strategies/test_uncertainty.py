from __future__ import annotations

import pytest
import torch

from fm_al.strategies.base import Strategy
from fm_al.strategies.entropy import Entropy
from fm_al.strategies.least_confidence import LeastConfidence
from fm_al.strategies.margin import Margin
from tests.helpers.synthetic import given_query

PROBABILITIES = torch.tensor(
    [
        [0.50, 0.49, 0.01],  # the smallest margin
        [0.90, 0.05, 0.05],
        [0.40, 0.30, 0.30],  # the largest entropy, the least confident
        [1.00, 0.00, 0.00],
        [0.45, 0.38, 0.17],
    ]
)


@pytest.mark.parametrize(
    ("strategy", "order"),
    [
        (Entropy(), [2, 4, 0, 1, 3]),
        (Margin(), [0, 4, 2, 1, 3]),
        (LeastConfidence(), [2, 4, 0, 1, 3]),
    ],
    ids=["entropy", "margin", "least_confidence"],
)
def test_order_of_a_worked_example(strategy: Strategy, order: list[int]) -> None:
    query = given_query(torch.zeros(5, 2), PROBABILITIES.log())
    assert strategy.select(query, 5, torch.Generator()).tolist() == order


@pytest.mark.parametrize("strategy", [Entropy(), Margin(), LeastConfidence()])
def test_ties_go_to_the_lowest_unlabelled_index(strategy: Strategy) -> None:
    logits = PROBABILITIES.log()[[3, 2]].repeat(500, 1)
    query = given_query(torch.zeros(1000, 2), logits, labelled=[3, 0])
    picks = strategy.select(query, 600, torch.Generator())
    assert picks.tolist() == [1, *range(5, 1000, 2), *range(2, 204, 2)]
