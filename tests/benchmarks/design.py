"""What selection by Fisher information costs, beside the textbook's way and by size.

Run it as `python -m tests.benchmarks.design`. It takes a few minutes on two idle cores. Memory is
read from /proc, so it needs Linux.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from itertools import pairwise, product

import torch
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits
from torch import Tensor

from fm_al.backbones.cnn import CNN
from fm_al.fisher.blocks import Blocks
from fm_al.fisher.candidate_scores import CandidateScores
from fm_al.fisher.criterion import Criterion
from fm_al.fisher.design import greedy_design
from fm_al.fisher.eigenvalues import information_scale
from fm_al.fisher.factors import contrasts, fisher_factors
from fm_al.fisher.greedy import Selection
from fm_al.fisher.jacobian import MaskedGradients, diagonal_fisher
from fm_al.fisher.memory import design_needs
from fm_al.randomness import global_generator_of
from tests import oracle
from tests.benchmarks.selection import kilobytes
from tests.helpers.configs import built
from tests.helpers.synthetic import given_query

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


def trained_pool(images: int, classes: int, others: int) -> tuple[Tensor, ...]:
    """The same of a small network trained on some of the digits, at the weights of largest Fisher
    information; the pool is all of those classes, moved by up to two pixels."""
    digits = load_digits()
    kept = digits.target < classes
    first = torch.tensor(digits.images[kept], dtype=torch.float32)[:, None] / 16
    targets = torch.tensor(digits.target[kept])
    moves = sorted(product(range(-2, 3), repeat=2), key=lambda move: sum(map(abs, move)))
    moved = torch.cat([first.roll(move, dims=(2, 3)) for move in moves])[:images]
    with global_generator_of(torch.Generator().manual_seed(0), CPU):
        network = CNN(1, classes, (8, 8), [32, 64, 128])
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    for _ in range(60):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(first[:100]), targets[:100]).backward()
        optimizer.step()
    network.eval()
    with torch.no_grad():
        embeddings = network.embed(moved)
        logits = network.head(embeddings)
    some = torch.arange(0, images, images // 500)
    factors = fisher_factors(logits)
    sums = diagonal_fisher(network, [(moved[some], factors[some])])
    values = torch.cat([sums[name].flatten() for name in sums if "head" not in name])
    least = values.topk(others).values[-1]
    positions = {
        name: (sums[name].flatten() >= least).nonzero()[:, 0] for name in sums if "head" not in name
    }
    gradients = MaskedGradients(network, positions)
    one_class = torch.eye(classes, dtype=torch.float64).expand(images, classes, classes)
    return logits, embeddings, gradients(moved, one_class)


def blocks_of(logits: Tensor, embeddings: Tensor, jacobian: Tensor) -> Blocks:
    """With the gradients in float32, as a query keeps them."""
    factors = fisher_factors(logits)
    gradients = torch.bmm(factors, jacobian.double()).float()
    return Blocks.of_last_layer(factors @ contrasts(logits.shape[1]), embeddings, gradients)


def textbook_factors(logits: Tensor, embeddings: Tensor, jacobian: Tensor) -> Tensor:
    """V_x with C rows and all k columns, (N, C, k) float64."""
    p = logits.double().softmax(dim=1)
    rows = p.sqrt()[:, :, None] * (torch.eye(p.shape[1], dtype=p.dtype) - p[:, None])
    last = (rows[:, :, :, None] * embeddings.double()[:, None, None]).flatten(2)
    return torch.cat([last, torch.bmm(rows, jacobian.double())], dim=2)


def against_the_textbook(
    table: Table, name: str, pool: tuple[Tensor, ...], n: int, textbook_picks: int
) -> None:
    """lambda is 0.01 and a millionth of the mean eigenvalue. Of the textbook so many picks are
    timed, and what they took is scaled to n."""
    images, classes = pool[0].shape
    scale = n / (LABELLED + n)
    blocks = blocks_of(*pool)
    whole = blocks.fisher()

    def ours(rho: float) -> tuple[float, Selection]:
        start = time.perf_counter()
        prior = blocks[:LABELLED].fisher() * (1 - scale)
        fisher = blocks.fisher()
        regularization = rho * information_scale(fisher)
        selection = greedy_design(blocks, n, fisher, prior, scale, regularization)
        return time.perf_counter() - start, selection

    V = textbook_factors(*pool)
    start = time.perf_counter()
    rows, labelled = V.flatten(0, 1), V[:LABELLED].flatten(0, 1)
    prior = labelled.T @ labelled / LABELLED * (1 - scale)
    fisher = rows.T @ rows / images
    regularization = 0.01 * information_scale(whole)
    torch.linalg.inv(fisher + torch.eye(len(fisher), dtype=fisher.dtype))
    before = time.perf_counter()
    picks = oracle.textbook_design(textbook_picks, V, fisher, prior, scale, regularization)
    textbook = before - start + (time.perf_counter() - before) * n / textbook_picks

    how = "all" if textbook_picks == n else f"{textbook_picks} timed, scaled"
    for rho in (0.01, 1e-6):
        took, selection = ours(rho)
        if rho == 0.01 and selection.picks[:textbook_picks].tolist() != picks:
            raise SystemExit(f"picks differ: {selection.picks.tolist()}, textbook {picks}")
        table.add_row(
            f"{name}: {n} of {images:,}, C = {classes}, k = {V.shape[2]:,}, rho = {rho:g}: seconds",
            f"{took:.2f}",
            f"{textbook:.0f}",
            f"the textbook's ({how}), the same picks"
            if rho == 0.01
            else "the textbook's, as above",
            f"{textbook / took:.0f}",
        )


def seconds(images: int, classes: int, dimensions: int, others: int, n: int) -> dict[str, float]:
    """Of the pool's Fisher information; of the start-up, and what of it k x k matrices take alone;
    of a pick, the mean of n."""
    blocks = blocks_of(*synthetic_pool(images, classes, dimensions, others))
    stamps = [time.perf_counter()]
    pool_fisher = blocks.fisher()
    stamps.append(time.perf_counter())
    forward = CandidateScores(blocks, Criterion(pool_fisher, None, 1.0))
    stamps.append(time.perf_counter())
    information = pool_fisher.clone()
    information.diagonal().add_(1)
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
    bait = built("strategy", "bait", oversampling=1.0)
    start = time.perf_counter()
    bait.select(query, n, generator)
    return {"seconds": time.perf_counter() - start, "peak": kilobytes("VmHWM") * 1024}


def in_fresh_process(*sizes: int) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.benchmarks.design", *map(str, sizes)]
    # Errors of the process stay visible: only what it prints is captured.
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def main() -> None:
    torch.set_num_threads(2)
    table = Table(title="Greedy selection by Fisher information: two threads, float64")
    for column in ("what", "ours", "the other way", "the other way is", "ratio"):
        table.add_column(column, justify="left" if column.startswith(("what", "the")) else "right")

    images, classes, dimensions, n = 50_000, 10, 512, 40
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
    reckoned = sum(
        design_needs(images - 100, classes - 1, classes - 1, dimensions, 0, CPU).values()
    )
    table.add_row("  of it reckoned for the matrices beforehand, GiB", f"{reckoned / GIB:.2f}")
    against_the_textbook(table, "synthetic", synthetic_pool(600, 4, 128, 200), 30, 30)
    for classes, others in ((4, 889), (10, 122)):
        pool = trained_pool(5735, classes, others)
        against_the_textbook(table, "trained", pool, n=70, textbook_picks=2)
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
    forward = CandidateScores(blocks, Criterion(blocks.fisher(), None, 1.0))
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
