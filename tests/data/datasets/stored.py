"""A few made-up images in the file formats that torchvision reads."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from numpy.typing import NDArray

COUNTS = {"train": 30, "test": 20}
IDX = {"train": "train", "test": "t10k"}


def images(split: str, *shape: int) -> NDArray[np.uint8]:
    generator = np.random.default_rng(len(split))
    return generator.integers(0, 256, (COUNTS[split], *shape), dtype=np.uint8)


def targets(split: str) -> NDArray[np.uint8]:
    return (np.arange(COUNTS[split]) % 10).astype(np.uint8)


def write(name: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writes `images` and `targets` as data set `name`, and makes torchvision accept them."""
    {
        "mnist": lambda: _write_idx(root / "MNIST" / "raw"),
        "fashion_mnist": lambda: _write_idx(root / "FashionMNIST" / "raw"),
        "cifar10": lambda: _write_cifar10(root / "cifar-10-batches-py"),
        "cifar100": lambda: _write_cifar100(root / "cifar-100-python"),
        "svhn": lambda: _write_svhn(root),
    }[name]()
    for module in ("cifar", "svhn"):
        monkeypatch.setattr(
            f"torchvision.datasets.{module}.check_integrity",
            lambda path, md5=None: os.path.isfile(path),  # noqa: PTH113
        )


def _write_idx(folder: Path) -> None:
    folder.mkdir(parents=True)
    for split, prefix in IDX.items():
        count = COUNTS[split].to_bytes(4, "big")
        side = (28).to_bytes(4, "big")
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(
            b"\0\0\x08\x03" + count + side + side + images(split, 28, 28).tobytes()
        )
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(
            b"\0\0\x08\x01" + count + targets(split).tobytes()
        )


def _write_cifar10(folder: Path) -> None:
    folder.mkdir()
    pixels, classes = images("train", 3 * 32 * 32), targets("train")
    for batch in range(5):
        part = slice(batch * 6, (batch + 1) * 6)
        _pickle(
            folder / f"data_batch_{batch + 1}",
            {"data": pixels[part], "labels": classes[part].tolist()},
        )
    _pickle(
        folder / "test_batch",
        {"data": images("test", 3 * 32 * 32), "labels": targets("test").tolist()},
    )
    _pickle(folder / "batches.meta", {"label_names": [f"class {c}" for c in range(10)]})


def _write_cifar100(folder: Path) -> None:
    folder.mkdir()
    for split in COUNTS:
        pixels = images(split, 3 * 32 * 32)
        _pickle(folder / split, {"data": pixels, "fine_labels": targets(split).tolist()})
    _pickle(folder / "meta", {"fine_label_names": [f"class {c}" for c in range(100)]})


def _pickle(path: Path, content: object) -> None:
    path.write_bytes(pickle.dumps(content))


def _write_svhn(root: Path) -> None:
    for split in COUNTS:
        classes = targets(split)
        classes[classes == 0] = 10  # in these files 10 stands for the digit 0
        scipy.io.savemat(
            root / f"{split}_32x32.mat",
            {"X": images(split, 3, 32, 32).transpose(2, 3, 1, 0), "y": classes[:, None]},
        )
