"""The presets of settings made for imbalance: long tails, and merged classes."""

from __future__ import annotations

import pytest
import torch

from fm_al.config import build, check
from tests.conftest import Compose
from tests.helpers.configs import resolved

POOLS = {  # what CIFAR-10 and CIFAR-100 have, and what the literature has of them by ratio
    "cifar10_lt": ([5000] * 10, {10: 20431, 50: 13996, 100: 12406}),
    "cifar100_lt": ([500] * 100, {10: 19573, 50: 12608, 100: 10847}),
}
MERGED = {2: [5000, 45000], 3: [5000, 5000, 40000]}


def class_names(count: int) -> tuple[str, ...]:
    return tuple(f"c{number}" for number in range(count))


@pytest.mark.parametrize("preset", POOLS)
def test_a_long_tail_has_the_counts_of_the_literature_and_a_balanced_test_set(
    preset: str, compose: Compose
) -> None:
    whole, totals = POOLS[preset]
    composed = compose(f"experiment={preset}")
    ratios = [int(ratio) for ratio in composed.hydra.sweeper.params["imbalance.ratio"].split(",")]
    assert ratios == [*totals]
    for ratio in ratios:
        config = resolved(compose(f"experiment={preset}", f"imbalance.ratio={ratio}"))
        check(config)
        names = class_names(len(whole))
        kept = build(config["imbalance"]).counts(names, whole, [100] * len(whole))
        assert sum(kept.pool) == totals[ratio]
        assert kept.pool[0] / kept.pool[-1] == pytest.approx(ratio)
        assert kept.test == [100] * len(whole)
        assert config["budget"]["total"] < totals[ratio] / 2
        assert config["trainer"]["sampling"] == "balanced"
        assert config["dataset"]["name"] == preset.removesuffix("_lt")


def test_merged_classes_are_those_of_galaxy(compose: Compose) -> None:
    composed = compose("experiment=merged_cifar10")
    swept = composed.hydra.sweeper.params["imbalance.classes"]
    assert [int(classes) for classes in swept.split(",")] == [*MERGED]
    for classes, pool in MERGED.items():
        config = resolved(compose("experiment=merged_cifar10", f"imbalance.classes={classes}"))
        check(config)
        kept = build(config["imbalance"]).counts(class_names(10), [5000] * 10, [1000] * 10)
        assert kept.pool == pool
        assert kept.test == [count // 5 for count in pool]
        assert config["trainer"]["class_balanced"] is True


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preset", "classes"), [("cifar10_lt", 10), ("cifar100_lt", 100), ("merged_cifar10", 2)]
)
def test_every_strategy_of_the_preset_can_work_with_its_network(
    preset: str, classes: int, compose: Compose
) -> None:
    strategies = compose(f"experiment={preset}").hydra.sweeper.params.strategy.split(",")
    assert {"random", "fishermask", "base", "cbal", "galaxy", "direct"} < {*strategies}
    for strategy in strategies:
        config = resolved(compose(f"experiment={preset}", f"strategy={strategy}"))
        check(config)
        data = {"channels": 3, "classes": classes, "image_size": (32, 32)}
        network = build(config["backbone"], **data).eval()
        chosen = build(config["strategy"])
        assert not chosen.reads_features
        chosen.check(network, torch.zeros(1, 3, 32, 32))


@pytest.mark.parametrize(
    ("strategy", "approximation"), [("bait", "blocks"), ("fishermask", "top_classes")]
)
def test_a_hundred_classes_are_approximated(
    strategy: str, approximation: str, compose: Compose
) -> None:
    config = resolved(compose("experiment=cifar100_lt", f"strategy={strategy}"))
    assert config["strategy"]["approximation"] == approximation
    config = resolved(compose("experiment=cifar10_lt", f"strategy={strategy}"))
    assert config["strategy"]["approximation"] is None
