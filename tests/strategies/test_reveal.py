"""Classes that a strategy asks for within a round."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fm_al.strategies.base import Query
from tests.helpers.synthetic import given_query


def query(budget: int | None = None) -> Query:
    points = torch.arange(8.0)[:, None]
    made = given_query(points, torch.zeros(8, 3), labelled=[6, 2])
    made._budget = len(points) if budget is None else budget
    return made


def indices(*numbers: int) -> Tensor:
    return torch.tensor(numbers, dtype=torch.int64)


def test_classes_are_told_in_the_order_that_is_asked_for_and_nothing_else_changes() -> None:
    asked = query()
    assert asked.reveal(indices(5, 0)).tolist() == [2, 0]
    assert asked.reveal(indices(7)).tolist() == [1]
    assert asked.revealed.tolist() == [5, 0, 7]
    assert asked.labelled.tolist() == [6, 2]
    assert asked.unlabelled.tolist() == [0, 1, 3, 4, 5, 7]


def test_more_than_the_rounds_budget_is_refused() -> None:
    asked = query(budget=2)
    asked.reveal(indices(5))
    with pytest.raises(ValueError, match="reveal: 3 images; the round labels 2"):
        asked.reveal(indices(0, 1))
    assert asked.revealed.tolist() == [5]


@pytest.mark.parametrize("wrong", [indices(2), indices(5), indices(0, 0), indices(8), indices(-1)])
def test_other_images_are_refused(wrong: Tensor) -> None:
    asked = query()
    asked.reveal(indices(5))
    with pytest.raises(ValueError, match="unlabelled, distinct and not revealed before"):
        asked.reveal(wrong)
    assert asked.revealed.tolist() == [5]


def test_queries_of_parts_of_a_pool_share_its_budget_and_tell_it_what_they_revealed() -> None:
    asked = query(budget=2)
    part = asked.among(indices(1, 5, 7)).among(indices(0, 2))  # images 1 and 5 of the pool
    assert part.reveal(indices(2)).tolist() == [2]
    assert part.pool_indices(part.revealed).tolist() == [5]
    assert asked.revealed.tolist() == [5]
    other = asked.among(indices(0, 4))
    assert other.reveal(indices(0)).tolist() == [0]
    with pytest.raises(ValueError, match="the round labels 2"):
        other.reveal(indices(2))
    assert other.revealed.tolist() == [0]


def test_a_part_takes_over_outputs_that_are_there() -> None:
    asked = query()
    asked.probabilities  # noqa: B018 - computes them
    part = asked.among(indices(1, 5))
    assert part.embeddings[:, 0].tolist() == [1, 2, 5, 6]
    assert part.logits.shape == part.probabilities.shape == (4, 3)
