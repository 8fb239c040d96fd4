"""Queries beside those of scikit-activeml: the same inputs, threads and number of picks.

scikit-activeml lives in an environment of its own:

    python -m venv peer && peer/bin/pip install scikit-activeml
    python -m tests.benchmarks.peers --python peer/bin/python

Every query runs in a process of its own; only the query is timed. scikit-activeml stores all
distances in float64 for probcover and max_herding, and all gradients for badge: those run with
`--images-stored`, the others with `--images`. Memory is what the query adds to the process.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from tests.helpers.configs import built
from tests.helpers.synthetic import given_query

STORED = ("probcover", "max_herding", "badge")  # theirs needs memory for all pairs or gradients
STRATEGIES = ("typiclust", "coreset", *STORED)
LABELLED, GROUPS = 100, 100
SCRIPT = Path(__file__).parent / "peer" / "scikit_activeml.py"


def write_inputs(folder: Path, images: int, options: argparse.Namespace) -> None:
    """Points in a hundred groups, as after a ReLU, and logits of a random last layer."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(GROUPS, options.dimensions, generator=generator)
    points = centres[torch.randint(GROUPS, (images,), generator=generator)] + 0.3
    points += 0.7 * torch.randn(images, options.dimensions, generator=generator)
    points.relu_()
    head = torch.randn(options.dimensions, options.classes, generator=generator)
    np.save(folder / "points.npy", points.numpy())
    np.save(folder / "logits.npy", (points @ head * 3 / options.dimensions**0.5).numpy())
    np.save(folder / "labelled.npy", np.arange(LABELLED))


def measure(folder: Path, name: str, picks: int, threads: int) -> dict[str, Any]:
    """Our query."""
    torch.set_num_threads(threads)
    arrays = [torch.from_numpy(np.load(folder / f"{part}.npy")) for part in ("points", "logits")]
    query = given_query(*arrays, np.load(folder / "labelled.npy").tolist())
    strategy = built("strategy", name)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    chosen = strategy.select(query, picks, torch.Generator().manual_seed(0))
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": seconds, "gib": (peak - before) / 2**20, "picks": chosen.tolist()}


def run(command: list[str], threads: int) -> dict[str, Any]:
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    environment = os.environ | dict.fromkeys(names, str(threads))
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return json.loads(ended.stdout)


def compare(options: argparse.Namespace, console: Console) -> None:
    columns = "strategy", "images", "ours, s", "theirs, s", "ratio", "ours, GiB", "theirs, GiB"
    table = Table(*columns)
    slower = []
    for name in options.strategies:
        images = options.images_stored if name in STORED else options.images
        with tempfile.TemporaryDirectory() as folder:
            write_inputs(Path(folder), images, options)
            given = [folder, name, str(options.picks)]
            here = ["-m", "tests.benchmarks.peers", "--threads", str(options.threads), "--measure"]
            ours = run([sys.executable, *here, *given], options.threads)
            theirs = run([options.python, str(SCRIPT), *given], options.threads)
        ratio = theirs["seconds"] / ours["seconds"]
        slower += [name] if ratio < 1 else []
        seconds = [f"{each['seconds']:.1f}" for each in (ours, theirs)]
        memory = [f"{each['gib']:.2f}" for each in (ours, theirs)]
        table.add_row(name, f"{images:,}", *seconds, f"{ratio:.1f}", *memory)
    console.print(
        f"scikit-activeml {theirs['version']}: {options.picks} picks, {LABELLED} labelled, "
        f"{options.dimensions} features, {options.classes} classes, {options.threads} threads"
    )
    console.print(table)
    if slower:
        sys.exit(f"slower than scikit-activeml: {', '.join(slower)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", default=os.environ.get("PEER_PYTHON"))
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--images-stored", type=int, default=10_000)
    parser.add_argument("--dimensions", type=int, default=512)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--picks", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--strategies", nargs="+", default=STRATEGIES, choices=STRATEGIES)
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)  # in the process of a query
    options = parser.parse_args()
    if options.measure:
        folder, name, picks = options.measure
        print(json.dumps(measure(Path(folder), name, int(picks), options.threads)))
    elif options.python is None:
        print(
            "peers: left out; give an environment with scikit-activeml, as PEER_PYTHON or by "
            "python -m tests.benchmarks.peers --python peer/bin/python"
        )
    else:
        compare(options, Console(width=110))


if __name__ == "__main__":
    main()
