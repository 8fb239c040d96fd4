"""A stand-in for the package medmnist, and small files in its format."""

from __future__ import annotations

import hashlib
import io
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest

COUNTS = {"train": 30, "val": 5, "test": 20}
LABELS = {"bloodmnist": ["basophil", "eosinophil", "ig"], "octmnist": ["drusen", "normal"]}
CHANNELS = {"bloodmnist": 3, "octmnist": 1}


def arrays(name: str, side: int) -> dict[str, np.ndarray]:
    """What a file of the package holds."""
    generator = np.random.default_rng(side)
    made = {}
    for split, count in COUNTS.items():
        colours = (CHANNELS[name],) if CHANNELS[name] > 1 else ()
        shape = (count, side, side, *colours)
        made[f"{split}_images"] = generator.integers(0, 256, shape, dtype=np.uint8)
        labels = np.arange(count)[:, None] % len(LABELS[name])
        made[f"{split}_labels"] = labels.astype(np.uint8)
    return made


def write(folder: Path, name: str, side: int = 28) -> Path:
    """Write a file where the package does."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (f"{name}.npz" if side == 28 else f"{name}_{side}.npz")
    path.write_bytes(content(name, side))
    return path


def content(name: str, side: int) -> bytes:
    """The bytes of a file."""
    file = io.BytesIO()
    np.savez(file, **arrays(name, side))
    return file.getvalue()


def digest(name: str, side: int) -> str:
    """The MD5 of a file as it should be."""
    return hashlib.md5(content(name, side), usedforsecurity=False).hexdigest()


def install(monkeypatch: pytest.MonkeyPatch, version: str = "3.0.2", network: bool = False) -> None:
    """Let `import medmnist` find the stand-in.

    Args:
        network: Whether its downloads succeed.
    """
    package: Any = ModuleType("medmnist")
    package.__version__ = version
    package.INFO = {
        name: {
            "python_class": name.upper(),
            "label": {str(number): label for number, label in enumerate(labels)},
            "n_channels": CHANNELS[name],
            "n_samples": COUNTS,
            "MD5": digest(name, 28),
            "MD5_64": digest(name, 64),
            "url": f"https://there.example/{name}.npz",
            "url_64": f"https://there.example/{name}_64.npz",
        }
        for name, labels in LABELS.items()
    }

    def reader(name: str) -> type:
        class Reader:
            def __init__(self, split: str, root: str, size: int, download: bool = False) -> None:
                if not Path(root).exists():
                    raise RuntimeError("Failed to setup the default `root` directory.")
                path = Path(root, f"{name}.npz" if size == 28 else f"{name}_{size}.npz")
                if download:
                    print("Downloading ...")
                    self._download(path, size)
                if not path.exists():
                    raise RuntimeError("Dataset not found.")
                file = np.load(path)
                self.imgs, self.labels = file[f"{split}_images"], file[f"{split}_labels"]

            def _download(self, path: Path, size: int) -> None:
                try:
                    if not network:
                        raise URLError("no network")
                    write(path.parent, name, size)
                except URLError:
                    raise RuntimeError("\n  Automatic download failed!\n 1. ...\n")  # noqa: B904

        return Reader

    for name in LABELS:
        setattr(package, name.upper(), reader(name))
    monkeypatch.setitem(sys.modules, "medmnist", package)
