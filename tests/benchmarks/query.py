"""A whole FisherMask query of a trained network, beside passes through that network.

Imbalanced CIFAR-10's size, four and ten classes. Images are CIFAR-10's where its JPEG files are at
hand (FM_AL_DATA_DIR or data/), else scikit-learn's digits, enlarged and drawn repeatedly. Run it
with `python -m tests.benchmarks.query`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from unittest.mock import patch

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional

from fm_al.backbones.base import Backbone
from fm_al.backbones.folding import folded
from fm_al.backbones.resnet import ResNet
from fm_al.data.base import Split
from fm_al.data.images import Images, channel_statistics
from fm_al.data.pool import Pool
from fm_al.fisher import pool_design, selection
from fm_al.fisher.factors import fisher_factors
from fm_al.fisher.jacobian import diagonal_fisher
from fm_al.fisher.pool_blocks import PoolBlocks
from fm_al.randomness import generator_for, global_generator_of
from fm_al.strategies.base import Query
from fm_al.strategies.fishermask import FisherMask
from tests.helpers.configs import built

RARE, POOL = 250, 5_750  # images of every class but one, and of all
MASK_IMAGES = 1_024
LABELLED = 225
PICKS = 70
BATCH = 128
SAMPLE = 8 * BATCH  # images that are timed for what grows with their number
REPEATS = 2


@cache
def photographs() -> Split | None:
    """CIFAR-10's training images."""
    for place in (os.environ.get("FM_AL_DATA_DIR", "data"), "data"):
        root = Path(place, "cifar10-jpeg")
        if root.is_dir():
            return built("dataset", "cifar10_jpeg", root=str(root)).load(Path(place), False).train
    return None


def digits() -> Split:
    """As many images of each class as the pool has, of the same size, each moved by up to four
    pixels."""
    train = built("dataset", "digits").load(Path("data"), False).train
    generator = torch.Generator().manual_seed(0)
    chosen = [(train.targets == c).nonzero()[:, 0] for c in range(10)]
    drawn = torch.cat(
        [own[torch.randint(len(own), (POOL,), generator=generator)] for own in chosen]
    )
    large = functional.interpolate(train.images[drawn].float(), 32, mode="bilinear").byte()
    moves = torch.randint(-4, 5, (len(large), 2), generator=generator).tolist()
    moved = [image.roll(move, (1, 2)) for image, move in zip(large, moves, strict=True)]
    return Split(torch.stack(moved).expand(-1, 3, -1, -1), train.targets[drawn])


def trained(classes: int) -> tuple[Backbone, Pool]:
    """The paper's network, trained as the paper has it on as many labelled images of every class,
    and its pool, in which class 1 is common and the others are rare."""
    split = photographs() or digits()
    images, targets = split.images, split.targets
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    counts = [RARE] * classes
    counts[1] = POOL - RARE * (classes - 1)
    of_class = [order[targets[order] == c][:count] for c, count in enumerate(counts)]
    chosen = torch.cat(of_class)
    layout = torch.channels_last
    mean, std = channel_statistics(images[chosen])
    pool = Pool(Images(images[chosen], mean, std, 4, True, layout), targets[chosen], classes)
    starts = torch.tensor([0, *counts[:-1]]).cumsum(0)
    each = LABELLED // classes
    pool.label(torch.cat([torch.arange(start, start + each) for start in starts.tolist()]))
    with global_generator_of(generator_for(0, "weights", 0), torch.device("cpu")):
        network = ResNet(3, classes, (32, 32), "basic", 16, [2, 2, 2, 2], head_bias=False)
    network.to(memory_format=layout)
    trainer = built("trainer", "paper", batch_size=500)
    trainer.fit(network, pool, None, 0, 0, lambda epoch, accuracy: None)
    return network.eval(), pool


def input_passes(network: nn.Module, images: Tensor, cotangents: Tensor) -> None:
    """A forward pass, and a backward pass to the input for each cotangent; weights are frozen."""
    network.requires_grad_(False)
    inputs = images.detach().requires_grad_()
    logits = network(inputs)
    for cotangent in cotangents.float().unbind(1):
        torch.autograd.grad(logits, inputs, cotangent, retain_graph=True)
    network.requires_grad_(True)


