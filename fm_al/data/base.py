"""What a data set and an imbalance are: the contracts, and how a subset is drawn.

torch is imported where images are worked on: a finished run is recognised without it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from fm_al.device import require_memory
from fm_al.errors import ConfigError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Fraction = Annotated[float, Field(ge=0, le=1)]
Deviation = Annotated[float, Field(gt=0, le=1)]
MOST_CLASSES_SHOWN = 10


def shown(name: str) -> str:
    """A class's or a file's name on a line; its control characters are escaped."""
    return name if name.isprintable() else ascii(name)


@dataclass(frozen=True)
class Split:
    """Images, uint8 (N, channels, height, width), and their classes, int64 (N,), on the CPU."""

    images: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def counts(self, classes: int) -> list[int]:
        """How many images of each class."""
        return self.targets.bincount(minlength=classes).tolist()

    def __getitem__(self, indices: Tensor) -> Split:
        return Split(self.images[indices], self.targets[indices])


@dataclass(frozen=True)
class ImageData:
    """A data set in memory. `content` is a fingerprint of what was read, where the configuration
    alone does not say what that is (a folder of images); it enters a run's fingerprint."""

    train: Split
    test: Split
    class_names: tuple[str, ...]
    content: str | None = None

    def class_counts(self) -> tuple[list[int], list[int]]:
        """Images of each class, in the pool and in the test set."""
        classes = len(self.class_names)
        return self.train.counts(classes), self.test.counts(classes)

    def summary(self) -> str:
        """One line: the classes, with their images in pool and test set."""
        counts = list(zip(self.class_names, *self.class_counts(), strict=True))
        listed = ", ".join(
            f"{shown(name)} {pool}/{test}" for name, pool, test in counts[:MOST_CLASSES_SHOWN]
        )
        if len(counts) > MOST_CLASSES_SHOWN:
            listed += f", and {len(counts) - MOST_CLASSES_SHOWN} more"
        return (
            f"{len(counts)} classes, {len(self.train)} images in the pool and {len(self.test)} in "
            f"the test set: {listed}"
        )


@dataclass(frozen=True)
class Stored:
    """What is known of a data set without its images: `ImageData.content`, and of each class the
    name and the number of images in pool and test set."""

    content: str
    class_names: tuple[str, ...]
    pool: list[int]
    test: list[int]


@dataclass(frozen=True, kw_only=True)
class Dataset(ABC):
    """A data set is one file beside this one and one in `conf/dataset/`: `read`, and options.

    pad_to: side in pixels to which smaller images are padded with zeros, evenly; null leaves them.
    order: of the pool, which ties between images are settled by: `file` as stored, `shuffled` by
    the seed, `class` sorted by class, as the FisherMask code does.
    mean, std: of each channel, of values in [0, 1]; null measures them on the pool.
    crop_padding: in training, crops as large as the image are taken at random from the image
    padded by this many pixels of zeros, at most the image's side. horizontal_flip: in training,
    half the images are mirrored.
    """

    pad_to: Annotated[int, Field(gt=0)] | None = None
    order: Literal["file", "shuffled", "class"] = "file"
    mean: list[Fraction] | None = None
    std: list[Deviation] | None = None
    crop_padding: Annotated[int, Field(ge=0)] = 0
    horizontal_flip: bool = False

    @abstractmethod
    def read(self, data_dir: Path, download: bool) -> ImageData:
        """The data set as it is stored, downloaded first where that is allowed and needed.

        Raises RunError where it can't be had, naming the command that downloads it."""

    def stored(self, data_dir: Path) -> Stored | None:
        """What is stored now; None where the configuration says it all, or where nothing is stored
        on this machine."""
        return None

    def load(self, data_dir: Path, download: bool) -> ImageData:
        """`read`, padded to `pad_to`."""
        data = self.read(data_dir, download)
        channels, height, width = data.train.images.shape[1:]
        for key, value in (("mean", self.mean), ("std", self.std)):
            if value is not None and len(value) != channels:
                raise ConfigError(
                    f"dataset.{key}={value}: the images have {channels} channels; "
                    "give a number for each, or null to measure them on the pool"
                )
        side = min(height, width) if self.pad_to is None else self.pad_to
        if self.crop_padding > side:
            raise ConfigError(
                f"dataset.crop_padding={self.crop_padding}: should be at most {side}, the images' "
                "side; a crop from farther out shows nothing of them"
            )
        if self.pad_to is None:
            return data
        if self.pad_to < max(height, width):
            raise ConfigError(
                f"dataset.pad_to={self.pad_to}: the images are {height} x {width}; "
                f"use at least {max(height, width)}, or null for no padding"
            )
        require_memory(
            f"dataset.pad_to={self.pad_to}: padding the images",
            (len(data.train) + len(data.test)) * channels * self.pad_to**2,
            data.train.images.device,
            "lower it",
        )
        return replace(
            data, train=_padded(data.train, self.pad_to), test=_padded(data.test, self.pad_to)
        )


@dataclass(frozen=True)
class ClassCounts:
    """Which classes are kept, in their new order (a class's new number is its place here), and how
    many images of each, in the pool and in the test set."""

    classes: list[int]
    pool: list[int]
    test: list[int]


class Imbalance(ABC):
    """An imbalance is one file in `imbalance/` and one in `conf/imbalance/`: it decides how many
    images of each class there are; which ones is drawn here, uniformly, without replacement."""

    @abstractmethod
    def counts(self, class_names: tuple[str, ...], pool: list[int], test: list[int]) -> ClassCounts:
        """The counts to keep of those available. Raises ConfigError, with the numbers, where that
        can't be: more than a class has, fewer than two classes left."""

    def kept(self, stored: Stored) -> list[str]:
        """The names of the classes that are kept of a data set. Raises ConfigError, as `counts`."""
        kept = self.counts(stored.class_names, stored.pool, stored.test)
        return [stored.class_names[c] for c in kept.classes]

    def subset(self, data: ImageData, generator: torch.Generator) -> ImageData:
        """The images kept, in their stored order, with classes renumbered."""
        names = data.class_names
        kept = self.counts(names, data.train.counts(len(names)), data.test.counts(len(names)))
        return replace(
            data,
            train=_draw(data.train, kept.classes, kept.pool, generator),
            test=_draw(data.test, kept.classes, kept.test, generator),
            class_names=tuple(names[c] for c in kept.classes),
        )


def _padded(split: Split, side: int) -> Split:
    from torch.nn import functional

    height, width = split.images.shape[2:]
    bottom, right = side - height, side - width
    margins = (right // 2, right - right // 2, bottom // 2, bottom - bottom // 2)
    return replace(split, images=functional.pad(split.images, margins))


def _draw(split: Split, classes: list[int], counts: list[int], generator: torch.Generator) -> Split:
    import torch

    chosen, targets = [], []
    for number, (original, count) in enumerate(zip(classes, counts, strict=True)):
        available = (split.targets == original).nonzero().squeeze(1)
        if count > len(available):
            raise ConfigError(
                f"imbalance: {count} images of class {original}, {len(available)} there"
            )
        chosen.append(available[torch.randperm(len(available), generator=generator)[:count]])
        targets.append(torch.full((count,), number))
    indices, order = torch.cat(chosen).sort()
    return Split(split.images[indices], torch.cat(targets)[order])
