"""The data sets that torchvision downloads and reads. `data_dir` is torchvision's `root`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fm_al.data.base import Dataset, ImageData, Split
from fm_al.data.downloads import exclusive_download, quiet_unless_on_terminal
from fm_al.errors import ConfigError, RunError, errors_named

logger = logging.getLogger(__name__)

READERS = {  # names of classes, because importing torchvision.datasets takes longer than torch
    "mnist": "MNIST",
    "fashion_mnist": "FashionMNIST",
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
    "svhn": "SVHN",
}
STORED_AS = {
    "mnist": ["MNIST/raw"],
    "fashion_mnist": ["FashionMNIST/raw"],
    "cifar10": ["cifar-10-batches-py"],
    "cifar100": ["cifar-100-python"],
    "svhn": ["train_32x32.mat", "test_32x32.mat"],
}


@dataclass(frozen=True, kw_only=True)
class TorchvisionDataset(Dataset):
    """A data set of torchvision, with its numbering and names of classes.

    SVHN's classes are the digits 0 to 9.

    Args:
        name: Which data set.
    """

    name: Literal["mnist", "fashion_mnist", "cifar10", "cifar100", "svhn"]

    def read(self, data_dir: Path, download: bool) -> ImageData:
        reader = self._reader()
        try:
            train, test = self._open(reader, data_dir)
        except Exception as error:  # each of torchvision's readers fails in its own way
            if not download:
                raise self._missing_or_damaged(data_dir, "download=false", error) from error
            train, test = self._download(reader, data_dir)
        return ImageData(
            train=_split(train),
            test=_split(test),
            class_names=tuple(getattr(train, "classes", "0123456789")),
        )

    def _reader(self) -> Callable[..., Any]:
        with errors_named("torchvision can't be imported", ConfigError):
            from torchvision import datasets
        return getattr(datasets, READERS[self.name])

    def _open(
        self, reader: Callable[..., Any], data_dir: Path, download: bool = False
    ) -> tuple[Any, Any]:
        if self.name == "svhn":
            return (
                reader(data_dir, split="train", download=download),
                reader(data_dir, split="test", download=download),
            )
        return (
            reader(data_dir, train=True, download=download),
            reader(data_dir, train=False, download=download),
        )

    def _download(self, reader: Callable[..., Any], data_dir: Path) -> tuple[Any, Any]:
        try:
            with exclusive_download(data_dir), quiet_unless_on_terminal():
                logger.info("downloading %s to %s", self.name, data_dir.resolve())
                return self._open(reader, data_dir, download=True)
        except Exception as error:  # no network, a full disk, a mirror with the wrong file
            raise self._missing_or_damaged(data_dir, "its download failed", error) from error

    def _missing_or_damaged(self, data_dir: Path, why: str, error: Exception) -> RunError:
        expected = [data_dir.resolve() / part for part in STORED_AS[self.name]]
        missing = [path for path in expected if not path.is_file() and not [*path.glob("*")]]
        if missing:
            found, remedy = f"{missing[0]} is not there", ""
        else:
            found = f"{expected[0]} is damaged or incomplete"
            remedy = f"delete {' and '.join(map(str, expected))}, then "
        reason = " ".join(str(error).split()) or type(error).__name__
        return RunError(
            f"dataset {self.name}: {found} and {why} ({reason}); {remedy}run "
            f"`fm-al-data {self.name} data_dir={data_dir}` on a machine with a network, or "
            "point data_dir (or FM_AL_DATA_DIR) to the folder that holds it"
        )


def _split(stored: Any) -> Split:
    import torch

    images = torch.as_tensor(stored.data)
    if images.ndim == 3:
        images = images.unsqueeze(1)
    elif images.shape[3] == 3:
        images = images.permute(0, 3, 1, 2)
    targets = stored.labels if hasattr(stored, "labels") else stored.targets  # SVHN's
    return Split(images.contiguous(), torch.as_tensor(targets).long())
