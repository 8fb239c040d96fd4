"""What selection by Fisher information costs, beside the textbook's way and by size.

Run as `python -m tests.benchmarks.design`; a quarter of an hour, most of it the textbook's. Memory
is read from /proc, so it needs Linux.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from itertools import pairwise

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from fm_al.fisher.design import (
    Blocks,
    _Base,
    _Design,
    contrasts,
    fisher_factors,
    memory_needed,
    select,
)
from fm_al.strategies.bait import BAIT
from tests import oracle
from tests.benchmarks.selection import kilobytes
from tests.strategies.synthetic import given_query

LABELLED = 15
CPU = torch.device("cpu")
GIB = 2**30


def synthetic_pool(images: int, classes: int, dimensions: int, others: int) -> tuple[Tensor, ...]:
    """Logits (N, C) of a random last layer, embeddings (N, D) as after a ReLU, and a Jacobian
    (N, C, others) at other weights that has a few directions in common."""
    generator = torch.Generator().manual_seed(0)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator)

    embeddings = normal(images, dimensions).relu_()
    logits = embeddings @ normal(dimensions, classes) * 3 / dimensions**0.5
    jacobian = normal(images, classes, 8) @ normal(8, others)
    return logits, embeddings, jacobian.add_(normal(images, classes, others), alpha=0.3)


def blocks_of(logits: Tensor, embeddings: Tensor, jacobian: Tensor) -> Blocks:
    """All in float64."""
    factors = fisher_factors(logits)
    gradients = torch.bmm(factors, jacobian.double())
    return Blocks.of_last_layer(factors @ contrasts(logits.shape[1]), embeddings, gradients)


def textbook_factors(logits: Tensor, embeddings: Tensor, jacobian: Tensor) -> Tensor:
    """V_x with C rows and all k columns, (N, C, k) float64."""
    p = logits.double().softmax(dim=1)
    rows = p.sqrt()[:, :, None] * (torch.eye(p.shape[1], dtype=p.dtype) - p[:, None])
    last = (rows[:, :, :, None] * embeddings.double()[:, None, None]).flatten(2)
    return torch.cat([last, torch.bmm(rows, jacobian.double())], dim=2)


def against_the_textbook(table: Table, images: int, classes: int, others: int, n: int) -> None:
    pool = synthetic_pool(images, classes, 128, others)
    scale = n / (LABELLED + n)

    blocks = blocks_of(*pool)
    start = time.perf_counter()
    prior = blocks[:LABELLED].fisher() * (1 - scale)
    selection = select(blocks, n, blocks.fisher(), prior, scale)
    ours = time.perf_counter() - start

    V = textbook_factors(*pool)
    start = time.perf_counter()
    rows, labelled = V.flatten(0, 1), V[:LABELLED].flatten(0, 1)
    prior = labelled.T @ labelled / LABELLED * (1 - scale)
    picks = oracle.textbook_design(n, V, rows.T @ rows / images, prior, scale, 1.0)
    textbook = time.perf_counter() - start

    if selection.picks.tolist() != picks:
        raise SystemExit(f"picks differ from the textbook's: {selection.picks.tolist()}, {picks}")
    table.add_row(
        f"{n} picks of {images:,}, C = {classes}, k = {V.shape[2]:,}: seconds",
        f"{ours:.2f}",
        f"{textbook:.0f}",
        "the textbook's, the same picks",
        f"{textbook / ours:.0f}",
    )


def seconds(images: int, classes: int, dimensions: int, others: int, n: int) -> dict[str, float]:
    """Of the pool's Fisher information; of the start-up, and what of it k x k matrices take alone;
    of a pick, the mean of n."""
    blocks = blocks_of(*synthetic_pool(images, classes, dimensions, others))
    stamps = [time.perf_counter()]
    pool_fisher = blocks.fisher()
    stamps.append(time.perf_counter())
    forward = _Design(blocks, _Base(pool_fisher, None, 1.0))
    stamps.append(time.perf_counter())
    information = _Base(pool_fisher, None, 1.0).information()
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(information))
    inverse @ pool_fisher @ inverse
    stamps.append(time.perf_counter())
    for _ in range(n):
        forward.add_best()
    stamps.append(time.perf_counter())
    fisher, start_up, matrices, picks = (after - before for before, after in pairwise(stamps))
    return {
        "F": fisher,
        "start-up": start_up,
        "of it k x k": matrices,
        "pick": picks / n,
    }


def measure_bait(images: int, classes: int, dimensions: int, n: int) -> dict[str, float]:
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(images, dimensions, generator=generator).relu_()
    head = torch.randn(dimensions, classes, generator=generator) * 3 / dimensions**0.5
    query = given_query(embeddings, embeddings @ head, labelled=range(100))
    query.model.head = torch.nn.Linear(dimensions, classes, bias=False)
    bait = BAIT(1.0, 1.0, "fisher", "pool", True, None, None)
    start = time.perf_counter()
    bait.select(query, n, generator)
    return {"seconds": time.perf_counter() - start, "peak": kilobytes("VmHWM") * 1024}


def in_fresh_process(*sizes: int) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.benchmarks.design", *map(str, sizes)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    torch.set_num_threads(2)
    table = Table(title="Greedy selection by Fisher information: two threads, float64")
    for column in ("what", "ours", "the other way", "the other way is", "ratio"):
        table.add_column(column, justify="left" if column.startswith(("what", "the")) else "right")

    images, classes, dimensions, n = 50_000, 10, 512, 100
    cost = in_fresh_process(images, classes, dimensions, n)
    k = classes * dimensions
    dense = images * classes * k * 4
    table.add_row(
        f"BAIT, {n} picks of {images:,}, C = {classes}, k = {k:,}, oversampling 1: seconds",
        f"{cost['seconds']:.0f}",
    )
    table.add_row(
        "  peak of the whole process, GiB",
        f"{cost['peak'] / GIB:.2f}",
        f"{dense / GIB:.1f}",
        "V_x of all images, in float32",
        f"{dense / cost['peak']:.1f}",
    )
    reckoned = sum(memory_needed(images - 100, classes - 1, dimensions, 0, CPU).values())
    table.add_row("  of it reckoned for the matrices beforehand, GiB", f"{reckoned / GIB:.2f}")
    against_the_textbook(table, 5735, 4, 889, 70)
    against_the_textbook(table, 5735, 10, 122, 70)
    Console().print(table)

    table = Table(title="By size: seconds, and beside the row above")
    for column in ("N", "C", "D", "others", "k", "F", "start-up", "of it k x k alone", "a pick"):
        table.add_column(column, justify="right")
    by_pool = [(images, 4, 128, 400) for images in (2500, 5000, 10_000)]
    by_width = [(2000, 4, 128, others) for others in (320, 1024, 2432)]
    for group in (by_pool, by_width):
        before = None
        for sizes in group:
            cost = seconds(*sizes, n=30)
            shown = [
                f"{value:.3f}" + (f" x{value / before[name]:.1f}" if before else "")
                for name, value in cost.items()
            ]
            N, C, D, others = sizes
            table.add_row(f"{N:,}", f"{C}", f"{D}", f"{others:,}", f"{C * D + others:,}", *shown)
            before = cost
        table.add_section()
    Console().print(table)

    blocks = blocks_of(*synthetic_pool(*by_pool[1]))
    forward = _Design(blocks, _Base(blocks.fisher(), None, 1.0))
    table = Table("picks", "seconds", title=f"By picks: N, C, D, others = {by_pool[1]}")
    for n in (100, 100, 100):
        start = time.perf_counter()
        for _ in range(n):
            forward.add_best()
        last = len(forward.inside)
        table.add_row(f"{last - n + 1} to {last}", f"{time.perf_counter() - start:.2f}")
    Console().print(table)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        torch.set_num_threads(2)
        print(json.dumps(measure_bait(*map(int, sys.argv[1:]))))
    else:
        main()
