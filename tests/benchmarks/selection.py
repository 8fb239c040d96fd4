"""What a query costs: time, memory and the cost of a pick, beside scikit-learn on dense gradients.

Run as `python -m tests.benchmarks.selection`. Memory is read from /proc, so it needs Linux.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from sklearn.cluster import kmeans_plusplus

from fm_al.strategies.badge import BADGE, residuals
from fm_al.strategies.base import Query, Strategy
from fm_al.strategies.coreset import Coreset
from fm_al.strategies.distances import SquaredDistances
from tests.helpers.synthetic import given_query

CLASSES = 10
STRATEGIES: dict[str, type[Strategy]] = {"badge": BADGE, "coreset": Coreset}


def synthetic_query(images: int, dimensions: int) -> Query:
    """Embeddings as after a ReLU, a random last layer, the first 100 images labelled."""
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(images, dimensions, generator=generator).relu_()
    head = torch.randn(dimensions, CLASSES, generator=generator) * 3 / dimensions**0.5
    return given_query(embeddings, embeddings @ head, labelled=range(100))


def kilobytes(key: str) -> int:
    """VmRSS, now resident, or VmHWM, the most there was, of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))


def measure(strategy: str, images: int, dimensions: int, n: int) -> dict[str, float]:
    """Seconds, extra MB, and the median ms of a pick among the first and the last hundred."""
    query = synthetic_query(images, dimensions)
    query.probabilities  # noqa: B018 - computed beforehand, as every strategy shares them
    stamps: list[float] = []

    class Stamped(SquaredDistances):
        def __call__(self, index: int) -> torch.Tensor:
            if self.points is query.embeddings:
                stamps.append(time.perf_counter())
            return super().__call__(index)

    module = importlib.import_module(f"fm_al.strategies.{strategy}")
    before = kilobytes("VmRSS")
    with patch.object(module, "SquaredDistances", Stamped):
        start = time.perf_counter()
        STRATEGIES[strategy]().select(query, n, torch.Generator().manual_seed(0))
        seconds = time.perf_counter() - start
    extra = kilobytes("VmHWM") - before
    stamps = stamps[1 - n :]  # one for a pick; those before are of labelled images
    return {
        "seconds": seconds,
        "extra_mb": extra / 1000,
        "first_ms": float(np.median(np.diff(stamps[:101]))) * 1000,
        "last_ms": float(np.median(np.diff(stamps[-101:]))) * 1000,
    }


def measure_in_fresh_process(*arguments: str | int) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.benchmarks.selection", *map(str, arguments)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def seconds_of_badge(query: Query, n: int) -> float:
    query.probabilities  # noqa: B018 - as above
    start = time.perf_counter()
    BADGE().select(query, n, torch.Generator().manual_seed(0))
    return time.perf_counter() - start


def seconds_of_scikit_learn(gradients: np.ndarray, n: int, n_local_trials: int | None) -> float:
    start = time.perf_counter()
    kmeans_plusplus(gradients, n, random_state=0, n_local_trials=n_local_trials)
    return time.perf_counter() - start


def main() -> None:
    torch.set_num_threads(2)
    table = Table(title="Selection: two threads, float32, ten classes")
    for column in ("what", "ours", "the other way", "the other way is", "ratio"):
        table.add_column(column, justify="left" if column.startswith(("what", "the")) else "right")

    images, dimensions, n = 50_000, 512, 1_000
    stored = {
        "badge": ("the gradients, dense", images * CLASSES * dimensions * 4 / 1e6),
        "coreset": ("the distances, dense", images**2 * 4 / 1e6),
    }
    for strategy, (name, dense_mb) in stored.items():
        cost = measure_in_fresh_process(strategy, images, dimensions, n)
        what = f"{strategy}, {n:,} picks of {images:,} x {dimensions}"
        table.add_row(f"{what}: seconds", f"{cost['seconds']:.1f}")
        table.add_row(
            "  extra memory, MB",
            f"{cost['extra_mb']:.0f}",
            f"{dense_mb:,.0f}",
            name,
            f"{dense_mb / cost['extra_mb']:.0f}",
        )
        table.add_row(
            "  ms for a pick of the last 100",
            f"{cost['last_ms']:.1f}",
            f"{cost['first_ms']:.1f}",
            "a pick of the first 100",
            f"{cost['first_ms'] / cost['last_ms']:.2f}",
        )

    for images, dimensions, n in ((10_000, 128, 100), (10_000, 512, 100)):
        query = synthetic_query(images, dimensions)
        ours = seconds_of_badge(query, n)
        factors = residuals(query.probabilities)[:, :, None], query.embeddings[:, None]
        gradients = (factors[0] * factors[1]).flatten(1)[100:].numpy()
        for trials, name in ((1, "one trial a pick, as ours"), (None, "its default trials")):
            theirs = seconds_of_scikit_learn(gradients, n, trials)
            table.add_row(
                f"badge, {n} picks of {images:,} x {dimensions}: seconds",
                f"{ours:.2f}",
                f"{theirs:.1f}",
                f"kmeans_plusplus, {name}",
                f"{theirs / ours:.0f}",
            )
    Console().print(table)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        torch.set_num_threads(2)
        name, *sizes = sys.argv[1:]
        print(json.dumps(measure(name, *map(int, sizes))))
    else:
        main()
