"""Images a second of training batches, 32 x 32 x 3, cropped, flipped and normalised.

Ours (bytes on the device, a batch an index) against torchvision's transforms per image in a
DataLoader of two workers. Run it with `python -m tests.benchmarks.data_path`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.transforms import v2

from fm_al.data.base import Split
from fm_al.data.images import Images

MEAN, STD = [0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]
PADDING = 4
WORKERS = 2

Batches = Iterator[tuple[Tensor, Tensor]]


def synthetic_cifar10(count: int = 50_000) -> Split:
    """Random images in the shapes of CIFAR-10."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)
    return Split(images, torch.randint(0, 10, (count,), generator=generator))


def our_batches(split: Split, batch_size: int) -> Batches:
    """One epoch in random order: images float32 (B, 3, 32, 32) and targets."""
    images = Images(split.images, torch.tensor(MEAN), torch.tensor(STD), PADDING, True)
    generator = torch.Generator().manual_seed(0)
    for indices in torch.randperm(len(split), generator=generator).split(batch_size):
        yield images.augmented_batch(indices, generator), split.targets[indices]


def torchvision_batches(split: Split, batch_size: int) -> Batches:
    """The same through `torchvision.transforms`."""
    transform = transforms.Compose(
        [
            transforms.RandomCrop(32, padding=PADDING),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    return iter(_loader(split, batch_size, transform))


def torchvision_v2_batches(split: Split, batch_size: int) -> Batches:
    """The same through `torchvision.transforms.v2`."""
    transform = v2.Compose(
        [
            v2.RandomCrop(32, padding=PADDING),
            v2.RandomHorizontalFlip(),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )
    return iter(_loader(split, batch_size, transform))


class _PerImage(Dataset[tuple[Tensor, int]]):
    """What torchvision's CIFAR10 does: an array of bytes, an image at a time through PIL."""

    def __init__(self, split: Split, transform: Callable[[Image.Image], Tensor]) -> None:
        self.pixels = np.ascontiguousarray(split.images.permute(0, 2, 3, 1).numpy())
        self.targets = split.targets.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.pixels[index])), self.targets[index]


def _loader(
    split: Split, batch_size: int, transform: Callable[[Image.Image], Tensor]
) -> DataLoader[tuple[Tensor, int]]:
    return DataLoader(_PerImage(split, transform), batch_size, shuffle=True, num_workers=WORKERS)


def images_per_second(batches: Batches, seconds: float) -> float:
    """Counted from the fourth batch on, when the workers have started, for so many seconds."""
    for _ in range(3):
        next(batches)
    count, start = 0, time.perf_counter()
    for images, _ in batches:
        count += len(images)
        if time.perf_counter() - start > seconds:
            break
    return count / (time.perf_counter() - start)


def main(seconds: float = 4) -> None:
    split = synthetic_cifar10()
    table = Table("batch", "torchvision", "torchvision v2", "ours, 1 thread", "2 threads", "ratios")
    for batch_size in (128, 500):
        torch.set_num_threads(WORKERS)
        theirs = [
            images_per_second(source(split, batch_size), seconds)
            for source in (torchvision_batches, torchvision_v2_batches)
        ]
        ours = []
        for threads in (1, WORKERS):
            torch.set_num_threads(threads)
            ours.append(images_per_second(our_batches(split, batch_size), seconds / 8))
        ratios = " and ".join(f"{images / max(theirs):.0f}" for images in ours)
        figures = [f"{images:,.0f}" for images in theirs + ours]
        table.add_row(f"{batch_size}", *figures, ratios)
    Console().print(f"Training images a second, 32 x 32 x 3, torchvision: {WORKERS} workers", table)


if __name__ == "__main__":
    main()
