from __future__ import annotations

import pytest
import torch

from fm_al.strategies.distances import SquaredDistances


@pytest.mark.parametrize("offset", [0, 1, 30, 1e4])
def test_distances_keep_their_digits_however_far_the_points_are_from_the_origin(
    offset: float,
) -> None:
    generator = torch.Generator().manual_seed(0)
    points = offset + torch.randn(200, 64, generator=generator)
    points[50:100] = points[7] + 0.01 * points[50:100]
    points[100] = points[5]
    distances = SquaredDistances(points)(5)
    exact = (points.double() - points[5].double()).square().sum(dim=1)
    assert distances[5] == distances[100] == 0
    torch.testing.assert_close(distances.double(), exact, rtol=5e-4, atol=0)


@pytest.mark.parametrize("centres", [0, 1, 3, 300])
def test_the_nearest_of_many_is_the_smallest_distance_to_each(centres: int) -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(400, 16, generator=generator)
    points[300:350] = points[2] + 0.01 * points[300:350]
    points[-1] = points[0]
    indices = torch.arange(centres)
    nearest = SquaredDistances(points).to_nearest(indices)
    exact = torch.full((400,), torch.inf, dtype=torch.float64)
    for index in indices.tolist():
        exact = exact.minimum((points.double() - points[index].double()).square().sum(dim=1))
    torch.testing.assert_close(nearest.double(), exact, rtol=1e-3, atol=1e-5)
    if centres == 1:
        assert nearest[0] == nearest[-1] == 0
