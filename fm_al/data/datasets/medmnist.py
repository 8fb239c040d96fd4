"""The two-dimensional data sets of MedMNIST, which its package `medmnist` downloads."""

from __future__ import annotations

import hashlib
import importlib
import logging
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from fm_al.data.base import Dataset, ImageData, Split
from fm_al.data.downloads import exclusive_download, quiet_unless_on_terminal
from fm_al.device import require_memory
from fm_al.errors import ConfigError, RunError

logger = logging.getLogger(__name__)

NAMES = (
    *("bloodmnist", "breastmnist", "dermamnist", "octmnist", "organamnist", "organcmnist"),
    *("organsmnist", "pathmnist", "pneumoniamnist", "retinamnist", "tissuemnist"),
)
SEVERAL_LABELS = ("chestmnist",)
OLDEST = 3  # the first version of the package with images larger than 28 x 28


@dataclass(frozen=True, kw_only=True)
class MedMNIST(Dataset):
    """A data set of MedMNIST (Yang et al. 2023, doi 10.1038/s41597-022-01721-8).

    The pool is its training split, the test set its test split; its validation split is not used.
    The file is `<data_dir>/medmnist/<name>.npz`, or `<name>_<size>.npz` above 28 pixels. Its MD5 is
    compared with the package's whenever it is read.

    Args:
        name: Which data set; all have one label per image.
        size: Side of the images in pixels.
    """

    name: str
    size: Literal[28, 64, 128, 224] = 28

    def __post_init__(self) -> None:
        if self.name in NAMES:
            return
        why = "no such data set"
        if self.name in SEVERAL_LABELS:
            why = "its images have several labels each, and classification needs one"
        elif self.name.endswith("3d"):
            why = "its images are three-dimensional"
        raise ConfigError(f"dataset.name={self.name}: {why}; use one of {', '.join(NAMES)}")

    def read(self, data_dir: Path, download: bool) -> ImageData:
        import torch

        package = _package()
        info = package.INFO[self.name]
        samples = info["n_samples"]["train"] + info["n_samples"]["test"]
        require_memory(
            f"dataset.size={self.size}: reading {samples} images",
            2 * samples * info["n_channels"] * self.size**2,  # colours are moved to the front
            torch.device("cpu"),
            "lower it",
        )
        path = (data_dir / "medmnist" / self._file).resolve()
        problem = self._problem(path, info)
        if problem is not None:
            self._download(package, path, problem, data_dir, download)
        train, test = (_split(self._open(package, path, split)) for split in ("train", "test"))
        labels = info["label"]
        return ImageData(train, test, tuple(labels[str(number)] for number in range(len(labels))))

    @property
    def _file(self) -> str:
        return f"{self.name}.npz" if self.size == 28 else f"{self.name}_{self.size}.npz"

    def _key(self, key: str) -> str:
        """The package's key for files of this size, such as `MD5` or `MD5_64`."""
        return key if self.size == 28 else f"{key}_{self.size}"

    def _problem(self, path: Path, info: dict[str, Any]) -> str | None:
        """Say what is wrong with a file; None if it is there, with the digest the package knows."""
        if not path.exists():
            return f"{path} is not there"
        found, expected = _md5(path), info[self._key("MD5")]
        if found == expected:
            return None
        return (
            f"{path} is damaged, incomplete or another file (its MD5 is {found}, "
            f"medmnist expects {expected})"
        )

    def _open(self, package: ModuleType, path: Path, split: str, download: bool = False) -> Any:
        reader = getattr(package, package.INFO[self.name]["python_class"])
        return reader(split=split, root=str(path.parent), size=self.size, download=download)

    def _download(
        self, package: ModuleType, path: Path, problem: str, data_dir: Path, allowed: bool
    ) -> None:
        """Let the package download a file and check its digest.

        Raises:
            RunError: If that fails or is not allowed; says what is wrong with the file.
        """
        why, cause = "download=false", None
        if allowed:
            try:
                with exclusive_download(path.parent), quiet_unless_on_terminal():
                    logger.info("%s; downloading %s", problem, self.name)
                    self._open(package, path, "test", download=True)
                    return
            except Exception as error:  # the package has no errors of its own
                cause = error.__context__ or error  # it answers any failure with instructions
                reason = " ".join(str(cause).split())[:200] or type(cause).__name__
                why = f"its download failed ({reason})"
        url = package.INFO[self.name][self._key("url")]
        options = f"dataset.name={self.name} dataset.size={self.size} data_dir={data_dir}"
        remedy = f"delete {path}, then " if path.exists() else ""
        raise RunError(
            f"dataset {self.name}: {problem} and {why}; {remedy}run `fm-al-data medmnist "
            f"{options}` on a machine with a network, or download {url} to that place"
        ) from cause


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def _split(stored: Any) -> Split:
    import torch

    images = torch.from_numpy(stored.imgs)  # (N, height, width), and colours behind
    images = images.unsqueeze(1) if images.ndim == 3 else images.permute(0, 3, 1, 2).contiguous()
    return Split(images, torch.from_numpy(stored.labels).long().flatten())


def _package() -> ModuleType:
    """Import medmnist. Raises ConfigError if it is not installed, or too old."""
    remedy = "install it with `pip install 'fm_al[medmnist]'` or `pip install 'medmnist>=3'`"
    try:
        package = importlib.import_module("medmnist")
    except ImportError as error:
        raise ConfigError(
            f"dataset=medmnist: needs the package medmnist ({error}); {remedy}"
        ) from error
    version = package.__version__
    if int(version.partition(".")[0]) < OLDEST:
        raise ConfigError(
            f"dataset=medmnist: needs version {OLDEST} of the package medmnist, and {version} is "
            f"installed; {remedy}"
        )
    return package
