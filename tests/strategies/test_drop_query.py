from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fm_al.strategies import drop_query
from fm_al.strategies.base import Query
from fm_al.strategies.drop_query import DropQuery, class_changes
from tests import oracle_mix
from tests.helpers.synthetic import given_query

D = 6  # numbers of an embedding that the head of the tests' network reads


def picks_of(strategy: DropQuery, query: Query, n: int, seed: int = 0) -> list[int]:
    return strategy.select(query, n, torch.Generator().manual_seed(seed)).tolist()


def random_query(seed: int) -> Query:
    embeddings = torch.randn(90, D, generator=torch.Generator().manual_seed(seed)).relu()
    query = given_query(embeddings, torch.zeros(90, 4), labelled=[3, 50])
    weight = torch.randn(4, D, generator=torch.Generator().manual_seed(seed + 1))
    with torch.no_grad():
        query.model.head.weight.copy_(weight)
        query.model.head.bias.zero_()
    return query


def masks_of(seed: int, samples: int, images: int, chunk: int, dropout: float) -> Tensor:
    """The masks that a query draws, (samples, images, D)."""
    drawn = torch.randint(2**62, (), generator=torch.Generator().manual_seed(seed))
    generator = torch.Generator().manual_seed(int(drawn))
    parts = [
        torch.stack(
            [
                torch.empty(len(part), D).bernoulli_(1 - dropout, generator=generator)
                for _ in range(samples)
            ]
        )
        for part in torch.arange(images).split(chunk)
    ]
    return torch.cat(parts, dim=1)


@pytest.mark.parametrize("samples", [1, 3, 8])
@pytest.mark.parametrize("per_pick", [1, 5, 10, 1000])
def test_candidates_equal_the_oracle(
    samples: int, per_pick: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drop_query, "CHUNK", 32)
    strategy = DropQuery(samples=samples, dropout=0.5, candidates_per_pick=per_pick)
    for seed in range(3):
        query = random_query(seed)
        free, head = query.unlabelled, query.model.head
        expected, threshold = oracle_mix.drop_query_candidates(
            query.embeddings[free].double().numpy(),
            masks_of(seed, samples, len(free), 32, 0.5).double().numpy(),
            0.5,
            head.weight.detach().double().numpy(),
            head.bias.detach().double().numpy(),
            5 * per_pick,
        )
        picks = picks_of(strategy, query, 5, seed)
        recorded = {"threshold": threshold, "candidates": len(expected)}
        assert query.recorded["drop_query"] == recorded
        assert set(picks) <= set(free[expected].tolist())


def test_changes_are_counted_per_mask() -> None:
    """The first number alone decides for class 1; without it the bias decides for class 0."""
    head = nn.Linear(2, 2)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[0.0, 0.0], [9.0, 0.0]]))
        head.bias.copy_(torch.tensor([1.0, 0.0]))
    embeddings = torch.tensor([[1.0, 5.0], [0.0, 5.0]]).repeat(400, 1)
    changes = class_changes(head, embeddings, 10, 0.75, torch.Generator().manual_seed(0))
    assert changes[1::2].tolist() == [0] * 400
    assert changes[::2].double().mean() == pytest.approx(7.5, abs=0.3)


def test_images_near_the_boundary_are_found() -> None:
    """Predictions of images far from the boundary survive dropout."""
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(400, D, generator=generator)
    embeddings[200:] = 6 + embeddings[200:].abs()
    query = given_query(embeddings, torch.zeros(400, 2), labelled=[0, 399])
    with torch.no_grad():
        query.model.head.weight.copy_(torch.tensor([[-1.0], [1.0]]).expand(2, D))
        query.model.head.bias.zero_()
    strategy = DropQuery(dropout=0.5, candidates_per_pick=1)
    assert all(pick < 200 for pick in picks_of(strategy, query, 20))


def test_one_image_of_each_direction() -> None:
    """All images are candidates; their embeddings are scaled to length 1 for k-means."""
    directions = torch.eye(D)[:4]
    lengths = torch.tensor([1.0, 1.5, 2.0, 2.5, 3.0])
    embeddings = (directions[:, None] * lengths[:, None]).flatten(end_dim=1)
    query = given_query(embeddings, torch.zeros(20, 2), labelled=[])
    picks = picks_of(DropQuery(), query, 4)
    assert sorted(pick // 5 for pick in picks) == [0, 1, 2, 3]
    assert query.recorded["drop_query"] == {"threshold": -1, "candidates": 20}
