from __future__ import annotations

import torch

from fm_al.strategies.distances import squared_distances


def test_equal_points_far_from_the_origin_are_at_zero_and_close_ones_are_not_lost() -> None:
    generator = torch.Generator().manual_seed(0)
    points = 1e4 + torch.randn(200, 64, generator=generator)
    points[100] = points[5]
    distances = squared_distances(points, points[[5]])[:, 0]
    exact = (points.double() - points[5].double()).square().sum(dim=1)
    assert distances[5] == distances[100] == 0
    torch.testing.assert_close(distances.double(), exact, rtol=1e-5, atol=0)
