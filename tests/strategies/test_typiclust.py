from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from fm_al.strategies import clustering, typiclust
from fm_al.strategies.clustering import clusters
from fm_al.strategies.typiclust import TypiClust, most_typical
from tests import oracle_cover as oracle
from tests.helpers.synthetic import given_query, points_to_cover


def picks_and_clusters(
    strategy: TypiClust, points: Tensor, labelled: list[int], n: int, monkeypatch
) -> tuple[list[int], Tensor, dict]:
    found: list[Tensor] = []

    def kept(*given: object) -> Tensor:
        found.append(clusters(*given))
        return found[0]

    monkeypatch.setattr(typiclust, "clusters", kept)
    query = given_query(points, torch.zeros(len(points), 3), labelled)
    picks = strategy.select(query, n, torch.Generator().manual_seed(0)).tolist()
    return picks, found[0], query.recorded


@pytest.mark.parametrize("most", [1, 4, 12, 60])
@pytest.mark.parametrize("count", [0, 1, 10])
def test_picks_are_those_of_the_definition(most: int, count: int, monkeypatch) -> None:
    monkeypatch.setattr(typiclust, "ROWS", 16)
    for seed in range(4):
        points, labelled = points_to_cover(seed, count)
        strategy, n = TypiClust(max_clusters=most, neighbours=7), 60 - count
        picks, assigned, recorded = picks_and_clusters(strategy, points, labelled, n, monkeypatch)
        expected = oracle.typiclust(points.numpy(), assigned.numpy(), labelled, n, 7)
        assert picks == expected
        of_cluster = assigned.bincount()
        small = sum(int(of_cluster[assigned[pick]]) <= 5 for pick in picks)
        assert recorded.get("from_small_clusters", 0) == small


@pytest.mark.parametrize("size", [1, 2, 3, 41, 300])
def test_typicality_is_that_of_all_distances(size: int) -> None:
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        points = 0.01 * torch.randn(size, 6, generator=generator)  # close, beside their norms
        points[:, 0] += 1
        points[: size // 3] = points[0]
        assert most_typical(points.clone(), 20) == oracle.most_typical(points.numpy(), 20)


def test_equal_images_are_picked_in_their_order() -> None:
    query = given_query(torch.ones(30, 3), torch.zeros(30, 2), [4])
    picks = TypiClust().select(query, 29, torch.Generator().manual_seed(0))
    assert picks.tolist() == [index for index in range(30) if index != 4]


def test_a_rare_cluster_gets_a_label_that_chance_seldom_gives() -> None:
    """1% of the images are a class of their own; 5 labels, from nothing, in each of five seeds."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.eye(5)[torch.tensor([0, 1, 2, 3]).repeat_interleave(198).tolist() + [4] * 8]
    points = centres + 0.05 * torch.randn(800, 5, generator=generator)
    found = 0
    for seed in range(5):
        query = given_query(points, torch.zeros(800, 5))
        picks = TypiClust().select(query, 5, torch.Generator().manual_seed(seed))
        found += int((picks >= 792).any())
    assert found >= 4, "by chance 0.25 of 5; k-means may miss it"


def test_clusters_that_hold_labels_come_last() -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.eye(4).repeat_interleave(10, dim=0)
    points += 0.02 * torch.randn(40, 4, generator=generator)
    query = given_query(points, torch.zeros(40, 4), [3, 17])
    picks = TypiClust().select(query, 2, torch.Generator().manual_seed(0))
    assert sorted((picks // 10).tolist()) == [2, 3]


def test_mini_batches_find_separate_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clustering, "BATCH", 200)
    generator = torch.Generator().manual_seed(0)
    groups = torch.arange(60).repeat_interleave(20)
    points = 10 * torch.eye(60)[groups] + 0.1 * torch.randn(1_200, 60, generator=generator)
    assigned = clusters(points, 60, generator)
    pairs = torch.stack([groups, assigned], dim=1).unique(dim=0)
    assert len(pairs) == 60
    assert len(assigned.unique()) == 60


def test_mini_batches_are_nearly_as_tight_as_lloyds_algorithm() -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(3_000, 4, generator=generator)
    squares = []
    for few in (10, 100):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(clustering, "FEW", few)
            assigned = clusters(points, 60, torch.Generator().manual_seed(1)).numpy()
        parts = [points.numpy()[assigned == c] for c in np.unique(assigned)]
        squares.append(sum(((part - part.mean(axis=0)) ** 2).sum() for part in parts))
    assert squares[0] < 1.1 * squares[1]