def convolution_calls(network: nn.Module, images: Tensor) -> list[tuple[nn.Conv2d, Tensor]]:
    """Every convolution with its input."""
    calls: list[tuple[nn.Conv2d, Tensor]] = []
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    hooks = [
        module.register_forward_hook(lambda module, given, _: calls.append((module, given[0])))
        for module in convolutions
    ]
    with torch.inference_mode():
        network(images)
    for hook in hooks:
        hook.remove()
    return calls


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def fastest(*runs: Callable[[], object]) -> list[float]:
    """Seconds of each, the least of several repeats in turn."""
    return [min(each) for each in zip(*(map(seconds, runs) for _ in range(REPEATS)), strict=True)]


@contextmanager
def timed(spent: dict[str, float], name: str, owner: object, attribute: str) -> Iterator[None]:
    """Adds to `spent` what calls of a function take."""
    function = getattr(owner, attribute)

    def timing(*given: object, **named: object) -> object:
        start = time.perf_counter()
        try:
            return function(*given, **named)
        finally:
            spent[name] = spent.get(name, 0.0) + time.perf_counter() - start

    with patch.object(owner, attribute, timing):
        yield


def query_seconds(strategy: FisherMask, network: Backbone, pool: Pool) -> dict[str, float]:
    """Of a query and its parts."""
    spent: dict[str, float] = {}

    with (
        timed(spent, "mask", selection, "network_mask"),
        timed(spent, "gradients", PoolBlocks, "of"),
        timed(spent, "selection", pool_design, "greedy_design"),
    ):
        query = Query(network, pool, BATCH)
        start = time.perf_counter()
        spent["scoring"] = seconds(lambda: query.logits)
        strategy.select(query, PICKS, generator_for(0, "query", 0))
        spent["whole"] = time.perf_counter() - start
    return spent


def add_rows(table: Table, classes: int) -> None:
    network, pool = trained(classes)
    strategy = built("strategy", "fishermask", mask_images=MASK_IMAGES)
    images = pool.images(torch.arange(SAMPLE))
    with torch.no_grad():
        cotangents = fisher_factors(network(images))
    batches = list(zip(images.split(BATCH), cotangents.split(BATCH), strict=True))
    calls = [convolution_calls(network, each) for each, _ in batches]

    def limit() -> None:
        for batch in batches:
            input_passes(network, *batch)

    @torch.inference_mode()
    def convolutions() -> None:
        for of_batch in calls:
            for module, given in of_batch:
                module(given)

    @torch.inference_mode()
    def scoring() -> None:
        with folded(network, images[:1]):
            for each, _ in batches:
                network(each)

    spent: dict[str, float] = {}

    def whole_query() -> None:
        new = query_seconds(strategy, network, pool)
        if not spent or new["whole"] < spent["whole"]:
            spent.update(new)

    passes, alone, scored, fisher, _ = fastest(
        limit, convolutions, scoring, partial(diagonal_fisher, network, batches), whole_query
    )
    parts = ", ".join(
        f"{name} {spent[name]:.1f}" for name in ("scoring", "mask", "gradients", "selection")
    )
    of_all = passes * (len(pool) + MASK_IMAGES) / SAMPLE
    backward = f"a forward and {classes - 1} backward passes to the input"
    rows = [
        (f"query of {PICKS} of {len(pool):,} ({parts})", spent["whole"], of_all, backward),
        (f"diagonal Fisher of {SAMPLE:,}", fisher, passes, backward),
        (f"scoring {SAMPLE:,}", scored, alone, "the convolutions alone"),
    ]
    for what, ours, theirs, which in rows:
        ratio = f"{ours / theirs:.2f}"
        table.add_row(f"C = {classes}, {what}", f"{ours:.2f}", f"{theirs:.2f}", which, ratio)


def main() -> None:
    torch.set_num_threads(2)
    images = "CIFAR-10" if photographs() else "digits"
    table = Table(title=f"FisherMask, resnet18_quarter, {images}, two threads, float32: seconds")
    for column in ("what", "ours", "limit", "the limit is", "ratio"):
        table.add_column(column, justify="left" if column.startswith(("what", "the")) else "right")
    for classes in (4, 10):
        add_rows(table, classes)
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
