"""What approximate information costs where exact BAIT does not fit, and what its picks are worth.

Run it as `python -m tests.benchmarks.approximations [PART ...]`. The parts are `binary` and
`blocks`, at full size or with `--size IMAGES DIMENSIONS CLASSES PICKS`, each in a process of its
own, and `objectives`, the approximations' picks beside the exact ones where these fit. Memory
is read from /proc, so it needs Linux. Images are MNIST and Fashion-MNIST where they are at hand
(FM_AL_DATA_DIR or data/), and scikit-learn's digits.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from fm_al.backbones.base import Backbone
from fm_al.data.images import Images, channel_statistics
from fm_al.errors import ConfigError, RunError
from fm_al.fisher.approximations import bait_ways
from fm_al.fisher.blocks import fisher_sum
from fm_al.fisher.criterion import Criterion
from fm_al.fisher.eigenvalues import information_scale
from fm_al.fisher.image_factors import ExactFactors
from fm_al.fisher.options import DesignOptions, OptionNames
from fm_al.fisher.pool import ScoredPool
from fm_al.fisher.pool_blocks import PoolBlocks
from fm_al.fisher.pool_design import PoolProblem
from fm_al.fisher.pool_weights import pool_weights, pool_weights_needs
from fm_al.fisher.selection import bait_selection
from fm_al.randomness import generator_for, global_generator_of
from tests.benchmarks.selection import kilobytes
from tests.helpers.configs import built

GIB = 2**30
CPU = torch.device("cpu")
# Images, dimensions, classes, picks; the most seconds, and GiB beside the pool's features.
COSTS = {
    "binary": ((1_281_167, 768, 1_000, 100), 300, 8),
    "blocks": ((35_000, 512, 100, 100), 600, 12),
}
AT_ONCE = 20_000  # made-up images
# Data set, widths of the network, labelled images, images in all.
POOLS = (
    ("digits", [16, 64], 60, 1_500),
    ("mnist", [16, 32, 64], 100, 3_000),
    ("fashion_mnist", [16, 32, 128], 100, 3_000),
    ("mnist", [16, 32, 256], 60, 1_500),
    ("fashion_mnist", [16, 32, 512], 200, 1_000),
)
PICKS = 50
TOP_CLASSES_WITHIN = 1.02  # of the exact picks' objective, with five classes


def made_up_pool(images: int, dimensions: int, classes: int) -> ScoredPool:
    """Features in float16 around a centre per class, after a ReLU, and logits that know these."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(classes, dimensions, generator=generator)
    head = (centres.relu() - centres.relu().mean(dim=0)).T * (30 / dimensions)
    embeddings = torch.empty(images, dimensions, dtype=torch.float16)
    logits = torch.empty(images, classes)
    for start in range(0, images, AT_ONCE):
        labels = torch.arange(start, min(start + AT_ONCE, images)) % classes
        h = centres[labels] + 2 * torch.randn(len(labels), dimensions, generator=generator)
        embeddings[start : start + AT_ONCE] = h.relu_()
        torch.mm(h, head, out=logits[start : start + AT_ONCE])
    labelled = torch.arange(classes)
    return ScoredPool(embeddings, logits, True, labelled, torch.arange(classes, images))


def measure(approximation: str, images: int, dimensions: int, classes: int, n: int) -> None:
    """Print seconds of a query, and GiB stated and at the peak beside features and logits."""
    pool = made_up_pool(images, dimensions, classes)
    options = DesignOptions(approximation=approximation)
    problem = PoolProblem(pool, 1.0, pool.unlabelled, pool.labelled[:0], n, options)
    (needs,) = bait_ways(pool, options, 1.0)[approximation].needs(problem).values()
    stated = sum(needs.values()) + sum(pool_weights_needs(images, classes).values())
    resident, start = kilobytes("VmRSS"), time.perf_counter()
    processor = time.process_time()
    generator = torch.Generator().manual_seed(0)
    selection = bait_selection(pool, n, generator, options, OptionNames())
    print(
        json.dumps(
            {
                "seconds": time.perf_counter() - start,
                "processor": time.process_time() - processor,
                "stated": stated / GIB,
                "peak": (kilobytes("VmHWM") - resident) * 1024 / GIB,
                "logits": pool.logits.nbytes / GIB,
                "process": kilobytes("VmHWM") * 1024 / GIB,
                "objective": selection.report["objective"],
            }
        )
    )


def cost_table(approximation: str, sizes: tuple[int, int, int, int]) -> Table:
    full, most_seconds, most_gib = COSTS[approximation]
    module = [sys.executable, "-m", "tests.benchmarks.approximations", "--measure"]
    command = [*module, approximation, "--size", *map(str, sizes)]
    # Errors of the process stay visible: only what it prints is captured.
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    cost = json.loads(done.stdout)
    images, dimensions, classes, n = sizes
    table = Table(title=f"BAIT {approximation}: {n} of {images:,} x {dimensions}, C = {classes:,}")
    for column in ("what", "measured", "limit"):
        table.add_column(column, justify="right" if column != "what" else "left")
    limits = sizes == full
    rows = (
        ("seconds", "seconds", most_seconds if limits else None),
        ("seconds of the processors", "processor", None),
        ("peak beside features and logits, GiB", "peak", None),
        ("  stated beforehand, GiB", "stated", None),
        ("logits, GiB", "logits", None),
        ("all beside the features, GiB", "beside", most_gib if limits else None),
    )
    cost["beside"] = cost["peak"] + cost["logits"]
    for what, name, limit in rows:
        table.add_row(what, f"{cost[name]:.2f}", "" if limit is None else f"{limit}")
        if limit is not None and cost[name] > limit:
            table.add_row(f"  {name}: beyond the limit", style="bold red")
    return table


