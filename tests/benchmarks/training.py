"""Training end to end, an epoch of the small network on 32 x 32 x 3 images, batches of either kind.

Run it with `python -m tests.benchmarks.training`.
"""

from __future__ import annotations

import time

import torch
from rich.console import Console
from rich.table import Table
from torch.nn import functional

from fm_al.backbones.cnn import CNN
from fm_al.data.base import Split
from tests.benchmarks.data_path import (
    WORKERS,
    Batches,
    our_batches,
    synthetic_cifar10,
    torchvision_batches,
)

IMAGES = 10_000


def epoch_seconds(batches: Batches) -> float:
    """An epoch by SGD, its start-up included, as a user waits for it."""
    network = CNN(channels=3, classes=10, image_size=(32, 32), widths=[16, 32, 64]).train()
    network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    start = time.perf_counter()
    for images, targets in batches:
        inputs = images.contiguous(memory_format=torch.channels_last)
        loss = functional.cross_entropy(network(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return time.perf_counter() - start


def main() -> None:
    torch.set_num_threads(WORKERS)
    everything = synthetic_cifar10(IMAGES)
    split = Split(everything.images, everything.targets)
    table = Table("batch", "torchvision", "ours", "ratio")
    for batch_size in (128, 500):
        epoch_seconds(our_batches(split[torch.arange(1000)], batch_size))
        theirs = epoch_seconds(torchvision_batches(split, batch_size))
        ours = epoch_seconds(our_batches(split, batch_size))
        table.add_row(f"{batch_size}", f"{theirs:.2f} s", f"{ours:.2f} s", f"{theirs / ours:.1f}")
    Console().print(f"Training {IMAGES:,} images for an epoch, end to end", table)


if __name__ == "__main__":
    main()
