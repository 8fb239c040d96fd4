from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fm_al.strategies.base import Query
from fm_al.strategies.cluster_margin import (
    ClusterMargin,
    average_linkage,
    evenly_spaced,
    round_robin,
)
from fm_al.strategies.margin import Margin
from tests.helpers.synthetic import given_query
from tests.oracle_quota import average_linkage_clusters, turns


def points_of(count: int, dimension: int, seed: int) -> Tensor:
    return torch.randn(count, dimension, generator=torch.Generator().manual_seed(seed))


def picks_of(strategy: ClusterMargin, query: Query, n: int) -> list[int]:
    return strategy.select(query, n, torch.Generator()).tolist()


def two_class_logits(margins: list[float]) -> Tensor:
    """Of two classes whose probabilities differ by so much."""
    first = (1 + torch.tensor(margins)) / 2
    return torch.stack([first, 1 - first], dim=1).log()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("count", [1, 3, 8, 14])
def test_clusters_are_those_of_average_linkage(seed: int, count: int) -> None:
    points = points_of(14, 2, seed)
    labels = average_linkage(points, count).tolist()
    found = {frozenset(i for i in range(14) if labels[i] == c) for c in set(labels)}
    assert found == {*map(frozenset, average_linkage_clusters(points.double().numpy(), count))}


def test_equal_points_are_one_cluster() -> None:
    assert average_linkage(torch.ones(6, 3), 4).tolist() == [0] * 6
    assert average_linkage(torch.ones(1, 3), 4).tolist() == [0]


@given(clusters=st.lists(st.integers(0, 5), min_size=1, max_size=30), data=st.data())
def test_clusters_take_turns(clusters: list[int], data: st.DataObject) -> None:
    n = data.draw(st.integers(1, len(clusters)))
    assert round_robin(np.array(clusters))[:n].tolist() == turns(clusters, n)


def test_a_worked_example() -> None:
    """Five images at 0, two at 10 and one at 20, their margins growing with the index."""
    points = torch.tensor([0.0, 0.1, 10.0, 0.2, 0.3, 10.1, 20.0, 0.4])[:, None]
    logits = two_class_logits([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
    strategy = ClusterMargin(images_per_cluster=8 / 3)
    query = given_query(points, logits)
    # Seven margins: the clusters are {6}, {2, 5} and {0, 1, 3, 4}.
    assert picks_of(strategy, query, 6) == [6, 2, 0, 5, 1, 3]
    assert query.recorded == {
        "low_margins": 7, "clustered": 8, "clusters": 3, "low_margin_clusters": 3,
    }  # fmt: skip
    # Five margins: {2} and {0, 1, 3, 4}.
    assert picks_of(strategy, given_query(points, logits), 4) == [2, 0, 1, 3]
    assert picks_of(strategy, given_query(points, logits), 8) == [6, 2, 0, 5, 1, 3, 4, 7]
    assert picks_of(strategy, given_query(points, logits), 1) == [0]


def test_images_that_are_not_clustered_join_the_nearest_mean() -> None:
    centres = torch.tensor([[0.0, 0.0], [40.0, 0.0], [0.0, 40.0], [40.0, 40.0]])
    kind = torch.arange(400) % 4
    points = centres[kind] + points_of(400, 2, seed=1)
    logits = two_class_logits(torch.linspace(0.01, 0.9, 400).tolist())
    few = ClusterMargin(cluster_images=41, images_per_cluster=10)
    query = given_query(points, logits, labelled=[0, 5])
    picks = picks_of(few, query, 80)
    assert query.recorded["clustered"] == 41
    assert query.recorded["clusters"] == 4
    assert torch.bincount(kind[picks]).tolist() == [20] * 4
    assert picks == picks_of(
        ClusterMargin(images_per_cluster=100), given_query(points, logits, labelled=[0, 5]), 80
    )


def test_with_a_factor_of_1_it_picks_what_margin_picks() -> None:
    points, logits = points_of(90, 3, seed=3), points_of(90, 4, seed=4)
    query = given_query(points, logits, labelled=[7, 3])
    picks = picks_of(ClusterMargin(margin_factor=1), query, 20)
    of_margin = Margin().select(given_query(points, logits, [7, 3]), 20, torch.Generator())
    assert sorted(picks) == sorted(of_margin.tolist())


def test_it_is_more_diverse_than_margin() -> None:
    """One dense heap of unsure images; three further heaps, a little surer."""
    kind = torch.tensor([0] * 60 + [1] * 5 + [2] * 5 + [3] * 5)
    points = 30 * torch.eye(4)[kind] + points_of(75, 4, seed=5)
    logits = two_class_logits([0.01 + 0.001 * i for i in range(75)])
    picks = picks_of(ClusterMargin(margin_factor=7.5), given_query(points, logits), 10)
    assert len(kind[picks].unique()) == 4
    assert Margin().select(given_query(points, logits), 10, torch.Generator()).tolist() == [
        *range(10)
    ]


def test_embeddings_may_be_clustered_instead_of_features() -> None:
    points, logits = points_of(50, 3, seed=8), points_of(50, 4, seed=9)
    query = given_query(points, logits)
    query.embeddings = torch.zeros(50, 3)
    strategy = ClusterMargin(representation="embeddings")
    assert not strategy.reads_features
    strategy.select(query, 5, torch.Generator())
    assert query.recorded["clusters"] == 1
    assert ClusterMargin().reads_features


def test_permuting_the_pool_permutes_the_picks() -> None:
    points, logits = points_of(120, 3, seed=3), points_of(120, 4, seed=4)
    order = torch.randperm(120, generator=torch.Generator().manual_seed(5))
    picks = picks_of(ClusterMargin(), given_query(points, logits), 30)
    permuted = picks_of(ClusterMargin(), given_query(points[order], logits[order]), 30)
    assert order[permuted].tolist() == picks


def test_by_default_5000_images_are_clustered() -> None:
    query = given_query(points_of(5_001, 2, seed=1), points_of(5_001, 2, seed=2))
    ClusterMargin().select(query, 10, torch.Generator())
    assert query.recorded["clustered"] == 5_000
    assert 490 <= query.recorded["clusters"] <= 500


@pytest.mark.parametrize(("count", "most"), [(1, 5), (5, 5), (11, 5), (1000, 7)])
def test_evenly_spaced_indices_are_distinct_and_within(count: int, most: int) -> None:
    indices = evenly_spaced(count, most).tolist()
    assert indices == sorted({*indices})
    assert len(indices) == min(count, most)
    assert indices[0] == 0
    assert indices[-1] < count
    steps = np.diff(indices)
    assert len(steps) == 0 or steps.max() - steps.min() <= 1
