"""Queries of large pools: memory against what is stated beforehand, time against N.

Features are made up, float16 in main memory, read through a linear network. Every query runs in a
process of its own at a quarter, half and all of the images. Run it with
`python -m tests.benchmarks.large_pools`; `--images 1281167 --picks 1000` is ImageNet's size, which
takes more than an hour on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch
from rich.console import Console

from fm_al.backbones.linear import Linear
from fm_al.data.images import Images
from fm_al.data.pool import Pool
from fm_al.device import GIB
from fm_al.strategies.base import Query
from fm_al.strategies.candidates import check_memory
from tests.helpers.configs import built

STRATEGIES = ("margin", "coreset", "badge", "kmeans")
CHUNK = 8_192  # images that are made up at a time
LABELLED = 2_000
BATCH = 1_024
ALLOCATOR = 0.1 * GIB  # buffers of libraries, beside tensors
# glibc's allocator keeps up to 0.6 GiB of what was freed, and how much differs from run to run.
RETURNING_MEMORY = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(2**17)}


def made_up_query(images: int, dimensions: int, classes: int) -> Query:
    """Features around centres of classes, and a network that knows these."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(classes, dimensions, generator=generator)
    features = torch.empty(images, dimensions, 1, 1, dtype=torch.float16)
    targets = torch.randint(classes, (images,), generator=generator)
    for some, classes_of in zip(features.split(CHUNK), targets.split(CHUNK), strict=True):
        noise = torch.randn(len(some), dimensions, generator=generator)
        some[:, :, 0, 0] = noise.add_(centres[classes_of], alpha=0.5)
    network = Linear(dimensions, classes, (1, 1))
    with torch.no_grad():
        network.head.weight.copy_(centres).mul_(0.1)
    pool = Pool(Images(features, torch.zeros(1), torch.ones(1)), targets, classes)
    pool.label(torch.randperm(images, generator=generator)[:LABELLED])
    return Query(network, pool, BATCH)


def resident() -> int:
    """Bytes of memory that this process has now."""
    (kibibytes,) = re.findall(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(kibibytes) * 1024


def measure(name: str, options: argparse.Namespace, images: int) -> dict[str, float]:
    """A query: its seconds, the bytes it stated, and the most that it had beside the features."""
    torch.set_num_threads(options.threads)
    small = made_up_query(2 * LABELLED, options.dimensions, options.classes)
    built("strategy", name).select(small, 10, torch.Generator())  # loads code, which counts
    query = made_up_query(images, options.dimensions, options.classes)
    iterations = {"iterations": options.iterations} if name == "kmeans" else {}
    strategy = built("strategy", name, **iterations)
    check_memory(strategy, query, options.picks)
    stated = sum(strategy.memory(query.sizes, options.picks).values())
    before, start = resident(), time.perf_counter()
    picks = strategy.select(query, options.picks, torch.Generator().manual_seed(0))
    seconds = time.perf_counter() - start
    assert len(picks.unique()) == options.picks
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    return {"seconds": seconds, "stated": stated, "peak": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=320_292)
    parser.add_argument("--dimensions", type=int, default=768)
    parser.add_argument("--classes", type=int, default=1_000)
    parser.add_argument("--picks", type=int, default=250)
    parser.add_argument("--iterations", type=int, default=2, help="of k-means")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--strategies", nargs="+", default=STRATEGIES)
    parser.add_argument("--measure", help=argparse.SUPPRESS)  # in the process of a query
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, options, options.images)))
        return
    console = Console(width=110)
    console.print(
        f"{options.picks:,} picks, {options.dimensions} features, {options.classes:,} classes, "
        f"{options.threads} threads, k-means with {options.iterations} iterations"
    )
    for name in options.strategies:
        for images in (options.images // 4, options.images // 2, options.images):
            given = [*sys.argv[1:], "--images", str(images), "--measure", name]
            command = [sys.executable, "-m", "tests.benchmarks.large_pools", *given]
            ended = subprocess.run(
                command, check=True, stdout=subprocess.PIPE, text=True, env=RETURNING_MEMORY
            )
            console.print(line(name, images, json.loads(ended.stdout)))


def line(name: str, images: int, cost: dict[str, float]) -> str:
    """What a query cost; printed at once, since all of them take long."""
    kept = cost["peak"] <= cost["stated"] + ALLOCATOR
    return (
        f"{name:8} {images:9,} images: {cost['stated'] / GIB:6.2f} GiB stated, "
        f"{cost['peak'] / GIB:6.2f} at most{'' if kept else ' (MORE)'}, {cost['seconds']:7.1f} s, "
        f"{1e6 * cost['seconds'] / images:6.1f} µs per image"
    )


if __name__ == "__main__":
    main()