def trained_pool(name: str, widths: list[int], labelled: int, images: int) -> ScoredPool | None:
    """The scores of a network that was trained on some images; None without the data set."""
    places = [Path(os.environ.get("FM_AL_DATA_DIR", "data")), Path("data")]
    for place in places:
        try:
            train = built("dataset", name).load(place, False).train
        except (RunError, ConfigError):
            continue
        break
    else:
        return None
    order = torch.randperm(len(train.images), generator=torch.Generator().manual_seed(0))[:images]
    shown, targets = train.images[order], train.targets[order]
    mean, std = channel_statistics(shown)
    scored = Images(shown, mean, std).batch(torch.arange(len(order)))
    with global_generator_of(generator_for(0, "weights", 0), CPU):
        size = (shown.shape[2], shown.shape[3])
        network: Backbone = built(
            "backbone", "cnn", widths=widths, channels=1, classes=10, image_size=size
        )
        fitted(network, scored[:labelled], targets[:labelled])
    network.eval()
    with torch.no_grad():
        embeddings = torch.cat([network.embed(batch) for batch in scored.split(500)])
        logits = network.head(embeddings)
    return ScoredPool(
        embeddings, logits, True, torch.arange(labelled), torch.arange(labelled, len(order))
    )


def fitted(network: nn.Module, images: Tensor, targets: Tensor) -> None:
    """Train until all labelled images are learnt, at most 100 epochs."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for _ in range(100):
        right = 0
        for batch in torch.randperm(len(images)).split(25):
            logits = network(images[batch])
            right += int((logits.argmax(dim=1) == targets[batch]).sum())
            optimizer.zero_grad()
            nn.functional.cross_entropy(logits, targets[batch]).backward()
            optimizer.step()
        if right == len(images):
            break


def exact_objective(pool: ScoredPool, temperature: float, n: int):
    """Return the function from picks to tr(M^{-1} F) of the exact information."""
    blocks = PoolBlocks(pool, ExactFactors(pool.classes, "fisher", temperature))
    options = DesignOptions()
    roots = pool_weights(pool, options, temperature).sqrt()
    everything = blocks.kept(torch.arange(len(pool)))
    F = fisher_sum([everything.scaled(roots)], blocks.width, CPU)
    weight = (n / (len(pool.labelled) + n)) ** 0.5
    prior = fisher_sum([everything[pool.labelled].scaled(weight)], blocks.width, CPU)
    criterion = Criterion(F, prior, options.regularization * information_scale(F))
    return lambda picks: criterion.value(everything[picks].scaled(weight))


def objective_table() -> Table:
    table = Table(title=f"Exact tr(M^-1 F) of {PICKS} picks, beside that of the exact picks")
    columns = ("pool", "D", "N", "T", "top 5", "top 2", "blocks", "binary", "random")
    for column in columns:
        table.add_column(column)
    ways = (("top_classes", 5), ("top_classes", 2), ("blocks", 5), ("binary", 5))
    for name, widths, labelled, images in POOLS:
        pool = trained_pool(name, widths, labelled, images)
        if pool is None:
            table.add_row(name, "no data")
            continue

        def selection(approximation: str | None, top_classes: int, pool: ScoredPool = pool):
            options = DesignOptions(approximation=approximation, top_classes=top_classes)
            generator = torch.Generator().manual_seed(0)
            return bait_selection(pool, PICKS, generator, options, OptionNames())

        exact = selection(None, 5)
        temperature = exact.report["temperature"]
        objective = exact_objective(pool, temperature, PICKS)
        best = objective(exact.picks)
        ratios = [objective(selection(*way).picks) / best for way in ways]
        drawn = torch.randperm(len(pool.unlabelled), generator=torch.Generator().manual_seed(0))
        ratios.append(objective(pool.unlabelled[drawn[:PICKS]]) / best)
        figures = [f"{ratio:.4f}" for ratio in ratios]
        sizes = [str(widths[-1]), f"{images:,}", f"{temperature:.2f}"]
        table.add_row(name, *sizes, *figures)
        if ratios[0] > TOP_CLASSES_WITHIN:
            table.add_row("  top 5: beyond the limit of 1.02", style="bold red")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=[*COSTS, "objectives"])
    parser.add_argument("--size", nargs=4, type=int, metavar=("N", "D", "C", "PICKS"))
    parser.add_argument("--measure", choices=COSTS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        measure(given.measure, *given.size)
        return
    for part in given.parts:
        if part == "objectives":
            Console().print(objective_table())
        else:
            Console().print(cost_table(part, tuple(given.size or COSTS[part][0])))


if __name__ == "__main__":
    main()
