"""Directories of runs with chosen metrics, as `fm_al.records.writing` would leave them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fm_al.records.curve import area_under_curve

CLASSES = ["plane", "car", "bird"]
CONFUSION = [[2800, 300, 300], [0, 3000, 300], [700, 0, 2600]]  # of 10,000 test images
MASKED = {"stem.weight": 4, "stages.0.weight": 24, "stages.1.weight": 60, "head.weight": 48}


def make_run(
    folder: Path,
    strategy: str,
    seed: int,
    accuracy: Sequence[float],
    *,
    options: Mapping[str, Any] | None = None,
    experiment: str = "trial",
    dataset: str = "cifar10",
    imbalance: Mapping[str, Any] | None = None,
    overrides: str | None = None,
    device: str = "cpu",
    initial: int = 10,
    per_round: int = 20,
    finished: bool = True,
    pool: Sequence[int] = (),
    further: bool = False,
    budget: Mapping[str, Any] | None = None,
) -> Path:
    """Write a run below `folder` whose rounds have this accuracy.

    Args:
        folder: Where to write to.
        options: The strategy's; `imbalance`: that group's.
        overrides: The part of the path that names them.
        pool: Images of each class in the pool; records of earlier versions lack them.
        further: Whether rounds have the metrics that were added later.
        budget: More of the budget. With `whole_pool` the one round labels all of `pool`.

    Returns:
        Its directory.
    """
    directory = folder / experiment / f"{dataset}-step" / "resnet18_quarter" / strategy
    directory = directory / (overrides or "") / f"seed{seed}"
    directory.mkdir(parents=True)
    labels = [initial + per_round * number for number in range(len(accuracy))]
    total = labels[-1]
    if budget and budget.get("whole_pool"):
        labels = [sum(pool)]
    class_name = "".join(word.capitalize() for word in strategy.split("_"))
    decides = {
        "dataset": {"_target_": "fm_al.data.datasets.made.Made", "name": dataset},
        "imbalance": {"_target_": "fm_al.data.imbalance.step.Step", "ratio": 10}
        | dict(imbalance or {}),
        "backbone": {"_target_": "fm_al.backbones.resnet.ResNet", "width": 16},
        "strategy": {"_target_": f"fm_al.strategies.{strategy}.{class_name}"} | dict(options or {}),
        "trainer": {
            "_target_": "fm_al.training.Trainer",
            "optimizer": {"lr": 0.001},
            "max_epochs": 200,
            "stop_at_train_accuracy": 0.99,
        },
        "seed": seed,
        "budget": {
            "initial": initial,
            "per_round": per_round,
            "total": total,
            "train_before_first_query": True,
        }
        | dict(budget or {}),
        "experiment_name": experiment,
        "device": {"kind": device, "threads": 1},
    }
    provenance = {
        "fingerprint": f"{hash(str(decides)):x}",
        "decides": decides,
        "class_names": CLASSES,
        **({"pool_counts": list(pool)} if pool else {}),
        "software": {"python": "3.11.7", "torch": "2.9.0", "git_commit": "a" * 40, "source": "b"},
        "starts": [
            {
                "time": "2026-11-01T10:00:00+00:00",
                "host": f"node{seed}",
                "process": 7,
                "job": None,
                "node": None,
                "partition": None,
                "sweep": None,
                "command": ["fm-al", "-m", f"experiment={experiment}"],
            }
        ],
    }
    rounds = [
        _round(number, labels, float(value), strategy, seed)
        | (_further(float(value)) if further else {})
        for number, value in enumerate(accuracy)
    ]
    (directory / "provenance.json").write_text(json.dumps(provenance, indent=2))
    written = rounds if finished else rounds[:-1]
    (directory / "rounds.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in written))
    if finished:
        final = rounds[-1]
        metrics = ["labelled", "accuracy", "balanced_accuracy", "macro_f1", "per_class_accuracy"]
        metrics += _further(0.0) if further else {}
        result = {metric: final[metric] for metric in metrics} | {
            "rounds": len(rounds),
            "loss": final["loss"],
            "area_under_curve": area_under_curve(labels, [float(value) for value in accuracy]),
            "class_names": CLASSES,
            "confusion_matrix": CONFUSION,
            "seconds": {
                stage: sum(each["seconds"].get(stage, 0.0) for each in rounds)
                for stage in ("train", "evaluate", "query")
            },
        }
        (directory / "result.json").write_text(json.dumps(result))
    return directory


def _round(
    number: int, labels: Sequence[int], accuracy: float, strategy: str, seed: int
) -> dict[str, Any]:
    last = number == len(labels) - 1
    queried = 0 if last else labels[number + 1] - labels[number]
    shares = np.array([1, 2 + number, 1 + seed % 2])
    counts = np.floor(queried * shares / shares.sum()).astype(int)
    counts[1] += queried - counts.sum()
    masked = {name: size + number for name, size in MASKED.items()}
    return {
        "round": number,
        "labelled": labels[number],
        "labelled_classes": [labels[number] - 2, 1, 1],
        "queried": list(range(100 * number, 100 * number + queried)),
        "queried_classes": counts.tolist(),
        "accuracy": accuracy,
        "balanced_accuracy": accuracy - 0.01,
        "macro_f1": accuracy - 0.02,
        "per_class_accuracy": [accuracy, min(1.0, accuracy + 0.1), accuracy - 0.1],
        "loss": 1 - accuracy,
        "epochs": 5,
        "train_accuracy": 1.0,
        "epoch_cap_hit": False,
        "seconds": {"train": 1.0 + number, "evaluate": 0.5} | ({} if last else {"query": 2.0}),
        "strategy": {"mask_sizes": masked}
        if strategy.startswith("fishermask") and not last
        else {},
    }


def _further(accuracy: float) -> dict[str, float]:
    return {
        "worst_class_accuracy": accuracy - 0.1,
        "expected_calibration_error": 0.3 - accuracy / 4,
        "brier_score": 1.2 - accuracy,
    }


def make_trial(folder: Path, experiment: str = "trial", seeds: int = 5, **named: Any) -> None:
    """Four strategies with as many seeds, five rounds; fishermask is best, random is worst."""
    drawn = np.random.default_rng(0)
    rise = np.array([0.3, 0.5, 0.62, 0.7, 0.75])
    gains = {"random": 0.0, "entropy": 0.03, "badge": 0.05, "fishermask": 0.06}
    of_seed = drawn.normal(0, 0.02, seeds)
    for strategy, gain in gains.items():
        for seed in range(seeds):
            noise = drawn.normal(0, 0.01, len(rise))
            accuracy = rise + gain * np.array([0, 1, 1, 1, 1]) + of_seed[seed] + noise
            accuracy[0] = rise[0] + of_seed[seed]  # the same labels
            make_run(
                folder, strategy, seed, accuracy.round(4).tolist(), experiment=experiment, **named
            )
