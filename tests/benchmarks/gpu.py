"""The limits that hold on a GPU (one H100): a query, a whole paper run alone, bytes and operations.

Run it with `python -m tests.benchmarks.gpu`; without a CUDA GPU it says so and ends. Images are
CIFAR-10's where its JPEG files are at hand (FM_AL_DATA_DIR or data/), else scikit-learn's digits,
enlarged and drawn repeatedly.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from fm_al.backbones.base import Backbone
from fm_al.data.pool import Pool
from fm_al.device import GIB, Device
from fm_al.randomness import generator_for
from fm_al.strategies.base import Query
from tests.benchmarks import query as query_benchmark
from tests.helpers.command_line import ROOT
from tests.helpers.configs import built
from tests.helpers.moved import moved_network, moved_pool

QUERY_LIMIT = 2.0  # seconds, of a FisherMask query on imbalanced CIFAR-10
RUN_LIMIT = 60.0  # seconds, of a whole run of imbalanced_cifar10 alone
PICKS = 70
REPEATS = 3


@dataclass
class Measurement:
    """One line. good: None if there is no limit."""

    name: str
    measured: str
    limit: str
    good: bool | None
    seconds: float


class Counted(TorchDispatchMode):
    """Counts calls of kernels, and their floating-point operations and bytes read or written.

    Views count as no bytes. Operations are those that torch's own counter knows: products and
    convolutions.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.bytes = 0
        self.operations: Counter[str] = Counter()  # by dtype

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        made = [x for x in tree_leaves(result) if isinstance(x, Tensor)]
        if func.is_view:
            return result
        self.calls += 1
        self.bytes += sum(tensor.nbytes for tensor in [*tensors, *made])
        if made and (counter := flop_registry.get(func._overloadpacket)):
            count = counter(*args, **kwargs, out_val=result)
            self.operations[str(made[0].dtype).removeprefix("torch.")] += count
        return result


def fastest(run: Callable[[], object], device: torch.device) -> float:
    """The least seconds of several repeats, with all that the device has to do."""
    times = []
    for _ in range(REPEATS):
        synchronize(device)
        start = time.perf_counter()
        run()
        synchronize(device)
        times.append(time.perf_counter() - start)
    return min(times)


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def rates(device: torch.device, size: int) -> tuple[float, dict[str, float]]:
    """Bytes per second of a copy; operations per second of a product, by dtype."""
    numbers = torch.zeros(16 * size**2, device=device)
    copied = torch.empty_like(numbers)
    copy = 2 * numbers.nbytes / fastest(lambda: copied.copy_(numbers), device)
    products = {}
    for dtype in (torch.float32, torch.float64):
        matrix = torch.randn(size, size, dtype=dtype, device=device)
        name = str(dtype).removeprefix("torch.")
        products[name] = 2 * size**3 / fastest(lambda matrix=matrix: matrix @ matrix, device)
    return copy, products


def query_of(network: Backbone, pool: Pool, device: Device) -> Query:
    return Query(network, pool, device.scoring_batch, device.autocast)


def queries(device: Device, small: bool) -> list[Measurement]:
    """FisherMask and BAIT as the paper's preset has them, each with its parts."""
    network, pool = query_benchmark.trained(4)
    target = device.torch_device
    network, pool = moved_network(network, target), moved_pool(pool, target)
    picks = 10 if small else PICKS
    copy, products = rates(target, 512 if small else 8192)
    print(f"a copy: {copy / 1e9:,.0f} GB/s, products: {_tera(products)} Tflop/s", flush=True)
    found = []
    for name in ("badge",) if small else ("fishermask", "bait", "badge"):
        strategy = built("strategy", name)

        def ask(strategy: Any = strategy) -> None:
            query = query_of(network, pool, device)
            strategy.select(query, picks, generator_for(0, "query", 0))

        ask()  # the first call loads kernels
        if target.type == "cuda":
            torch.cuda.reset_peak_memory_stats(target)
        seconds = fastest(ask, target)
        peak = torch.cuda.max_memory_allocated(target) / GIB if target.type == "cuda" else 0.0
        with Counted() as counted:
            ask()
        least = counted.bytes / copy
        least = max(
            least, sum(n / products[t] for t, n in counted.operations.items() if t in products)
        )
        print(
            f"{name}: {counted.calls:,} kernels, {counted.bytes / 1e9:,.1f} GB, "
            f"{_tera(counted.operations)} Tflop: at these rates {least:.2f} s; "
            f"peak {peak:.2f} GiB",
            flush=True,
        )
        limit = QUERY_LIMIT if name == "fishermask" and not small else None
        found.append(
            Measurement(
                f"query of {name}, {picks} of {len(pool):,}",
                f"{seconds:.2f} s, {seconds / least:.1f} x bytes and operations",
                f"under {limit:g} s" if limit else "",
                None if limit is None else seconds < limit,
                seconds,
            )
        )
    if not small:
        spent = query_benchmark.query_seconds(built("strategy", "fishermask"), network, pool)
        parts = ", ".join(f"{name} {value:.2f}" for name, value in spent.items())
        print(f"fishermask, in seconds: {parts}", flush=True)
    return found


def _tera(counts: dict[str, float]) -> str:
    return ", ".join(f"{count / 1e12:.2f} {name}" for name, count in counts.items()) or "0"


def whole_run(device: Device, small: bool) -> Measurement:
    """A run of the paper's preset by itself, with the start of its process."""
    preset = "imbalanced_cifar10"
    options = [f"experiment={preset}", "strategy=fishermask", "seed=0", f"device={device.kind}"]
    options += ["tracker=none", "download=false"]
    if query_benchmark.photographs() is not None:
        options += ["dataset=cifar10_jpeg"]
    else:  # as large, if not as hard
        options += ["dataset=digits", "imbalance=none", "budget.total=925", "backbone.width=16"]
    if small:
        options = ["experiment=demo", "strategy=fishermask", "seed=0", "budget.total=60"]
        options += [f"device={device.kind}", "tracker=none"]
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "fm_al", *options, f"output_dir={folder}"]
        subprocess.run(command, cwd=ROOT, check=True, env={**os.environ})
        seconds = time.perf_counter() - start
        (result,) = Path(folder).rglob("result.json")
        stages = json.loads(result.read_text())
    parts = ", ".join(f"{name} {value:.1f}" for name, value in stages["seconds"].items())
    print(f"a run of {stages['rounds']} rounds, in seconds: {parts}", flush=True)
    return Measurement(
        f"a run of {stages['rounds']} rounds alone",
        f"{seconds:.1f} s ({parts})",
        "" if small else f"under {RUN_LIMIT:g} s",
        None if small else seconds < RUN_LIMIT,
        seconds,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="in seconds, without limits")
    parser.add_argument("--json", type=Path, help="where to write the measurements")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        print("no CUDA GPU: nothing is measured")
        return
    device: Device = built("device", options.device)
    device.set_up()
    if options.small:
        query_benchmark.POOL, query_benchmark.RARE, query_benchmark.LABELLED = 100, 10, 20
    found: list[Measurement] = []
    # The first run decodes the images, which later ones read from a file.
    for part in (queries, whole_run):
        more = part(device, options.small)
        found += more if isinstance(more, list) else [more]
        if options.json:
            options.json.write_text(json.dumps([asdict(each) for each in found]))
    for each in found:
        verdict = {None: "", True: "ok", False: "FAILED"}[each.good]
        print(f"{each.name:40} {each.measured}  {each.limit}  {verdict}")
    sys.exit(any(each.good is False for each in found))


if __name__ == "__main__":
    main()
