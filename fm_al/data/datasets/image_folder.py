"""Any folder of images, `<root>/<train|test>/<class>/<image>`, decoded once and cached."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from PIL import Image
from pydantic import Field
from rich.console import Console
from rich.progress import Progress
from torchvision.datasets.folder import IMG_EXTENSIONS

from fm_al.data.base import Dataset, ImageData, Split
from fm_al.device import require_memory
from fm_al.errors import ConfigError, RunError
from fm_al.files import write_whole, written_whole

logger = logging.getLogger(__name__)

DECODING = 1  # raise it when decoding changes, so that what is cached is read again
IMAGES_A_TASK = 64


@dataclass(frozen=True)
class _Listed:
    """What is in the folder: for each image its path under the root, its size and its time."""

    class_names: list[str]
    files: list[tuple[str, int, int]]
    counts: dict[str, list[int]]


@dataclass(frozen=True, kw_only=True)
class ImageFolder(Dataset):
    """Classes are numbered in the order of their names, images stored in the order of theirs.

    root: the folder. size: of the images in pixels, height and width; others are resized with
    bilinear filtering, whatever their proportions. channels: 1 is grey, 3 is RGB.

    The decoded images are kept in `<data_dir>/image_folder-cache/`, under a fingerprint of the
    files' names, sizes and times of change.
    """

    root: Annotated[str, Field(min_length=1)]
    size: Annotated[int, Field(gt=0)] = 32
    channels: Literal[1, 3] = 3

    def read(self, data_dir: Path, download: bool) -> ImageData:
        listed = self._listed()
        cache = self._cache(data_dir, listed)
        cached = self._cached(cache, listed)
        if cached is None:
            images = self._decoded([Path(self.root, name) for name, _, _ in listed.files])
            content = _digest([listed.class_names, listed.counts, images.shape], images)
            _store(cache, images, content)
        else:
            images, content = cached
        train, test = torch.from_numpy(images).split([sum(n) for n in listed.counts.values()])
        return ImageData(
            train=Split(train, _targets(listed.counts["train"])),
            test=Split(test, _targets(listed.counts["test"])),
            class_names=tuple(listed.class_names),
            content=content,
        )

    def stored_content(self, data_dir: Path) -> str | None:
        if not Path(self.root).is_dir():
            return None
        listed = self._listed()
        cached = self._cached_content(self._cache(data_dir, listed))
        return cached or self.read(data_dir, download=False).content

    def _cache(self, data_dir: Path, listed: _Listed) -> Path:
        key = _digest([DECODING, self.size, self.channels, listed.files])
        return data_dir / "image_folder-cache" / f"{key}.npy"

    def _listed(self) -> _Listed:
        root = Path(self.root)
        for folder in (root, root / "train", root / "test"):
            if not folder.is_dir():
                raise ConfigError(
                    f"dataset.root={self.root}: {folder.absolute()} is not a folder; images should "
                    "be at <root>/train/<class>/ and <root>/test/<class>/"
                )
        names = {split: _folders(root / split) for split in ("train", "test")}
        if len(names["train"]) < 2:
            raise ConfigError(
                f"dataset.root={self.root}: {root.absolute() / 'train'} has {len(names['train'])} "
                "folders of images; there should be one for each class, two at least"
            )
        for name in names["test"]:
            if name not in names["train"]:
                raise ConfigError(
                    f"dataset.root={self.root}: class {name} is in test and not in train"
                )
        files: list[tuple[str, int, int]] = []
        counts: dict[str, list[int]] = {"train": [], "test": []}
        for split, counted in counts.items():
            for name in names["train"]:
                images = _images(root, f"{split}/{name}")
                if not images:
                    raise ConfigError(
                        f"dataset.root={self.root}: class {name} has no images in {split}; "
                        f"add some or remove the class (images are {', '.join(IMG_EXTENSIONS)})"
                    )
                files.extend(images)
                counted.append(len(images))
        return _Listed(names["train"], files, counts)

    def _shape(self, count: int) -> tuple[int, int, int, int]:
        return count, self.channels, self.size, self.size

    def _cached(self, cache: Path, listed: _Listed) -> tuple[np.ndarray, str] | None:
        content = self._cached_content(cache)
        if content is None:
            return None
        try:
            images = np.load(cache, allow_pickle=False)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, EOFError) as error:
            logger.warning("%s is damaged (%s): decoding the images again", cache, error)
            return None
        if images.shape != self._shape(len(listed.files)) or images.dtype != np.uint8:
            logger.warning("%s is not what it should be: decoding the images again", cache)
            return None
        return images, content

    def _cached_content(self, cache: Path) -> str | None:
        try:
            return json.loads(cache.with_suffix(".json").read_text())["content"]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("%s is damaged (%s): decoding the images again", cache, error)
            return None

    def _decoded(self, paths: list[Path]) -> np.ndarray:
        shape = self._shape(len(paths))
        require_memory(
            f"dataset.size={self.size}: reading {len(paths)} images",
            math.prod(shape),
            torch.device("cpu"),
            "lower it",
        )
        images = np.empty(shape, dtype=np.uint8)

        def decode(start: int) -> int:
            stop = min(start + IMAGES_A_TASK, len(paths))
            for position in range(start, stop):
                images[position] = self._image(paths[position])
            return stop - start

        console = Console(stderr=True)
        if not console.is_terminal:
            logger.info("decoding %d images of %s", len(paths), self.root)
        with (
            Progress(console=console, transient=True, disable=not console.is_terminal) as progress,
            ThreadPoolExecutor() as executor,
        ):
            task = progress.add_task(f"decoding {self.root}", total=len(paths))
            for done in executor.map(decode, range(0, len(paths), IMAGES_A_TASK)):
                progress.advance(task, done)
        return images

    def _image(self, path: Path) -> np.ndarray:
        """uint8 (channels, size, size)."""
        try:
            with Image.open(path) as image:
                if image.mode.startswith(("I", "F")):
                    raise ValueError(f"it has more than 8 bits a pixel (mode {image.mode})")
                image = image.convert("L" if self.channels == 1 else "RGB")
                image = image.resize((self.size, self.size), Image.Resampling.BILINEAR)
                return np.asarray(image).reshape(self.size, self.size, -1).transpose(2, 0, 1)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise RunError(
                f"{path.absolute()} can't be read as an image ({error}); repair it or remove it"
            ) from error


def _folders(directory: Path) -> list[str]:
    return sorted(p.name for p in directory.iterdir() if p.is_dir() and p.name[0] != ".")


def _images(root: Path, folder: str) -> list[tuple[str, int, int]]:
    directory = root / folder
    if not directory.is_dir():
        return []
    images = []
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.lower().endswith(IMG_EXTENSIONS) and entry.name[0] != ".":
                status = entry.stat()
                images.append((f"{folder}/{entry.name}", status.st_size, status.st_mtime_ns))
    return sorted(images)


def _targets(counts: list[int]) -> torch.Tensor:
    return torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))


def _digest(described: Any, images: np.ndarray | None = None) -> str:
    digest = hashlib.sha256(json.dumps(described).encode())
    if images is not None:
        digest.update(images.data)
    return digest.hexdigest()


def _store(cache: Path, images: np.ndarray, content: str) -> None:
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(cache) as file:
            np.save(file, images, allow_pickle=False)
        write_whole(cache.with_suffix(".json"), json.dumps({"content": content}).encode())
    except OSError as error:
        logger.warning("the decoded images can't be kept in %s (%s)", cache.parent, error)
