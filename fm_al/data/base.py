"""The contracts of a data set and an imbalance, and how a subset is drawn.

torch is imported where images are worked on, because a finished run is recognised without it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from fm_al.device import require_memory
from fm_al.errors import ConfigError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Fraction = Annotated[float, Field(ge=0, le=1)]
Deviation = Annotated[float, Field(gt=0, le=1)]
MAX_LISTED_CLASSES = 10


def escaped(name: str) -> str:
    """Escape the control characters of a class's or file's name, so that it fits on one line."""
    return name if name.isprintable() else ascii(name)


@dataclass(frozen=True)
class Split:
    """Images and their classes, on the CPU.

    Attributes:
        images: (N, channels, height, width): uint8, or float16 or float32 that are not normalised,
            such as features, (N, D, 1, 1). They may be a memory map.
        targets: Classes from 0, int64 (N,).
        features: Fixed features of the images, float32 (N, D), perhaps a memory map. None if the
            configuration asks for none.
    """

    images: Tensor
    targets: Tensor
    features: Tensor | None = None

    def __len__(self) -> int:
        return len(self.targets)

    def counts(self, classes: int) -> list[int]:
        """How many images each class has."""
        return self.targets.bincount(minlength=classes).tolist()

    def __getitem__(self, indices: Tensor) -> Split:
        features = None if self.features is None else self.features[indices]
        return Split(self.images[indices], self.targets[indices], features)


@dataclass(frozen=True)
class ImageData:
    """A data set in memory.

    Attributes:
        train: The pool.
        test: The test set.
        class_names: By a class's number.
        content: A digest of what was read, which becomes part of a run's fingerprint. None if the
            configuration alone says what the data are.
        features_content: Likewise, of `train.features`: a digest of all that they depend on. None
            without features.
    """

    train: Split
    test: Split
    class_names: tuple[str, ...]
    content: str | None = None
    features_content: str | None = None

    def class_counts(self) -> tuple[list[int], list[int]]:
        """How many images each class has, in the pool and in the test set."""
        classes = len(self.class_names)
        return self.train.counts(classes), self.test.counts(classes)

    def summary(self) -> str:
        """List the classes with their images in pool and test set, in one line."""
        counts = list(zip(self.class_names, *self.class_counts(), strict=True))
        listed = ", ".join(
            f"{escaped(name)} {pool}/{test}" for name, pool, test in counts[:MAX_LISTED_CLASSES]
        )
        if len(counts) > MAX_LISTED_CLASSES:
            listed += f", and {len(counts) - MAX_LISTED_CLASSES} more"
        return (
            f"{len(counts)} classes, {len(self.train)} images in the pool and {len(self.test)} in "
            f"the test set: {listed}"
        )


@dataclass(frozen=True)
class Stored:
    """What is known of a data set without its images.

    Attributes:
        content: As in `ImageData`.
        class_names: By a class's number.
        pool: How many images each class has in the pool.
        test: How many images each class has in the test set.
    """

    content: str
    class_names: tuple[str, ...]
    pool: list[int]
    test: list[int]


@dataclass(frozen=True, kw_only=True)
class Dataset(ABC):
    """A data set: one file in `fm_al/data/datasets/` and one in `conf/dataset/`.

    It implements `read`. Its own options are added to these as dataclass fields.

    Args:
        pad_to: Side in pixels to which smaller images are padded evenly with zeros. None does not
            pad.
        order: Order of the pool, which decides ties: `file` as stored, `shuffled` by the seed,
            or sorted by `class`, as in the FisherMask code.
        mean: Per channel, of values in [0, 1]. None measures it on the pool.
        std: Per channel, of values in [0, 1]. None measures it on the pool.
        crop_padding: In training, the image is padded by so many pixels of zeros, at most its
            side, and a random crop of its size is taken.
        horizontal_flip: In training, half of the images are mirrored.

    Attributes:
        vectors: Whether what it holds are vectors, (N, D, 1, 1), which most backbones can't take.
    """

    vectors: ClassVar[bool] = False

    pad_to: Annotated[int, Field(gt=0)] | None = None
    order: Literal["file", "shuffled", "class"] = "file"
    mean: list[Fraction] | None = None
    std: list[Deviation] | None = None
    crop_padding: Annotated[int, Field(ge=0)] = 0
    horizontal_flip: bool = False

    @abstractmethod
    def read(self, data_dir: Path, download: bool) -> ImageData:
        """Read the data set as it is stored.

        Args:
            data_dir: Where data sets are kept.
            download: Whether to download it if it is not there.

        Returns:
            The images before padding.

        Raises:
            RunError: If it is not there or damaged; says how to get it.
        """

    def stored(self, data_dir: Path) -> Stored | None:
        """Look at what is stored, without keeping images.

        Returns:
            None if the configuration says it all, or if nothing is stored on this machine.
        """
        return None

    def load(self, data_dir: Path, download: bool) -> ImageData:
        """Read the data set, check the options against it, and pad its images.

        Args:
            data_dir: As for `read`.
            download: As for `read`.

        Raises:
            ConfigError: If an option does not fit the images.
            RunError: As `read`, or if there is too little memory for the padded images.
        """
        data = self.read(data_dir, download)
        channels, height, width = data.train.images.shape[1:]
        for key, value in (("mean", self.mean), ("std", self.std)):
            if value is not None and len(value) != channels:
                raise ConfigError(
                    f"dataset.{key}={value}: the images have {channels} channels; "
                    "give one number per channel, or null to measure them on the pool"
                )
        side = min(height, width) if self.pad_to is None else self.pad_to
        if self.crop_padding > side:
            raise ConfigError(
                f"dataset.crop_padding={self.crop_padding}: should be at most {side}, the images' "
                "side; a crop from farther out may contain nothing of the image"
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
    """Which classes are kept, and how many images of each.

    Attributes:
        classes: Numbers of the kept classes, in their new order: position k becomes class k.
        pool: Images of each kept class in the pool.
        test: Images of each kept class in the test set.
        merged: Classes whose images become images of the last kept class.
    """

    classes: list[int]
    pool: list[int]
    test: list[int]
    merged: tuple[int, ...] = ()

    @property
    def members(self) -> list[list[int]]:
        """The data set's classes that each kept class is made of."""
        last = [*self.classes[-1:], *self.merged]
        return [*([number] for number in self.classes[:-1]), last]

    def names(self, class_names: tuple[str, ...]) -> tuple[str, ...]:
        """Name the kept classes; a merged one is `other`.

        Args:
            class_names: Of the data set, by a class's number.
        """
        names = [class_names[number] for number in self.classes]
        if self.merged:
            names[-1] = "other"
            while names[-1] in names[:-1]:
                names[-1] = f"all {names[-1]}"
        return tuple(names)


