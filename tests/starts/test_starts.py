"""How the first images are chosen."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from fm_al.data.images import Images
from fm_al.data.pool import Pool
from fm_al.errors import ConfigError
from fm_al.starts.balanced import BalancedStart
from fm_al.starts.random import RandomStart
from fm_al.starts.strategy import StrategyStart
from fm_al.starts.stratified import StratifiedStart, proportional
from fm_al.strategies.base import Strategy
from fm_al.strategies.entropy import Entropy
from fm_al.strategies.kmeans import KMeans
from fm_al.strategies.representation import FeatureOptions

SIZES = [60, 5, 25, 10]


def pool(sizes: list[int] = SIZES) -> Pool:
    """Images whose classes have these sizes, with one feature: their index."""
    targets = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    images = torch.zeros(len(targets), 1, 2, 2, dtype=torch.uint8)
    stored = Images(images, torch.tensor([0.5]), torch.tensor([0.25]))
    return Pool(stored, targets, len(sizes), torch.arange(float(len(targets)))[:, None])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def counts(chosen: Tensor) -> list[int]:
    of_classes = Counter(pool().hidden_targets(chosen).tolist())
    return [of_classes[c] for c in range(len(SIZES))]


@pytest.mark.parametrize("start", [RandomStart(), BalancedStart(), StratifiedStart()])
@pytest.mark.parametrize("n", [2, 17, 20])
def test_a_choice_has_distinct_images_and_is_given_by_the_generator(start, n: int) -> None:
    chosen = start.choose(pool(), n, generator())
    assert chosen.dtype == torch.int64
    assert chosen.shape == (n,)
    assert len(chosen.unique()) == n
    assert torch.equal(chosen, start.choose(pool(), n, generator()))
    assert not torch.equal(chosen, start.choose(pool(), n, generator(1)))


def test_a_random_start_is_that_of_the_first_version() -> None:
    assert torch.equal(
        RandomStart().choose(pool(), 20, generator()),
        torch.randperm(100, generator=generator())[:20],
    )


def test_a_balanced_start_has_all_classes_alike_and_the_rest_of_different_ones() -> None:
    assert counts(BalancedStart().choose(pool(), 20, generator())) == [5, 5, 5, 5]
    assert sorted(counts(BalancedStart().choose(pool(), 19, generator()))) == [4, 5, 5, 5]
    assert sorted(counts(BalancedStart().choose(pool(), 2, generator()))) == [0, 0, 1, 1]
    larger = [
        counts(BalancedStart().choose(pool(), 5, generator(seed))).index(2) for seed in range(20)
    ]
    assert {*larger} == {0, 1, 2, 3}


def test_a_class_that_is_too_small_for_a_balanced_start_is_named() -> None:
    expected = (
        r"budget\.start=balanced: needs 6 images of class number 1, which has 5 in the pool; lower "
        r"budget\.initial=24, or use budget\.start=stratified"
    )
    with pytest.raises(ConfigError, match=expected):
        BalancedStart().choose(pool(), 24, generator())


def test_a_stratified_start_follows_the_pool() -> None:
    assert counts(StratifiedStart().choose(pool(), 20, generator())) == [12, 1, 5, 2]
    assert counts(StratifiedStart().choose(pool(), 100, generator())) == SIZES
    assert proportional(10, SIZES) == [6, 1, 2, 1]  # 6, 0.5, 2.5, 1: the first of equal remainders
    assert proportional(0, [3, 4]) == [0, 0]
    assert proportional(7, [3, 4]) == [3, 4]


@pytest.mark.parametrize("start", [BalancedStart(), StratifiedStart()])
def test_images_of_a_class_are_drawn_uniformly_and_mixed(start) -> None:
    drawn = Counter(
        index for seed in range(200) for index in start.choose(pool(), 20, generator(seed)).tolist()
    )
    assert len(drawn) == 100
    firsts = {int(start.choose(pool(), 20, generator(seed))[0]) // 60 for seed in range(50)}
    assert firsts == {0, 1}, "the order is not that of the classes"


@dataclass(frozen=True, kw_only=True)
class Largest(FeatureOptions, Strategy):
    """The images of the largest features."""

    asks: str = "features"

    def select(self, query, n, generator):
        assert len(query.labelled) == 0
        return getattr(query, self.asks)[:, 0].argsort(descending=True)[:n]


def test_a_strategy_chooses_by_features_with_nothing_labelled() -> None:
    start = StrategyStart(strategy=Largest())
    assert start.reads_features
    assert not start.uses_classes
    assert start.choose(pool(), 3, generator()).tolist() == [99, 98, 97]


def test_options_of_a_strategy_that_starts_are_named_as_they_are_typed() -> None:
    start = StrategyStart(strategy=KMeans(representation="features", max_candidates=5))
    with pytest.raises(ConfigError, match=r"^budget\.start\.strategy\.max_candidates=5: "):
        start.check(20)


def test_a_strategy_that_asks_the_network_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"budget\.start\.strategy=Entropy: asks the network"):
        StrategyStart(strategy=Entropy())
    start = StrategyStart(strategy=Largest(asks="embeddings"))
    with pytest.raises(ConfigError, match=r"budget\.start\.strategy=Largest: asks the net"):
        start.choose(pool(), 3, generator())
