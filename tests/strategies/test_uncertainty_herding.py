from __future__ import annotations

import numpy as np
import pytest
import torch

from fm_al.strategies.base import Query
from fm_al.strategies.uncertainty_herding import UncertaintyHerding
from tests import oracle_cover as oracle
from tests.helpers.synthetic import given_query

KINDS = ["margin", "entropy", "least_confidence"]


def a_query(seed: int, labelled: int) -> tuple[Query, torch.Tensor, torch.Tensor, list[int]]:
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(60, 4, generator=generator)
    points[20:30] = points[:10]
    logits = 3 * torch.randn(60, 5, generator=generator)
    chosen = torch.randperm(60, generator=generator)[:labelled].tolist()
    return given_query(points, logits, chosen), points, logits, chosen


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("labelled", [1, 2, 10])
@pytest.mark.parametrize("sigma", [None, 0.3])
def test_picks_are_those_of_the_plain_greedy(kind, labelled: int, sigma: float | None) -> None:
    for seed in range(3):
        query, points, logits, chosen = a_query(seed, labelled)
        n = 60 - labelled
        strategy = UncertaintyHerding(uncertainty=kind, sigma=sigma)
        picks = strategy.select(query, n, torch.Generator()).tolist()
        weights = oracle.uncertainties(logits.double().softmax(dim=1).numpy(), kind)
        weights[chosen] = 0
        width = sigma or oracle.smallest_distance(points.numpy(), chosen)
        if sigma is None:
            assert query.recorded == {"sigma": pytest.approx(width)}
        else:
            assert query.recorded == {}
        # float32 probabilities: picks may differ where gains do so by less than a millionth
        assert_is_greedy(picks, points, chosen, width, weights)


def assert_is_greedy(picks, points, labelled, sigma, weights) -> None:
    kernel = np.exp(-((oracle.distances(points.numpy()) / sigma) ** 2))
    chosen = list(labelled)
    for pick in picks:
        covered = kernel[:, chosen].max(axis=1)
        gains = weights @ np.maximum(kernel - covered[:, None], 0)
        gains[chosen] = -1
        assert gains[pick] >= gains.max() - 1e-6 * weights.sum()
        chosen.append(pick)


def test_while_nothing_is_labelled_it_is_max_herding_and_asks_no_network() -> None:
    query, points, _, _ = a_query(0, 0)
    del query.embeddings, query.logits
    query.model.embed = None
    picks = UncertaintyHerding().select(query, 20, torch.Generator()).tolist()
    assert picks == oracle.herding(points.numpy(), [], 20, 1.0)
    assert query.recorded == {"sigma": 1.0}


def test_the_width_is_the_smallest_positive_distance_of_labelled_images() -> None:
    angles = torch.tensor([0.0, 0.0, 0.3, 1.0, 1.01, 3.0])
    points = torch.stack([angles.cos(), angles.sin()], dim=1) * 7
    for labelled, expected in (
        ([0, 1, 2, 3], 2 * np.sin(0.15)),
        ([0, 1], 1.0),
        ([3], 1.0),
        ([0, 5], 2 * np.sin(1.5)),
    ):
        query = given_query(points, torch.zeros(6, 2), labelled)
        UncertaintyHerding().select(query, 1, torch.Generator())
        assert query.recorded["sigma"] == pytest.approx(expected, rel=1e-5)


def test_of_two_groups_it_picks_the_one_that_the_network_is_unsure_of() -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.eye(2).repeat_interleave(20, dim=0)
    points += 0.1 * torch.rand(40, 2, generator=generator)
    logits = torch.randn(40, 3, generator=generator)
    logits[:20, 0] += 20  # sure, and so far that 1 - p is 0 in float32
    picks = UncertaintyHerding(sigma=0.5).select(
        given_query(points, logits, [0, 20]), 5, torch.Generator()
    )
    assert (picks >= 20).all()


def test_nearly_sure_images_are_told_apart() -> None:
    points = torch.eye(4)
    logits = torch.tensor([[0.0, 40], [0.0, 30], [0.0, 35], [0.0, 0.0]])
    for kind in KINDS:
        query = given_query(points, logits, [3])
        strategy = UncertaintyHerding(uncertainty=kind, sigma=0.01)
        assert strategy.select(query, 3, torch.Generator()).tolist() == [1, 2, 0]


def test_with_a_narrow_kernel_the_most_unsure_images_come_first() -> None:
    """Two labelled images are close, all others far apart, however many they are."""
    count = 5_000
    generator = torch.Generator().manual_seed(0)
    points = torch.nn.functional.normalize(torch.randn(count, 8, generator=generator), dim=1)
    points[1] = points[0] + 2e-4 * torch.eye(8)[points[0].abs().argmin()]
    uncertainty = (1 + torch.randperm(count, generator=generator)) / (count + 1)
    logits = torch.stack([1 - uncertainty / 2, uncertainty / 2], dim=1).log()
    query = given_query(points, logits, [0, 1])
    picks = UncertaintyHerding().select(query, 200, torch.Generator()).tolist()
    assert query.recorded["sigma"] == pytest.approx(2e-4, rel=0.01)
    order = uncertainty.argsort(descending=True).tolist()
    assert picks == [index for index in order if index > 1][:200]
