"""A data set that is a matrix of features: four arrays in a folder, memory-mapped."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from fm_al.data.base import Dataset, ImageData, Split, Stored, escaped
from fm_al.errors import ConfigError, RunError

CHUNK = 2**24  # bytes of a matrix at a time
DTYPES = (np.dtype(np.float16), np.dtype(np.float32))
FILES = ("train.npy", "test.npy", "train_labels.npy", "test_labels.npy")
CLASSES = "classes.txt"


@dataclass(frozen=True, kw_only=True)
class Features(Dataset):
    """Features of a pool and a test set, such as `fm-al-features` computes.

    A feature vector is an image of 1 x 1 pixels with D channels. It is taken as it is: neither
    normalised nor augmented. Files are read whole once, for a digest of their bytes and to find
    values that are not finite. After that they are memory maps.

    Args:
        root: A folder with `train.npy` and `test.npy`, float16 or float32 (N, D),
            `train_labels.npy` and `test_labels.npy`, integers from 0, and optionally `classes.txt`,
            a name per line. Without it, the classes are the numbers up to the largest label.

    Raises:
        ConfigError: If an option is set that is for images.
    """

    vectors: ClassVar[bool] = True

    root: Annotated[str, Field(min_length=1)]

    def __post_init__(self) -> None:
        for key, without in (
            ("pad_to", None),
            ("mean", None),
            ("std", None),
            ("crop_padding", 0),
            ("horizontal_flip", False),
        ):
            if (value := getattr(self, key)) != without:
                raise ConfigError(
                    f"dataset.{key}={json.dumps(value)}: is for images; features are taken as they "
                    "are, so leave it out"
                )

    def read(self, data_dir: Path, download: bool) -> ImageData:
        folder = Path(self.root)
        missing = [name for name in FILES if not (folder / name).is_file()]
        if missing:
            raise RunError(
                f"dataset.root={self.root}: there is no {(folder / missing[0]).absolute()}; the "
                f"folder should hold {', '.join(FILES)}; fm-al-features makes such a folder"
            )
        train, test = (_matrix(folder / f"{split}.npy") for split in ("train", "test"))
        if train.shape[1] != test.shape[1]:
            raise RunError(
                f"{folder}: train.npy has {train.shape[1]} features per image and test.npy has "
                f"{test.shape[1]}; they should have the same"
            )
        labels = [
            _labels(folder / f"{split}_labels.npy", len(matrix))
            for split, matrix in (("train", train), ("test", test))
        ]
        names = _class_names(folder, labels)
        digest = hashlib.sha256(json.dumps(names).encode())
        for split, matrix, targets in zip(("train", "test"), (train, test), labels, strict=True):
            described = [split, matrix.shape, matrix.dtype.name]
            digest.update(json.dumps(described).encode() + targets.tobytes())
            _digest_finite(folder / f"{split}.npy", matrix, digest)
        return ImageData(
            train=_split(train, labels[0]),
            test=_split(test, labels[1]),
            class_names=names,
            content=digest.hexdigest(),
        )

    def stored(self, data_dir: Path) -> Stored | None:
        if not Path(self.root).is_dir():
            return None
        data = self.read(data_dir, download=False)
        assert data.content is not None
        return Stored(data.content, data.class_names, *data.class_counts())


def mapped(path: Path) -> np.ndarray:
    """Memory-map an array; writes to it stay in memory. Raises RunError for a damaged file."""
    try:
        return np.load(path, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = " ".join(str(error).split())
        raise RunError(f"{path} can't be read as an array ({reason})") from error


def _matrix(path: Path) -> np.ndarray:
    matrix = mapped(path)
    if matrix.dtype not in DTYPES or matrix.ndim != 2 or not matrix.size:
        raise RunError(
            f"{path} holds {matrix.dtype} of shape {matrix.shape}; it should hold float16 or "
            "float32 of shape (images, features)"
        )
    return matrix if matrix.flags.c_contiguous else np.ascontiguousarray(matrix)


def _labels(path: Path, count: int) -> np.ndarray:
    """Labels as int64 (count,)."""
    labels = mapped(path)
    if not np.issubdtype(labels.dtype, np.integer) or labels.ndim != 1:
        raise RunError(
            f"{path} holds {labels.dtype} of shape {labels.shape}; it should hold integers of "
            f"shape ({count},)"
        )
    if len(labels) != count:
        features = path.name.replace("_labels", "")
        raise RunError(f"{path} has {len(labels)} labels, and {features} has {count} rows")
    return np.array(labels, dtype=np.int64)


def _class_names(folder: Path, labels: list[np.ndarray]) -> tuple[str, ...]:
    """The names of classes.txt, or numbers. Raises RunError for a label without a class."""
    path = folder / CLASSES
    largest = max(int(each.max()) for each in labels)
    if path.is_file():
        try:
            lines = path.read_bytes().decode().removesuffix("\n").split("\n")
        except UnicodeDecodeError:
            raise RunError(f"{path} is not UTF-8 text") from None
        names = tuple(line.removesuffix("\r") for line in lines)
        for position, name in enumerate(names):
            if not name.strip() or name in names[:position]:
                what = f"has {escaped(name)} twice" if name.strip() else "has an empty line"
                raise RunError(f"{path}:{position + 1}: {what}; it should have a name per line")
    else:
        names = tuple(str(number) for number in range(largest + 1))
    if len(names) < 2:
        raise RunError(f"{folder}: has {len(names)} class; there should be at least two")
    for split, each in zip(("train", "test"), labels, strict=True):
        wrong = np.flatnonzero((each < 0) | (each >= len(names)))
        if len(wrong):
            raise RunError(
                f"{folder / f'{split}_labels.npy'}: row {wrong[0]} has the label {each[wrong[0]]}; "
                f"labels should be from 0 to {len(names) - 1}"
                + f", as {CLASSES} has {len(names)} names"
                * path.is_file()
            )
    return names


def _digest_finite(path: Path, matrix: np.ndarray, digest: hashlib._Hash) -> None:
    """Add a matrix to a digest. Raises RunError for the first row that is not finite."""
    rows = max(1, CHUNK // (matrix.shape[1] * matrix.itemsize))
    for start in range(0, len(matrix), rows):
        part = matrix[start : start + rows]
        finite = np.isfinite(part)
        if not finite.all():
            row = int(np.flatnonzero(~finite.all(axis=1))[0])
            value = part[row][~finite[row]][0]
            raise RunError(f"{path}: row {start + row} has a feature that is {value}")
        digest.update(part.data)


def _split(matrix: np.ndarray, labels: np.ndarray) -> Split:
    import torch

    features = torch.from_numpy(matrix)
    return Split(features[:, :, None, None], torch.from_numpy(labels))
