from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fm_al.strategies import coverage
from fm_al.strategies.coverage import Directions
from fm_al.strategies.probcover import ProbCover, clusters_of, pure_radius
from tests import oracle_cover as oracle
from tests.helpers.synthetic import given_query, points_to_cover


def picks_of(
    points: torch.Tensor, labelled: list[int], n: int, delta: float
) -> tuple[list[int], int]:
    query = given_query(points, torch.zeros(len(points), 3), labelled)
    picks = ProbCover(delta=delta).select(query, n, torch.Generator()).tolist()
    return picks, query.recorded.get("covered_anew", 0)


@pytest.mark.parametrize("block", [7, 32, 1024])
@pytest.mark.parametrize("count", [0, 1, 10])
def test_picks_are_those_from_the_whole_graph(
    block: int, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coverage, "BLOCK", block)
    for seed in range(4):
        points, labelled = points_to_cover(seed, count)
        for delta in (0.05, 0.4, 1.0, 1.9):
            expected = oracle.probcover(points.numpy(), labelled, 60 - count, delta)
            assert picks_of(points, labelled, 60 - count, delta) == expected


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_ties_go_to_the_lowest_index(data: st.DataObject) -> None:
    coordinate = st.integers(-1, 1)  # many equal directions, right angles, and zeros
    points = data.draw(st.lists(st.tuples(coordinate, coordinate), min_size=2, max_size=12))
    embeddings = torch.tensor(points, dtype=torch.float32)
    index = st.integers(0, len(points) - 1)
    labelled = sorted(data.draw(st.sets(index, max_size=len(points) - 1)))
    delta = data.draw(st.sampled_from([0.01, 0.7, 1.0, 2**0.5, 2.0]))
    n = len(points) - len(labelled)
    expected = oracle.probcover(embeddings.numpy(), labelled, n, delta)
    assert picks_of(embeddings, labelled, n, delta) == expected


def test_when_everything_is_covered_the_largest_ball_comes_anew() -> None:
    angles = torch.tensor([0.0, 0.1, 0.2, 2.0, 2.1])
    points = torch.stack([angles.cos(), angles.sin()], dim=1)
    # The balls of 1 and 3 cover everything. Then that of 1 is taken: those of 0 and 2 are as large.
    assert picks_of(points, [], 5, 0.25) == ([0, 3, 1, 4, 2], 2)
    assert picks_of(torch.ones(6, 2), [0], 3, 0.5) == ([1, 2, 3], 3)


@pytest.mark.parametrize("block", [16, 1024])
def test_delta_is_the_largest_with_pure_balls(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coverage, "BLOCK", block)
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        points = torch.randn(101, 3, generator=generator)
        assigned = clusters_of(points, 3, generator)
        assert len(assigned.unique()) == 3
        expected = oracle.pure_radius(points.numpy(), assigned.numpy())
        assert pure_radius(Directions(points), assigned) == pytest.approx(expected, rel=1e-9)


def test_without_a_delta_it_is_found_and_recorded() -> None:
    generator = torch.Generator().manual_seed(0)
    centres = torch.eye(3).repeat_interleave(40, dim=0)
    points = centres + 0.02 * torch.randn(120, 3, generator=generator)
    query = given_query(points, torch.zeros(120, 3))
    picks = ProbCover().select(query, 3, torch.Generator().manual_seed(0))
    assert 1.2 < query.recorded["delta"] < 2**0.5
    assert sorted((picks // 40).tolist()) == [0, 1, 2]


def test_equal_images_have_one_cluster_and_the_largest_delta() -> None:
    query = given_query(torch.ones(10, 3), torch.zeros(10, 3), [2])
    picks = ProbCover().select(query, 9, torch.Generator())
    assert picks.tolist() == [0, 1, 3, 4, 5, 6, 7, 8, 9]
    assert query.recorded == {"delta": 2.0, "covered_anew": 9}
