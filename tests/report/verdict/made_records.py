"""Records of a made-up reproduction of the paper. Every strategy has a level of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fm_al.report.variants import OPTIONS, PUBLISHED, VARIANTS
from tests.helpers.made_runs import make_run

OF_VARIANT = {name: dict(zip(OPTIONS, values, strict=True)) for name, values in VARIANTS.items()}
MASK = {"fraction": 0.003, "mask": "standard", "oversampling": 0, "whole_last_layer": True}
LEVELS = {"random": 0.5, "entropy": 0.7, "margin": 0.71, "badge": 0.69, "coreset": 0.68}
FISHER = {PUBLISHED: 0.85, "rescaled": 0.84, "repaired": 0.87}
BAIT = {PUBLISHED: 0.60, "rescaled": 0.61, "repaired": 0.62}
POOL = (5000, 250, 250)
SEEDS = range(4)
ROUNDS = 9


def curve(level: float, seed: int, name: str) -> list[float]:
    """Accuracies that rise evenly to a level; noise depends on seed and name only."""
    noise = np.random.default_rng([seed, *map(ord, name)]).normal(0, 0.004, ROUNDS)
    return [float(each) for each in np.linspace(0.3, level, ROUNDS) + noise]


def make_records(
    folder: Path,
    fisher: Mapping[str, float] = FISHER,
    bait: Mapping[str, float] = BAIT,
    imbalance_made: float = 0.7,
    balanced: float = 0.7,
) -> Path:
    """Write the five folders.

    Args:
        fisher, bait: Last accuracies by variant.
        imbalance_made: That of the strategy made for imbalance.
        balanced: That of FisherMask without imbalance.
    """
    for part in ("full_length", "rivals"):
        for dataset in ("mnist", "fashion_mnist", "cifar10"):
            place = {"experiment": f"imbalanced_{dataset}", "dataset": dataset, "pool": POOL}
            _make_all(folder / part, place, fisher, bait)
            if part == "rivals":
                for seed in SEEDS:
                    accuracy = curve(imbalance_made, seed, f"galaxy{dataset}")
                    make_run(folder / part, "galaxy", seed, accuracy, **place)
    _make_balanced(folder / "balanced", balanced)
    _make_ablations(folder / "ablations")
    for ratio, gain in ((1, 0.0), (20, 0.1), (50, 0.2)):
        _make_ratio(folder / "ratios", ratio, gain)
    return folder


def _make_all(
    folder: Path,
    place: Mapping[str, Any],
    fisher: Mapping[str, float],
    bait: Mapping[str, float],
) -> None:
    for seed in SEEDS:
        for strategy, level in LEVELS.items():
            accuracy = curve(level, seed, f"{strategy}{place['dataset']}")
            make_run(folder, strategy, seed, accuracy, **place)
        for strategy, levels in (("fishermask", fisher), ("bait", bait)):
            for variant, level in levels.items():
                accuracy = curve(level, seed, f"{strategy}{variant}{place['dataset']}")
                options = OF_VARIANT[variant] | (MASK if strategy == "fishermask" else {})
                make_run(
                    folder, strategy, seed, accuracy, options=options, overrides=variant, **place
                )


def _make_balanced(folder: Path, level: float) -> None:
    """Two experiments, as if the repaired strategies had been run later; one run is unfinished.

    On CIFAR-10 all are finished, with the labels and as many images of a class as in the paper.
    """
    for seed in SEEDS:
        for strategy in ("random", "fishermask"):
            make_run(
                folder, strategy, seed, curve(0.7, seed, f"{strategy}cifar10"),
                experiment="balanced", dataset="cifar10_jpeg", pool=[2600] * 3,
                initial=500, per_round=500,
                options=OF_VARIANT[PUBLISHED] if strategy == "fishermask" else {},
            )  # fmt: skip
    place = {"dataset": "fashion_mnist", "pool": (500, 500, 500)}
    for seed in SEEDS:
        for strategy in ("random", "margin", "fishermask"):
            options = OF_VARIANT[PUBLISHED] if strategy == "fishermask" else {}
            accuracy = curve(level if options else 0.7, seed, f"{strategy}balanced")
            is_whole = not (options and seed == 0)
            make_run(
                folder, strategy, seed, accuracy,
                experiment="balanced", options=options, finished=is_whole, **place,
            )  # fmt: skip
        make_run(
            folder, "fishermask", seed, curve(0.7, seed, "repairedbalanced"),
            experiment="balanced_repaired", options=OF_VARIANT["repaired"], **place,
        )  # fmt: skip


def _make_ablations(folder: Path) -> None:
    place = {"experiment": "ablations", "dataset": "fashion_mnist", "pool": POOL}
    changes: list[dict[str, Any]] = [
        {},
        {"fraction": 0.001},
        {"mask": "random"},
        {"mask": "dispersed"},
        {"regularization": 1},
        {"regularization": 0.0001},
        {"oversampling": 0.5},
        {"whole_last_layer": False},
    ]
    for seed in SEEDS:
        for change in changes:
            name = ",".join(f"{key}={value}" for key, value in change.items())
            level = 0.8 if change.get("mask") == "random" else 0.7
            options = OF_VARIANT["repaired"] | MASK | change
            accuracy = curve(level, seed, f"ablation{name}")
            make_run(folder, "fishermask", seed, accuracy, options=options, overrides=name, **place)
        make_run(
            folder, "bait", seed, curve(0.7, seed, "bait"), options=OF_VARIANT["repaired"], **place
        )


def _make_ratio(folder: Path, ratio: int, gain: float) -> None:
    place = {
        "experiment": "imbalance_ratio",
        "dataset": "fashion_mnist",
        "pool": (50 * ratio, 50, 50),
        "imbalance": {"ratio": ratio},
        "overrides": f"ratio={ratio}",
    }
    for seed in SEEDS:
        levels = {"random": 0.5, "entropy": 0.6, "bait": 0.6, "fishermask": 0.6 + gain}
        for strategy, level in levels.items():
            options = OF_VARIANT[PUBLISHED] if strategy in ("fishermask", "bait") else {}
            accuracy = curve(level, seed, f"{strategy}{ratio}")
            make_run(folder, strategy, seed, accuracy, options=options, **place)