class Imbalance(ABC):
    """An imbalance: one file in `fm_al/data/imbalance/` and one in `conf/imbalance/`.

    It implements `counts`, which decides how many images of each class are kept, and which classes
    are merged. Which images is drawn by `subset`, uniformly, without replacement.
    """

    @abstractmethod
    def counts(self, class_names: tuple[str, ...], pool: list[int], test: list[int]) -> ClassCounts:
        """Decide how many images to keep.

        Args:
            class_names: By a class's number.
            pool: Images that each class has in the pool.
            test: Images that each class has in the test set.

        Raises:
            ConfigError: If a class has too few images, or fewer than two classes would be left.
        """

    def kept(self, stored: Stored) -> list[str]:
        """Name the classes that are kept of a data set. Raises ConfigError as `counts` does."""
        kept = self.counts(stored.class_names, stored.pool, stored.test)
        return list(kept.names(stored.class_names))

    def subset(self, data: ImageData, generator: torch.Generator) -> ImageData:
        """Draw the images to keep, in their stored order, with classes renumbered.

        Args:
            data: The whole data set.
            generator: A CPU generator.
        """
        names = data.class_names
        kept = self.counts(names, data.train.counts(len(names)), data.test.counts(len(names)))
        return replace(
            data,
            train=_draw(data.train, kept.members, kept.pool, generator),
            test=_draw(data.test, kept.members, kept.test, generator),
            class_names=kept.names(names),
        )


def _padded(split: Split, side: int) -> Split:
    from torch.nn import functional

    height, width = split.images.shape[2:]
    bottom, right = side - height, side - width
    margins = (right // 2, right - right // 2, bottom // 2, bottom - bottom // 2)
    return replace(split, images=functional.pad(split.images, margins))


def _draw(
    split: Split, members: list[list[int]], counts: list[int], generator: torch.Generator
) -> Split:
    """Draw images, and number their classes anew. members: see `ClassCounts`."""
    import torch

    chosen, targets = [], []
    for number, (originals, count) in enumerate(zip(members, counts, strict=True)):
        available = torch.isin(split.targets, torch.tensor(originals)).nonzero().squeeze(1)
        if count > len(available):
            listed = ", ".join(map(str, originals))
            raise ConfigError(
                f"imbalance: {count} images of class {listed}, which has {len(available)}"
            )
        chosen.append(available[torch.randperm(len(available), generator=generator)[:count]])
        targets.append(torch.full((count,), number))
    indices, order = torch.cat(chosen).sort()
    kept = split if len(indices) == len(split) else split[indices]  # all of it is not copied
    return replace(kept, targets=torch.cat(targets)[order])
