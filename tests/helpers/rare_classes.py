"""A toy pool with two common and two rare classes, 100 to 1, and rounds of labelling on it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fm_al.strategies.base import Query, Strategy
from tests.helpers.synthetic import given_query

SIZES = (1000, 1000, 10, 10)
CENTRES = ((-3.0, 0.0), (3.0, 0.0), (0.0, 4.0), (0.0, -4.0))
FIRST, PER_ROUND, ROUNDS = 20, 15, 4


def share_of_rare_labels(strategy: Strategy, seed: int) -> float:
    """The share of the rare classes among the images that a strategy collects in all rounds."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(len(SIZES)).repeat_interleave(torch.tensor(SIZES))
    points = torch.tensor(CENTRES)[targets] + torch.randn(len(targets), 2, generator=generator)
    order = torch.randperm(len(targets), generator=generator)
    points, targets = points[order], targets[order]
    labelled = torch.randperm(len(targets), generator=generator)[:FIRST]
    for _ in range(ROUNDS):
        query = trained_query(points, targets, labelled)
        labelled = torch.cat([labelled, strategy.select(query, PER_ROUND, generator)])
    return float((targets[labelled[FIRST:]] >= 2).float().mean())


def trained_query(points: Tensor, targets: Tensor, labelled: Tensor) -> Query:
    """A query of a linear classifier of the points that is fitted to the labels."""
    head = nn.Linear(points.shape[1], len(SIZES))
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=100)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(head(points[labelled]), targets[labelled])
        loss = loss + 0.01 * head.weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    with torch.no_grad():
        query = given_query(points, head(points), labelled.tolist(), targets)
    query.model.head = head
    return query
