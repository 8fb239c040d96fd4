"""Any folder of images, `<root>/<train|test>/<class>/<image>`, decoded once and cached."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fm_al.data.base import Dataset, ImageData, Split, Stored
from fm_al.data.class_folders import ClassFolders
from fm_al.data.decoding import UndecodableError, decoded, decoders, pillow_warnings_logged
from fm_al.data.parallel import in_threads
from fm_al.device import require_memory
from fm_al.errors import RunError
from fm_al.files import atomic_file, atomic_write

logger = logging.getLogger(__name__)


class _Outcome(BaseModel):
    """The outcome of decoding a folder, as it is cached.

    Attributes:
        content: The digest of the decoded images and their classes; None if some are damaged.
        damaged: Positions of images that cannot be decoded, and why.
    """

    model_config = ConfigDict(strict=True, extra="forbid")

    content: str | None
    damaged: list[tuple[Annotated[int, Field(ge=0)], str]]


@dataclass(frozen=True)
class _Read:
    """What is known of a folder before its images are decoded.

    Attributes:
        folders: The classes and files.
        digests: SHA-256 of every file; None for one that cannot be read.
        unreadable: Why files cannot be read, by position.
        shape: Of the decoded images, (N, channels, size, size).
        cache: Where the decoded images are kept.
    """

    folders: ClassFolders
    digests: list[str | None]
    unreadable: dict[int, str]
    shape: tuple[int, int, int, int]
    cache: Path

    def content_of(self, images: np.ndarray) -> str:
        """The digest of decoded images and their classes."""
        described = [self.folders.class_names, self.folders.counts, images.shape]
        digest = hashlib.sha256(json.dumps(described).encode())
        digest.update(images.data)
        return digest.hexdigest()

    def refuse_damage(self, outcome: _Outcome) -> None:
        """Raise RunError, naming the images, if some cannot be read."""
        if reasons := self.unreadable | dict(outcome.damaged):
            raise RunError(self.folders.damage_message(reasons))


@dataclass(frozen=True, kw_only=True)
class ImageFolder(Dataset):
    """A folder of images. See `decoded` for how images are decoded.

    Classes and images are ordered by name. Hidden files are ignored. Warnings name other files
    that are left out, and identical files in train and test or in two classes.

    Decoded images are cached in `<data_dir>/image_folder-cache/`, under a digest of everything
    that they depend on: the bytes of every file, their order, the classes, the options and the
    decoders' versions. A file's name, size or time never stands in for its bytes, so every file is
    read each time. Cached images are checked against a digest of their own. Images that cannot be
    decoded are remembered until their files change.

    Args:
        root: The folder.
        size: Height and width in pixels that images are resized to, bilinearly, without keeping
            proportions.
        channels: 1 for grey, 3 for RGB.
    """

    root: Annotated[str, Field(min_length=1)]
    size: Annotated[int, Field(gt=0)] = 32
    channels: Literal[1, 3] = 3

    def read(self, data_dir: Path, download: bool) -> ImageData:
        read = self._look(data_dir)
        for line in (
            read.folders.left_out_warning(),
            read.folders.duplicates_warning(read.digests),
        ):
            if line is not None:
                logger.warning("%s", line)
        images, content = _cached(read) or self._decode(read)
        train, test = _splits(images, read.folders.counts)
        return ImageData(
            train=train,
            test=test,
            class_names=tuple(read.folders.class_names),
            content=content,
        )

    def stored(self, data_dir: Path) -> Stored | None:
        if not Path(self.root).is_dir():
            return None
        read = self._look(data_dir)
        outcome = _cached_outcome(read)
        if outcome is None:
            _, content = self._decode(read)
        else:
            read.refuse_damage(outcome)
            assert outcome.content is not None
            content = outcome.content
        folders = read.folders
        names, counts = tuple(folders.class_names), folders.counts
        return Stored(content, names, counts["train"], counts["test"])

    def _look(self, data_dir: Path) -> _Read:
        folders = ClassFolders.of(self.root)
        digests, unreadable = folders.digests()
        inputs: list[Any] = [decoders(), self.size, self.channels]
        inputs += [folders.class_names, folders.counts, digests]
        key = hashlib.sha256(json.dumps(inputs).encode()).hexdigest()
        shape = (len(folders.names), self.channels, self.size, self.size)
        cache = data_dir / "image_folder-cache" / f"{key}.npy"
        return _Read(folders, digests, unreadable, shape, cache)

    def _decode(self, read: _Read) -> tuple[np.ndarray, str]:
        """Decode the images and cache them. Returns them and their content."""
        import torch

        require_memory(
            f"dataset.size={self.size}: reading {read.shape[0]} images",
            math.prod(read.shape),
            torch.device("cpu"),
            "lower it",
        )
        images = np.empty(read.shape, dtype=np.uint8)
        damaged: list[tuple[int, str]] = []

        def decode(position: int) -> None:
            if position in read.unreadable:
                return
            content = read.folders.content(position)
            if hashlib.sha256(content).hexdigest() != read.digests[position]:
                raise RunError(
                    f"dataset.root={self.root}: {read.folders.names[position]} has changed while "
                    "it was read; start again when the folder is complete"
                )
            try:
                images[position] = decoded(content, self.size, self.channels)
            except UndecodableError as error:
                damaged.append((position, str(error)))

        with pillow_warnings_logged():
            in_threads(f"decoding {self.root}", decode, len(images))
        whole = not damaged and not read.unreadable
        content = read.content_of(images) if whole else None
        outcome = _Outcome(content=content, damaged=damaged)
        _store(read.cache, outcome, images)
        read.refuse_damage(outcome)
        assert content is not None
        return images, content


def _cached(read: _Read) -> tuple[np.ndarray, str] | None:
    """Load cached images and their content; None if there are none, or if the cache is damaged.

    Raises RunError, naming the images, if some are known to be damaged.
    """
    outcome = _cached_outcome(read)
    if outcome is None:
        return None
    read.refuse_damage(outcome)
    assert outcome.content is not None
    try:
        images = np.load(read.cache, allow_pickle=False)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError) as error:
        _warn_damaged(read.cache, error)
        return None
    if (
        images.shape != read.shape
        or images.dtype != np.uint8
        or read.content_of(np.ascontiguousarray(images)) != outcome.content
    ):
        _warn_damaged(read.cache, "its content does not match its digest")
        return None
    return images, outcome.content


def _cached_outcome(read: _Read) -> _Outcome | None:
    """Load the outcome of decoding these files, if they were decoded before."""
    path = read.cache.with_suffix(".json")
    try:
        outcome = _Outcome.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        _warn_damaged(path, error)
        return None
    damaged = {position for position, _ in outcome.damaged}
    is_whole = not damaged and not read.unreadable
    if is_whole != (outcome.content is not None) or not damaged <= {*range(read.shape[0])}:
        _warn_damaged(path, "its content does not match its digest")
        return None
    return outcome


def _warn_damaged(path: Path, why: Exception | str) -> None:
    logger.warning(
        "%s is damaged (%s): decoding the images again", path, " ".join(str(why).split())
    )


def _store(cache: Path, outcome: _Outcome, images: np.ndarray) -> None:
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        if outcome.content is not None:
            with atomic_file(cache) as file:
                np.save(file, images, allow_pickle=False)
        atomic_write(cache.with_suffix(".json"), outcome.model_dump_json().encode())
    except OSError as error:
        logger.warning("the decoded images can't be kept in %s (%s)", cache.parent, error)


def _splits(images: np.ndarray, counts: dict[str, list[int]]) -> list[Split]:
    """Split decoded images, which are ordered by split and class.

    counts: By split, the number of images of every class.
    """
    import torch

    parts = torch.from_numpy(images).split([sum(each) for each in counts.values()])
    classes = [
        torch.arange(len(each)).repeat_interleave(torch.tensor(each)) for each in counts.values()
    ]
    return [Split(*split) for split in zip(parts, classes, strict=True)]
