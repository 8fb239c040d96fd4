"""What BAIT over each image's likeliest classes costs, at a size where no k x k matrix fits.

Run it as `python -m tests.benchmarks.top_classes [IMAGES DIMENSIONS CLASSES PICKS]`. It takes a few
minutes on two idle cores. Memory is read from /proc, so it needs Linux.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time

import torch
from rich.console import Console
from rich.table import Table

from fm_al.fisher.pool import ScoredPool
from fm_al.fisher.top_class_blocks import TopClassBlocks
from fm_al.fisher.top_class_memory import TopClassSizes, top_classes_needs
from fm_al.fisher.top_classes import (
    KnownWeights,
    largest_eigenvalue,
    mean_eigenvalue,
    top_classes_design,
)
from tests.benchmarks.selection import kilobytes

SIZES = 50_000, 512, 100, 100  # images, dimensions, classes, picks
LABELLED_PER_CLASS = 5
GIB = 2**30
MOST_SECONDS, MOST_GIB = 600, 12


def made_up_pool(images: int, dimensions: int, classes: int) -> ScoredPool:
    """Embeddings around a centre per class, after a ReLU, and logits that know the centres."""
    generator = torch.Generator().manual_seed(0)

    def normal(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=generator)

    centres = normal(classes, dimensions)
    labels = torch.arange(images) % classes
    embeddings = centres[labels].add_(normal(images, dimensions), alpha=2).relu_()
    head = (centres.relu() - centres.relu().mean(dim=0)).T
    logits = (embeddings @ head) * (30 / dimensions)
    labelled = torch.arange(min(classes * LABELLED_PER_CLASS, images // 2))
    unlabelled = torch.arange(len(labelled), images)
    return ScoredPool(embeddings, logits, False, labelled, unlabelled)


def measure(
    images: int, dimensions: int, classes: int, n: int, top_classes: int, oversampling: float
) -> dict[str, float]:
    """Seconds of each part, in order, and GiB stated and at the peak."""
    pool = made_up_pool(images, dimensions, classes)
    resident = kilobytes("VmRSS")
    labelled = len(pool.labelled)
    weights = torch.full((images,), 1 / images, dtype=torch.float64)
    weight = n / (labelled + n)
    known = KnownWeights(pool.labelled, torch.full((labelled,), weight, dtype=torch.float64))
    start = time.perf_counter()
    blocks = TopClassBlocks.of_pool(pool, top_classes, "fisher", 1.0)
    scale = mean_eigenvalue(blocks, weights)
    scored = time.perf_counter()
    design = top_classes_design(
        blocks, pool.unlabelled, n, weights, known, weight, 0.01 * scale, oversampling
    )
    picked = time.perf_counter()
    largest_eigenvalue(blocks, weights)
    end = time.perf_counter()
    sizes = TopClassSizes(
        images=images,
        dimensions=dimensions,
        classes=classes,
        top_classes=top_classes,
        candidates=len(pool.unlabelled),
        known=labelled,
        n=n,
        oversampling=oversampling,
        copied=0,
    )
    needs = top_classes_needs(sizes, torch.device("cpu"))
    return {
        "blocks": scored - start,
        "design": picked - scored,
        "largest eigenvalue": end - picked,
        "seconds": end - start,
        "stated": sum(needs.values()) / GIB,
        "peak": (kilobytes("VmHWM") - resident) * 1024 / GIB,
        "process": kilobytes("VmHWM") * 1024 / GIB,
        "objective": design.objective,
    }


def in_fresh_process(*arguments: float) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.benchmarks.top_classes", *map(str, arguments)]
    # Errors of the process stay visible: only what it prints is captured.
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def main(images: int, dimensions: int, classes: int, n: int) -> None:
    table = Table(
        title=f"BAIT over likeliest classes: {n} picks of {images:,} x {dimensions}, "
        f"C = {classes}: two threads, float64"
    )
    columns = (
        "c",
        "oversampling",
        "seconds",
        "design",
        "GiB stated",
        "GiB at peak",
        "of the process",
    )
    for column in columns:
        table.add_column(column, justify="right")
    limited = []
    for top_classes, oversampling in ((2, 0), (2, 1), (5, 0)):
        cost = in_fresh_process(images, dimensions, classes, n, top_classes, oversampling)
        shown = (cost[x] for x in ("seconds", "design", "stated", "peak", "process"))
        table.add_row(f"{top_classes}", f"{oversampling}", *(f"{x:.2f}" for x in shown))
        limited.append(cost)
    Console().print(table)
    if limited[0]["seconds"] > MOST_SECONDS or limited[0]["process"] > MOST_GIB:
        raise SystemExit(f"more than {MOST_SECONDS} s or {MOST_GIB} GiB: {limited[0]}")


if __name__ == "__main__":
    if len(sys.argv) > 5:
        torch.set_num_threads(2)
        *sizes, share = sys.argv[1:]
        print(json.dumps(measure(*map(int, sizes), float(share))))
    else:
        main(*map(int, sys.argv[1:] or SIZES))
