"""What a trained network's masked gradients and diagonal Fisher cost, beside backward passes of the
same batch; `tests.benchmarks.query` times the query that they are part of.

Run it with `python -m tests.benchmarks.jacobian`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from fm_al.backbones.base import Backbone
from fm_al.fisher.factors import fisher_factors
from fm_al.fisher.jacobian import MaskedGradients, diagonal_fisher
from tests.benchmarks.query import input_passes, trained

BATCH = 128
MASK_IMAGES = 1024
REPEATS = 7
ORACLE_PASSES = 5
MASKED = {4: 889, 10: 122}  # weights beside the last layer, by classes


def masks(fisher: dict[str, Tensor], k: int) -> dict[str, dict[str, Tensor]]:
    """k weights beside the last layer: drawn at random, and of the largest diagonal Fisher."""
    others = {name: values.flatten() for name, values in fisher.items() if "head" not in name}
    scores = {"random": torch.rand(sum(map(len, others.values())))}
    scores["largest"] = torch.cat(list(others.values()))
    positions = {}
    for kind, score in scores.items():
        chosen = torch.zeros(len(score), dtype=torch.bool)
        chosen[score.topk(k).indices] = True
        parts = chosen.split([len(values) for values in others.values()])
        positions[kind] = {
            name: part.nonzero()[:, 0] for name, part in zip(others, parts, strict=True)
        }
    return positions


def one_image_one_class_seconds(model: Backbone, images: Tensor) -> float:
    """Of one backward pass from a single logit to all parameters, the batch's graph being there."""
    logits = model(images)
    parameters = list(model.parameters())
    seconds = []
    for image in range(ORACLE_PASSES):
        start = time.perf_counter()
        torch.autograd.grad(logits[image, 0], parameters, retain_graph=True)
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def fastest(*runs: Callable[[], object]) -> list[float]:
    """Seconds of each, the least of several repeats in turn."""
    seconds = [float("inf")] * len(runs)
    for _ in range(REPEATS):
        for index, run in enumerate(runs):
            start = time.perf_counter()
            run()
            seconds[index] = min(seconds[index], time.perf_counter() - start)
    return seconds


def add_rows(table: Table, classes: int, k: int) -> None:
    model, pool = trained(classes)
    order = torch.randperm(len(pool), generator=torch.Generator().manual_seed(0))
    images = pool.images(order[:BATCH])
    with torch.no_grad():
        cotangents = fisher_factors(model(images))
    fisher = diagonal_fisher(model, [(images, cotangents)])
    for kind, positions in masks(fisher, k).items():
        gradients = MaskedGradients(model, positions)
        ours, theirs = fastest(
            partial(gradients, images, cotangents), partial(input_passes, model, images, cotangents)
        )
        table.add_row(
            f"{k} masked weights, {kind}, C = {classes}, {BATCH} images: seconds",
            f"{ours:.3f}",
            f"{theirs:.3f}",
            f"a forward and {classes - 1} backward passes to the input",
            f"{ours / theirs:.2f}",
        )
    (ours,) = fastest(partial(diagonal_fisher, model, [(images, cotangents)]))
    ours *= MASK_IMAGES / BATCH
    passes = MASK_IMAGES * classes
    theirs = passes * one_image_one_class_seconds(model, images)
    table.add_row(
        f"diagonal Fisher, C = {classes}, {MASK_IMAGES:,} images by {BATCH} (one batch timed, "
        f"times {MASK_IMAGES // BATCH}): seconds",
        f"{ours:.1f}",
        f"{theirs:,.0f}",
        f"a backward pass through the graph of {BATCH} for each image and class (one timed, times "
        f"{passes:,})",
        f"1/{theirs / ours:.0f}",
    )


def main() -> None:
    torch.set_num_threads(2)
    table = Table(title="Gradients: resnet18_quarter, 32 x 32, two threads, float32, channels_last")
    for column in ("what", "ours", "the other way", "the other way is", "ratio"):
        table.add_column(column, justify="left" if column.startswith(("what", "the")) else "right")
    for classes, k in MASKED.items():
        add_rows(table, classes, k)
    Console().print(table)


if __name__ == "__main__":
    main()
