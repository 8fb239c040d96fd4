"""A few rounds of a strategy on a pool in which one class is a hundred times rarer."""

from __future__ import annotations

import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from fm_al.strategies.base import Strategy
from tests.helpers.synthetic import given_query

MAJORITY, MINORITY = 2000, 20
INITIAL, PER_ROUND, ROUNDS = 20, 20, 3


def minority_labels(strategy: Strategy, seed: int) -> int:
    """How many images of the minority are labelled after the rounds, by a linear classifier.

    Classes are two normal distributions that overlap a little. The first labels are random, with
    one of the minority among them."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(MAJORITY + MINORITY, 5, generator=generator)
    points[MAJORITY:, 0] += 3
    targets = (torch.arange(len(points)) >= MAJORITY).long()
    order = torch.randperm(MAJORITY, generator=generator)
    labelled = [*order[: INITIAL - 1].tolist(), MAJORITY]
    for _ in range(ROUNDS):
        query = given_query(points, _logits(points, targets, labelled), labelled, targets)
        labelled += strategy.select(query, PER_ROUND, generator).tolist()
    return int(targets[labelled].sum())


def _logits(points: Tensor, targets: Tensor, labelled: list[int]) -> Tensor:
    fitted = LogisticRegression().fit(points[labelled].numpy(), targets[labelled].numpy())
    of_minority = torch.from_numpy(fitted.decision_function(points.numpy())).float()
    return torch.stack([-of_minority, of_minority], dim=1) / 2
