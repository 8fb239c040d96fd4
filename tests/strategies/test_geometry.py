"""What strategies do that see nothing but where the images lie."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from fm_al.strategies.base import Query, Strategy
from fm_al.strategies.coreset import Coreset
from fm_al.strategies.kmeans import KMeans
from fm_al.strategies.max_herding import MaxHerding
from fm_al.strategies.probcover import ProbCover
from fm_al.strategies.typiclust import TypiClust
from fm_al.strategies.uncertainty_herding import UncertaintyHerding
from tests.helpers.synthetic import given_query

WITHOUT_A_DRAW: dict[str, Strategy] = {
    "max_herding": MaxHerding(sigma=0.5),
    "uncertainty_herding": UncertaintyHerding(sigma=0.5),
    "probcover": ProbCover(delta=0.4),
    "coreset": Coreset(representation="features"),
}
FROM_NOTHING: dict[str, Strategy] = WITHOUT_A_DRAW | {
    "typiclust": TypiClust(),
    "probcover_without_delta": ProbCover(),
    "kmeans": KMeans(representation="features"),
}
ON_EMBEDDINGS = {
    name: dataclasses.replace(strategy, representation="embeddings")
    for name, strategy in FROM_NOTHING.items()
}
NASTY: dict[str, Tensor] = {
    "zeros": torch.zeros(40, 3),
    "equal": torch.ones(40, 3),
    "two_points": torch.eye(2).repeat(20, 1),
    "one_feature": torch.linspace(-1, 1, 40)[:, None],
    "large": 1e15 * torch.randn(40, 3, generator=torch.Generator().manual_seed(0)),
    "small": 1e-15 * torch.randn(40, 3, generator=torch.Generator().manual_seed(0)),
}


def select(strategy: Strategy, query: Query, n: int) -> list[int]:
    return strategy.select(query, n, torch.Generator().manual_seed(0)).tolist()


def without_network(points: Tensor) -> Query:
    """A query that has features, and fails if anything else of the images is asked for."""
    query = given_query(points, torch.zeros(len(points), 3))
    del query.embeddings, query.logits
    query.model.embed = None
    query.images = None
    return query


def stars() -> Tensor:
    """Six groups of 20, 14, 12, 10, 8 and 6 points around a centre, which alone is near to all."""
    generator = torch.Generator().manual_seed(0)
    groups = torch.arange(6).repeat_interleave(torch.tensor([20, 14, 12, 10, 8, 6]))
    aside = torch.nn.functional.normalize(torch.randn(70, 30, generator=generator), dim=1)
    members = torch.eye(36)[groups]
    members[:, 6:] = 0.36 * aside
    return torch.cat([members, torch.eye(36)[:6]])


@pytest.mark.parametrize("name", WITHOUT_A_DRAW)
@pytest.mark.parametrize("labelled", [0, 6])
def test_a_permuted_pool_has_permuted_picks(name: str, labelled: int) -> None:
    generator = torch.Generator().manual_seed(1)
    points = torch.randn(200, 3, generator=generator)
    n = 30
    if name == "probcover":  # balls of random points hold as many: ties
        points, n = stars(), 5
    logits = torch.randn(len(points), 3, generator=generator)
    order = torch.randperm(len(points), generator=generator)
    chosen = list(range(labelled))
    places = [int((order == index).nonzero()) for index in chosen]
    picks = select(WITHOUT_A_DRAW[name], given_query(points, logits, chosen), n)
    permuted = select(WITHOUT_A_DRAW[name], given_query(points[order], logits[order], places), n)
    assert order[permuted].tolist() == picks


@pytest.mark.parametrize("name", FROM_NOTHING)
def test_with_nothing_labelled_features_are_enough(name: str) -> None:
    points = torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
    query = without_network(points)
    picks = select(FROM_NOTHING[name], query, 20)
    assert len(set(picks)) == 20
    assert torch.equal(query.features, points), "features are read again in the next round"


@pytest.mark.parametrize("kind", NASTY)
@pytest.mark.parametrize("name", FROM_NOTHING)
def test_no_pool_breaks_them(name: str, kind: str) -> None:
    for n in (1, 7, 40):
        picks = select(FROM_NOTHING[name], without_network(NASTY[kind].clone()), n)
        assert len(set(picks)) == n


@pytest.mark.parametrize("name", FROM_NOTHING)
def test_embeddings_in_place_of_features_give_the_same_picks(name: str) -> None:
    generator = torch.Generator().manual_seed(2)
    points, logits = torch.randn(2, 90, 3, generator=generator)
    query = given_query(points, logits, [5, 8])
    query._pool.features = None
    assert select(ON_EMBEDDINGS[name], query, 20) == select(
        FROM_NOTHING[name], given_query(points, logits, [5, 8]), 20
    )


def two_arcs() -> Tensor:
    """Two arcs of 300 images, one inside the other's opening, and 15 outliers beside them."""
    generator = torch.Generator().manual_seed(0)
    angles = torch.rand(600, generator=generator) * torch.pi
    plane = torch.stack([angles.cos(), angles.sin()], dim=1)
    plane[300:] = torch.tensor([1.0, 0.5]) - plane[300:]
    plane += 0.05 * torch.randn(600, 2, generator=generator)
    outliers = 8 * torch.rand(15, 2, generator=generator) - 4
    return torch.cat([torch.cat([plane, outliers]), torch.ones(615, 1)], dim=1)


@pytest.mark.parametrize("strategy", [MaxHerding(sigma=0.2), ProbCover(delta=0.2)])
def test_arcs_are_covered_better_than_by_chance_and_by_coreset(strategy: Strategy) -> None:
    """Covered is an image whose direction is closer than 0.2 to that of one of ten picks."""
    points = two_arcs()
    directions = points / points.norm(dim=1, keepdim=True)

    def share(picks: list[int]) -> float:
        nearest = torch.cdist(directions, directions[picks]).amin(dim=1)
        return float((nearest < 0.2).float().mean())

    query = given_query(points, torch.zeros(615, 2))
    ours = share(select(strategy, query, 10))
    by_coreset = share(select(Coreset(representation="features"), query, 10))
    generator = torch.Generator().manual_seed(1)
    by_chance = [share(torch.randperm(615, generator=generator)[:10].tolist()) for _ in range(30)]
    assert ours > max(*by_chance, by_coreset)
    assert ours > 0.8
