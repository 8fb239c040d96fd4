"""What selection by Fisher information costs, beside the textbook's way and by size.

Run as `python -m tests.benchmarks.design`; half an hour, nearly all of it the textbook's. Memory is
read from /proc, so it needs Linux. Float64, two threads; gradients stored in float32.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time

import torch
from rich.console import Console
from rich.table import Table

from fm_al.fisher.design import Blocks, contrasts, fisher_factors, memory_needed, select
from fm_al.strategies.bait import BAIT
from tests import oracle
from tests.benchmarks.selection import kilobytes
from tests.strategies.synthetic import given_query

LABELLED = 15
GIB = 2**30


def synthetic_pool(images: int, classes: int, dimensions: int, others: int) -> tuple:
    """Embeddings as after a ReLU, logits of a random last layer, gradients at the other weights
    with a few common directions: factors (N, C - 1, C), embeddings, gradients."""
    generator = torch.Generator().manual_seed(0)

    def normal(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=generator)

    embeddings = normal(images, dimensions).relu_()
    factors = fisher_factors(embeddings @ normal(dimensions, classes) * 3 / dimensions**0.5)
    common = normal(8, others)
    gradients = torch.empty(images, classes - 1, others)
    for part in range(0, images, 1000):
        some = factors[part : part + 1000]
        jacobian = normal(len(some), classes, 8) @ common + 0.3 * normal(len(some), classes, others)
        gradients[part : part + 1000] = torch.bmm(some, jacobian.double())
    return factors, embeddings, gradients


def seconds(images: int, classes: int, dimensions: int, others: int, n: int) -> dict[str, float]:
    """Of the pool's Fisher information, and of selection by two numbers of picks: the start-up and
    a pick."""
    factors, embeddings, gradients = synthetic_pool(images, classes, dimensions, others)
    blocks = Blocks.of_last_layer(factors @ contrasts(classes), embeddings, gradients)
    start = time.perf_counter()
    pool_fisher = blocks.fisher()
    information = time.perf_counter() - start
    start = time.perf_counter()
    select(blocks, 1, pool_fisher)
    first = time.perf_counter() - start
    start = time.perf_counter()
    select(blocks, n + 1, pool_fisher)
    all_picks = time.perf_counter() - start
    return {"information": information, "start": first, "pick": (all_picks - first) / n}


def against_the_textbook(table: Table, images: int, classes: int, others: int, n: int) -> None:
    dimensions = 128
    factors, embeddings, gradients = synthetic_pool(images, classes, dimensions, others)
    scale = n / (LABELLED + n)

    start = time.perf_counter()
    blocks = Blocks.of_last_layer(factors @ contrasts(classes), embeddings, gradients)
    prior = blocks[:LABELLED].fisher() * (1 - scale)
    selection = select(blocks, n, blocks.fisher(), prior, scale)
    ours = time.perf_counter() - start

    start = time.perf_counter()
    last = (factors[:, :, :, None] * embeddings.double()[:, None, None]).flatten(2)
    V = torch.cat([last, gradients.double()], dim=2)
    rows = V.view(-1, V.shape[2])
    labelled = V[:LABELLED].reshape(-1, V.shape[2])
    prior = labelled.T @ labelled / LABELLED * (1 - scale)
    picks = oracle.textbook_design(n, V, rows.T @ rows / images, prior, scale, 1.0)
    textbook = time.perf_counter() - start

    same = sum(a == b for a, b in zip(selection.picks.tolist(), picks, strict=True))
    table.add_row(
        f"{n} picks of {images:,}, C = {classes}, k = {V.shape[2]:,}: seconds",
        f"{ours:.2f}",
        f"{textbook:.0f}",
        f"the textbook's, {same} of {n} picks the same",
        f"{textbook / ours:.0f}",
    )


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
    table = Table(title="Greedy selection by Fisher information: two threads")
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
    reckoned = sum(memory_needed(images - 100, classes - 1, k - dimensions).values())
    table.add_row("  of it reckoned for the matrices beforehand, GiB", f"{reckoned / GIB:.2f}")
    against_the_textbook(table, 5735, 4, 889, 70)
    against_the_textbook(table, 5735, 10, 122, 70)
    Console().print(table)

    table = Table(title="By size: seconds, and beside the row above")
    for column in ("N", "C", "D", "others", "k", "pool's information", "start-up", "a pick"):
        table.add_column(column, justify="right")
    base = (5000, 4, 128, 400)
    by_pool = [(images, *base[1:]) for images in (2500, 5000, 10_000)]
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

    table = Table(title=f"By picks: N, C, D, others = {base}")
    for column in ("picks", "seconds", "less the start-up, a pick"):
        table.add_column(column, justify="right")
    factors, embeddings, gradients = synthetic_pool(*base)
    blocks = Blocks.of_last_layer(factors @ contrasts(base[1]), embeddings, gradients)
    pool_fisher = blocks.fisher()
    start_up = None
    for n in (1, 50, 100, 200):
        start = time.perf_counter()
        select(blocks, n, pool_fisher)
        taken = time.perf_counter() - start
        start_up = start_up or taken
        table.add_row(f"{n}", f"{taken:.2f}", f"{(taken - start_up) / max(1, n - 1):.4f}")
    Console().print(table)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        torch.set_num_threads(2)
        print(json.dumps(measure_bait(*map(int, sys.argv[1:]))))
    else:
        main()
