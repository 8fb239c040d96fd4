from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fm_al.strategies.kmeans_plus_plus import kmeans_plus_plus
from tests import oracle


def picks_among(points: Tensor, candidates: list[int], first: int, n: int, seed: int) -> list[int]:
    allowed = torch.zeros(len(points), dtype=torch.bool)
    allowed[candidates] = True
    generator = torch.Generator().manual_seed(seed)

    def distances(index: int) -> Tensor:
        return (points - points[index]).square().sum(dim=1)

    return kmeans_plus_plus(distances, allowed, first, n, generator).tolist()


@settings(max_examples=100, deadline=None)
@given(data=st.data(), seed=st.integers(0, 2**32))
def test_picks_equal_the_textbook_with_the_same_draws(data: st.DataObject, seed: int) -> None:
    coordinate = st.integers(-2, 2)  # small integers: many equal points, exact distances
    points = data.draw(st.lists(st.tuples(coordinate, coordinate), min_size=1, max_size=20))
    subset = st.sets(st.integers(0, len(points) - 1), min_size=1)
    candidates = sorted(data.draw(subset))
    first = data.draw(st.sampled_from(candidates))
    n = data.draw(st.integers(1, len(candidates)))
    tensor = torch.tensor(points, dtype=torch.float32)
    uniforms = torch.rand(
        n - 1, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    ).tolist()
    expected = oracle.kmeans_plus_plus(tensor.double().numpy(), candidates, first, n, uniforms)
    assert picks_among(tensor, candidates, first, n, seed) == expected


def test_draws_are_in_proportion_to_squared_distances() -> None:
    points = torch.tensor([[0.0], [1.0], [2.0], [3.0]])  # from the first: 1, 4 and 9 of 14
    seconds = torch.tensor([picks_among(points, [0, 1, 2, 3], 0, 2, s)[1] for s in range(3000)])
    frequencies = seconds.bincount(minlength=4) / len(seconds)
    torch.testing.assert_close(frequencies, torch.tensor([0, 1, 4, 9]) / 14, rtol=0, atol=0.03)


def test_once_only_copies_are_left_the_lowest_indices_come_first() -> None:
    points = torch.tensor([[5.0], [1.0], [1.0], [5.0], [1.0], [5.0]])
    picks = picks_among(points, [0, 2, 3, 4, 5], first=4, n=5, seed=0)
    assert picks[1] in (0, 3, 5)
    assert picks[2:] == sorted({0, 2, 3, 5} - {picks[1]})


def test_a_pick_is_not_picked_again_where_rounding_puts_it_at_some_distance_from_itself() -> None:
    candidates = torch.ones(30, dtype=torch.bool)
    generator = torch.Generator().manual_seed(0)
    picks = kmeans_plus_plus(lambda index: torch.full((30,), 1e-3), candidates, 3, 30, generator)
    assert sorted(picks.tolist()) == list(range(30))
