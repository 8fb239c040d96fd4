from __future__ import annotations

import numpy as np
import torch
from sklearn import cluster

from fm_al.strategies import kmeans
from fm_al.strategies.kmeans import KMeans, lloyd, nearest_distinct
from tests.helpers.synthetic import given_query


def test_lloyd_ends_at_the_centres_of_scikit_learn(monkeypatch) -> None:
    monkeypatch.setattr(kmeans, "CHUNK", 100)
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(450, 4, generator=generator) + 5 * torch.randint(
        3, (450, 1), generator=generator
    )
    start = points[:20]
    expected = cluster.KMeans(20, init=start.numpy(), n_init=1, max_iter=300, tol=0).fit(points)
    centres = lloyd(points, start, iterations=300)
    np.testing.assert_allclose(centres.numpy(), expected.cluster_centers_, rtol=1e-3, atol=1e-4)


def test_iterations_are_counted_and_a_cluster_without_points_keeps_its_centre() -> None:
    points = torch.tensor([[0.0], [1.0], [9.0], [10.0]])
    start = torch.tensor([[0.0], [1.0], [50.0]])
    assert lloyd(points, start, iterations=0).tolist() == [[0.0], [1.0], [50.0]]
    once = lloyd(points, start, iterations=1).flatten()
    torch.testing.assert_close(once, torch.tensor([0, 20 / 3, 50]))
    assert lloyd(points, start, iterations=10).tolist() == [[0.5], [9.5], [50.0]]


def test_equal_centres_take_different_points() -> None:
    points = torch.tensor([[0.0], [3.0], [1.0], [1.0]])
    picks = nearest_distinct(points, torch.tensor([[1.0], [1.0], [1.0], [3.0]]))
    assert picks.tolist() == [2, 3, 0, 1]


def test_one_image_from_the_middle_of_each_group() -> None:
    corners = 1e4 + 100 * torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    around = torch.tensor([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    embeddings = (corners[:, None] + around).flatten(end_dim=1)
    for seed in range(5):
        query = given_query(embeddings, torch.zeros(20, 2), labelled=[1, 2])
        picks = KMeans().select(query, 4, torch.Generator().manual_seed(seed))
        assert sorted(picks.tolist()) == [0, 5, 10, 15]
