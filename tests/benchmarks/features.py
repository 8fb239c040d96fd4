"""Seconds to compute `features=pca` of 60,000 images of 28 x 28, and to use them again.

Images are random and smooth, so that principal components exist. The first use fits the components,
computes the features and keeps them; the second finds them. Limits: 60 s and 2 s. Run it with
`python -m tests.benchmarks.features`.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from fm_al.config import build
from fm_al.data.base import ImageData, Split
from fm_al.features.cache import with_features
from fm_al.features.pca import PCA
from tests.helpers.configs import node

LIMITS = {"first": 60.0, "second": 2.0}  # seconds


def smooth_images(count: int, side: int) -> Split:
    """Random images with less contrast in small details."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(count, 1, 7, 7, generator=generator)
    fine = torch.randn(count, 1, side, side, generator=generator)
    images = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bilinear")
    values = 128 + 50 * images + 10 * fine
    return Split(values.clamp(0, 255).to(torch.uint8), torch.arange(count) % 10)


def main(count: int = 60_000, side: int = 28) -> None:
    device = build(node("device", "auto"))
    device.set_up()
    data = ImageData(smooth_images(count, side), smooth_images(100, side), tuple("0123456789"))
    table = Table("use", "seconds", "limit")
    too_slow = []
    with tempfile.TemporaryDirectory() as folder:
        for use, limit in LIMITS.items():
            began = time.perf_counter()
            with_features(data, "images", PCA(), device, Path(folder))
            seconds = time.perf_counter() - began
            table.add_row(use, f"{seconds:.2f}", f"{limit:.0f}")
            too_slow += [use] if seconds > limit else []
    title = f"features=pca of {count:,} images of {side} x {side}, {device.torch_device.type}"
    Console().print(title, table)
    if too_slow:
        sys.exit(f"slower than the limit: {', '.join(too_slow)}")


if __name__ == "__main__":
    main()
