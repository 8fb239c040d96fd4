from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fm_al.strategies import coverage
from fm_al.strategies.coverage import Coverage, Directions, GaussianKernel
from fm_al.strategies.max_herding import MaxHerding, herded
from tests import oracle_cover as oracle
from tests.helpers.synthetic import given_query, points_to_cover


def picks_of(points: torch.Tensor, labelled: list[int], n: int, sigma: float) -> list[int]:
    query = given_query(points, torch.zeros(len(points), 2), labelled)
    return MaxHerding(sigma=sigma).select(query, n, torch.Generator()).tolist()


@pytest.mark.parametrize("block", [7, 32, 1024])
@pytest.mark.parametrize("count", [0, 1, 10])
def test_picks_are_those_of_the_plain_greedy(
    block: int, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coverage, "BLOCK", block)
    for seed in range(4):
        points, labelled = points_to_cover(seed, count)
        for sigma in (1.0, 0.2):  # at 0.1 gains differ by what may be rounding
            expected = oracle.herding(points.numpy(), labelled, 60 - count, sigma)
            assert picks_of(points, labelled, 60 - count, sigma) == expected


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_ties_go_to_the_lowest_index(data: st.DataObject) -> None:
    coordinate = st.integers(-1, 1)  # many equal directions, opposite ones, and zeros
    points = data.draw(st.lists(st.tuples(coordinate, coordinate), min_size=2, max_size=12))
    embeddings = torch.tensor(points, dtype=torch.float32)
    index = st.integers(0, len(points) - 1)
    labelled = sorted(data.draw(st.sets(index, max_size=len(points) - 1)))
    n = len(points) - len(labelled)
    expected = oracle.herding(embeddings.numpy(), labelled, n, 1.0)
    assert picks_of(embeddings, labelled, n, 1.0) == expected


def test_equal_images_are_picked_in_their_order() -> None:
    assert picks_of(torch.ones(30, 3), [], 30, 1.0) == list(range(30))
    assert picks_of(torch.zeros(30, 3), [4], 5, 0.01) == [0, 1, 2, 3, 5]


def test_a_narrow_kernel_tells_weights_apart_but_not_equal_images() -> None:
    """Every image is in the pool twice; what differs between the two is rounding alone."""
    pairs = 2_500
    generator = torch.Generator().manual_seed(0)
    images = torch.randperm(2 * pairs, generator=generator) % pairs
    points = Directions(torch.randn(pairs, 64, generator=generator)[images])
    weights = 1 + torch.randperm(pairs, generator=generator).double() / pairs / 10
    first = [int((images == image).nonzero()[0]) for image in weights.argsort(descending=True)]
    nothing = torch.empty(0, dtype=torch.int64)
    assert herded(points, weights[images], 2e-4, nothing, 200).tolist() == first[:200]


def test_gains_stay_those_of_a_fresh_start() -> None:
    """They are updated: by the raised points, by all pairs, and by the points not covered yet."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(5, 8, generator=generator)
    points = centres[torch.randint(5, (3_000,), generator=generator)]
    points = points + 0.2 * torch.randn(3_000, 8, generator=generator)
    directions, weights = Directions(points), torch.rand(3_000, generator=generator).double()
    kernel, chosen = GaussianKernel(0.5), [7, 11]
    updated = Coverage(directions, kernel, weights, torch.tensor(chosen))
    for index in range(100, 160):
        chosen.append(index)
        updated.choose(index)
    fresh = Coverage(directions, kernel, weights, torch.tensor(chosen))
    torch.testing.assert_close(updated.covered, fresh.covered, rtol=0, atol=1e-14)
    torch.testing.assert_close(updated.gains, fresh.gains, rtol=0, atol=1e-10)
