"""What every strategy promises; each file in conf/strategy/ is found and tried here."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from fm_al.strategies.base import Query, Strategy
from tests.helpers.configs import built, names
from tests.helpers.synthetic import network_query

N = 40


def random_images() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (N, 1, 5, 5), dtype=torch.uint8, generator=generator)


POOLS: dict[str, Callable[[], Query]] = {
    "ordinary": lambda: network_query(random_images(), labelled=[30, 2, 9, 17]),
    "one_labelled": lambda: network_query(random_images(), labelled=[5]),
    "two_classes": lambda: network_query(random_images(), labelled=[5, 6], classes=2),
    "equal_images": lambda: network_query(random_images()[:1].repeat(N, 1, 1, 1), labelled=[3, 4]),
    "few_distinct_images": lambda: network_query(
        random_images()[:4].repeat(N // 4, 1, 1, 1), labelled=[3, 4]
    ),
    "black_images": lambda: network_query(
        torch.zeros(N, 1, 5, 5, dtype=torch.uint8), labelled=[3, 4]
    ),
    "saturated_probabilities": lambda: network_query(
        random_images(), labelled=[3, 4], logit_scale=1e6
    ),
    # Probabilities next to 0 and 1 that are not: products of them are near the smallest numbers.
    "nearly_saturated_probabilities": lambda: network_query(
        random_images(), labelled=[3, 4], logit_scale=2000
    ),
    "huge_embeddings": lambda: network_query(random_images(), labelled=[3, 4], embedding_scale=1e4),
    "huge_embeddings_saturated": lambda: network_query(
        random_images(), labelled=[3, 4], embedding_scale=1e4, logit_scale=1e6
    ),
}


@pytest.fixture(params=names("strategy"))
def strategy(request: pytest.FixtureRequest) -> Strategy:
    return built("strategy", request.param)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_pools_are_as_extreme_as_their_names() -> None:
    assert POOLS["huge_embeddings"]().embeddings.max() > 1e3
    assert 0.1 < POOLS["huge_embeddings"]().probabilities.amax(dim=1).mean() < 0.9
    for pool in ("saturated_probabilities", "huge_embeddings_saturated"):
        probabilities = POOLS[pool]().probabilities
        assert ((probabilities == 0) | (probabilities == 1)).all(dim=1).float().mean() > 0.9
    assert len(POOLS["equal_images"]().logits.unique(dim=0)) == 1


def assert_picks_are_allowed(picks: Tensor, n: int, query: Query) -> None:
    assert picks.dtype == torch.int64
    assert picks.shape == (n,)
    assert len(picks.unique()) == n
    assert bool(torch.isin(picks, query.unlabelled).all())


@pytest.mark.parametrize("pool", POOLS)
def test_picks_are_distinct_unlabelled_and_given_by_the_generator(
    strategy: Strategy, pool: str
) -> None:
    query = POOLS[pool]()
    picks = strategy.select(query, 7, generator(3))
    assert_picks_are_allowed(picks, 7, query)
    torch.rand(5)  # from the global generator, which must not matter
    assert strategy.select(POOLS[pool](), 7, generator(3)).tolist() == picks.tolist()
    everything = len(query.unlabelled)
    assert_picks_are_allowed(strategy.select(query, everything, generator()), everything, query)


@pytest.mark.parametrize("pool", ["one_labelled", "black_images"])
def test_a_batch_may_be_one_image(strategy: Strategy, pool: str) -> None:
    query = POOLS[pool]()
    assert_picks_are_allowed(strategy.select(query, 1, generator()), 1, query)


def test_model_and_pool_are_left_as_they_were(strategy: Strategy) -> None:
    query = POOLS["ordinary"]()
    state = {name: value.clone() for name, value in query.model.state_dict().items()}
    outputs = [query.embeddings.clone(), query.logits.clone(), query.probabilities.clone()]
    strategy.select(query, 7, generator())
    for name, value in query.model.state_dict().items():
        assert torch.equal(value, state[name]), name
    assert not any(module.training for module in query.model.modules())
    for name, parameter in query.model.named_parameters():
        assert parameter.requires_grad, name
        assert parameter.grad is None, name
    assert not any(module._forward_hooks for module in query.model.modules())
    assert not any(module._backward_hooks for module in query.model.modules())
    assert query.labelled.tolist() == [30, 2, 9, 17]
    for before, after in zip(
        outputs, [query.embeddings, query.logits, query.probabilities], strict=True
    ):
        assert torch.equal(before, after)


def test_global_generators_are_left_as_they_were_and_what_is_recorded_is_json(
    strategy: Strategy,
) -> None:
    query = POOLS["ordinary"]()
    states = torch.get_rng_state(), random.getstate(), str(np.random.get_state())  # noqa: NPY002
    strategy.select(query, 7, generator())
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert str(np.random.get_state()) == states[2]  # noqa: NPY002
    assert json.loads(json.dumps(query.recorded, allow_nan=False)) == query.recorded
