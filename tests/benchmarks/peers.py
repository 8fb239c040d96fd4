"""Queries beside those of scikit-activeml: the same inputs, threads and number of picks.

scikit-activeml lives in an environment of its own:

    python -m venv peer && peer/bin/pip install scikit-activeml
    python -m tests.benchmarks.peers --python peer/bin/python

Every query runs in a process of its own; only the query is timed. scikit-activeml stores all
distances in float64 for probcover and max_herding, and all gradients for badge: those are compared
at `--images-stored`, and ours is measured alone at `--images`. Processor seconds are those of all
threads. Memory is what the query adds to its process; it is read from /proc, so it needs Linux.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.benchmarks.selection import kilobytes
from tests.helpers.configs import built
from tests.helpers.synthetic import given_query

STORED = ("probcover", "max_herding", "badge")  # theirs needs memory for all pairs or gradients
STRATEGIES = ("typiclust", "coreset", *STORED)
LABELLED, GROUPS = 100, 500
COLUMNS = {"seconds": "s", "processor": "processor s", "gib": "GiB"}
SCRIPT = Path(__file__).parent / "peer" / "scikit_activeml.py"


def write_inputs(folder: Path, images: int, options: argparse.Namespace) -> None:
    """Points in 500 groups, as after a ReLU, and logits of a random last layer."""
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
    before = kilobytes("VmRSS")
    start, used = time.perf_counter(), time.process_time()
    chosen = strategy.select(query, picks, torch.Generator().manual_seed(0))
    seconds, processor = time.perf_counter() - start, time.process_time() - used
    assert len(chosen.unique()) == picks
    peak = kilobytes("VmHWM")
    return {"seconds": seconds, "processor": processor, "gib": (peak - before) / 2**20}


def run(command: list[str], threads: int) -> dict[str, Any]:
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    environment = os.environ | dict.fromkeys(names, str(threads))
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return json.loads(ended.stdout)


def compare(options: argparse.Namespace) -> None:
    """Print a table in Markdown, row by row, since it takes long."""
    print(
        f"{options.picks} picks, {LABELLED} labelled, {options.dimensions} features, "
        f"{options.classes} classes, {options.threads} threads\n"
    )
    titles = [f"{what}, {who}" for what in COLUMNS.values() for who in ("ours", "theirs")]
    print(
        "|".join(["", " strategy ", " images ", *(f" {title} " for title in titles), " ratio ", ""])
    )
    print("| --- |" + " ---: |" * (len(titles) + 2), flush=True)
    slower = []
    for name in options.strategies:
        sizes = [options.images_stored, options.images] if name in STORED else [options.images]
        for number, images in enumerate(sizes):
            ours, theirs = both(name, images, options, alone=number > 0)
            ratio = theirs["seconds"] / ours["seconds"] if theirs else None
            slower += [name] if ratio and ratio < 1 else []
            measured = [
                f"{each[key]:.2f}" if each else "-" for key in COLUMNS for each in (ours, theirs)
            ]
            cells = [f"`{name}`", f"{images:,}", *measured, f"{ratio:.1f}" if ratio else "-"]
            print("|".join(["", *(f" {cell} " for cell in cells), ""]), flush=True)
    if slower:
        sys.exit(f"slower than scikit-activeml: {', '.join(slower)}")


def both(
    name: str, images: int, options: argparse.Namespace, alone: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What our query took, and theirs; nothing of theirs if ours is alone."""
    with tempfile.TemporaryDirectory() as folder:
        write_inputs(Path(folder), images, options)
        given = [folder, name, str(options.picks)]
        here = ["-m", "tests.benchmarks.peers", "--threads", str(options.threads), "--measure"]
        ours = run([sys.executable, *here, *given], options.threads)
        there = [options.python, str(SCRIPT), *given]
        return ours, {} if alone else run(there, options.threads)


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
        compare(options)


if __name__ == "__main__":
    main()
