"""Folders of computed features: filled by one process while others wait, and recognised later.

`features.json` says what a folder's features are made of, and, once it is complete, the digests of
its files.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fm_al.data.base import ImageData, escaped
from fm_al.data.datasets.features import CLASSES, FILES
from fm_al.device import Device
from fm_al.errors import RunError, RunLockedError
from fm_al.features.base import Extractor
from fm_al.features.extraction import digest_of, fingerprint_of, made_of, rows_of
from fm_al.features.matrix import partial_file, write_matrix
from fm_al.files import atomic_file, atomic_write, write_json
from fm_al.records.digests import file_digest
from fm_al.records.json_files import Schema, read_json
from fm_al.records.lock import Lock, locked
from fm_al.records.naming import flattened

logger = logging.getLogger(__name__)

MARK = "features.json"
LOCK = "lock"
LOOK_AGAIN = 0.5  # seconds between two looks at a folder that another process fills


class Mark(Schema):
    """Content of `features.json`.

    Attributes:
        made_of: What the features depend on.
        device: The kind of device that computes them.
        digests: Of the files, by name; None until all are there.
    """

    made_of: dict[str, Any]
    device: str
    digests: dict[str, str] | None


def fill(
    folder: Path, made: dict[str, Any], device: str, names: list[str], write: Callable[[Lock], None]
) -> bool:
    """Have a folder of features, computing what is missing.

    If another live process fills the folder, wait for it.

    Args:
        folder: The folder, made if needed.
        made: What the features depend on.
        device: The kind of device that computes them. Features that another kind began are computed
            from the start.
        names: The files that the folder will have.
        write: Writes those that are not there. A file appears when it is whole.

    Returns:
        Whether the folder was complete already.

    Raises:
        RunError: The folder holds other features, or files of another origin.
    """
    folder.mkdir(parents=True, exist_ok=True)
    mark: dict[str, Any] = {"made_of": made, "device": device, "digests": None}
    waits, computed = False, False
    while not _is_complete(folder, made, names):
        try:
            with locked(folder / LOCK) as lock:
                if _is_complete(folder, made, names):
                    break
                _remove_useless(folder, device, names)
                write_json(folder / MARK, mark)
                write(lock)
                lock.check()
                digests = {name: file_digest(folder / name) for name in names}
                write_json(folder / MARK, mark | {"digests": digests})
                computed = True
        except RunLockedError as error:
            if not waits:
                logger.warning("%s: waiting for its features", error)
            waits = True
            time.sleep(LOOK_AGAIN)
    return not (computed or waits)


def _remove_useless(folder: Path, device: str, names: list[str]) -> None:
    """Remove files that are damaged, or were begun on another kind of device."""
    mark = _mark(folder)
    if mark is not None and (mark.digests is not None or mark.device != device):
        for name in names:
            for path in (folder / name, partial_file(folder / name)):
                path.unlink(missing_ok=True)


def _mark(folder: Path) -> Mark | None:
    return read_json(folder / MARK, Mark, "delete that folder to compute its features again")


def _is_complete(folder: Path, made: dict[str, Any], names: list[str]) -> bool:
    """Whether all files are there and whole. Raises RunError if the folder is not ours to fill."""
    mark = _mark(folder)
    if mark is None:
        if there := [name for name in names if (folder / name).exists()]:
            raise RunError(
                f"{folder} holds {there[0]} and no {MARK}, so it was not made by fm-al; use "
                "another folder"
            )
        return False
    if mark.made_of != made:
        old, new = flattened(mark.made_of), flattened(made)
        differ = sorted(key for key in {*old, *new} if old.get(key) != new.get(key))
        raise RunError(
            f"{folder} holds features that differ in {', '.join(differ)}; use another folder, or "
            "delete that one"
        )
    if mark.digests is None:
        return False
    for name in names:
        path = folder / name
        if not path.is_file() or file_digest(path) != mark.digests.get(name):
            logger.warning("%s is damaged or missing: computing the features again", path)
            return False
    return True


def make_folder(
    folder: Path, data: ImageData, extractor: Extractor, device: Device, dtype: np.dtype
) -> bool:
    """Compute the features of a data set into a folder that `dataset=features` reads.

    Args:
        folder: The folder, made if needed.
        data: The data set.
        extractor: Computes the features; fitted on the train split.
        device: Where to compute.
        dtype: Of the features, float16 or float32.

    Returns:
        Whether the folder was complete already.

    Raises:
        ConfigError: The extractor doesn't fit the images.
        RunError: The folder holds other features, or features are not finite.
    """
    splits = {"train": data.train, "test": data.test}
    digests = {
        f"{name}_{part}": digest_of(getattr(split, part))
        for name, split in splits.items()
        for part in ("images", "targets")
    }
    made = made_of(extractor, class_names=list(data.class_names), dtype=dtype.name, **digests)
    fingerprint = fingerprint_of(made)

    def write(lock: Lock) -> None:
        compute = extractor.fitted(data.train.images, device.torch_device)
        for name, split in splits.items():
            with atomic_file(folder / f"{name}_labels.npy") as file:
                np.save(file, split.targets.numpy())
            rows = _in(dtype, rows_of(compute, split.images, device, extractor.normalize))
            if not (path := folder / f"{name}.npy").exists():
                write_matrix(path, fingerprint, len(split), dtype, device.scoring_batch, rows, lock)
        lines = "".join(f"{escaped(name)}\n" for name in data.class_names)
        atomic_write(folder / CLASSES, lines.encode())

    return fill(folder, made, device.torch_device.type, [*FILES, CLASSES], write)


def _in(dtype: np.dtype, rows: Callable[[slice], np.ndarray]) -> Callable[[slice], np.ndarray]:
    """The rows in another type. Raises RunError if they are too large for it."""

    def converted(which: slice) -> np.ndarray:
        with np.errstate(over="ignore"):
            features = rows(which).astype(dtype)
        if not np.isfinite(features).all():
            raise RunError(f"dtype={dtype.name}: some features are too large; use dtype=float32")
        return features

    return converted
