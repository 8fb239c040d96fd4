"""The two-dimensional data sets of MedMNIST, which its package `medmnist` downloads."""

from __future__ import annotations

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
    The file is `<data_dir>/medmnist/<name>.npz`, or `<name>_<size>.npz` above 28 pixels.

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
        folder = data_dir / "medmnist"
        try:
            train, test = self._open(package, folder)
        except Exception as error:  # the package has no errors of its own; zip and numpy have many
            if not download:
                raise self._missing_or_damaged(data_dir, info, "download=false", error) from error
            try:
                with exclusive_download(folder), quiet_unless_on_terminal():
                    logger.info("downloading %s to %s", self.name, folder.resolve())
                    train, test = self._open(package, folder, download=True)
            except Exception as failed:
                why = "its download failed"
                raise self._missing_or_damaged(data_dir, info, why, failed) from failed
        labels = info["label"]
        return ImageData(train, test, tuple(labels[str(number)] for number in range(len(labels))))

    @property
    def _file(self) -> str:
        return f"{self.name}.npz" if self.size == 28 else f"{self.name}_{self.size}.npz"

    def _open(self, package: ModuleType, folder: Path, download: bool = False) -> list[Split]:
        info = package.INFO[self.name]
        reader = getattr(package, info["python_class"])
        splits = []
        for split in ("train", "test"):
            stored = reader(split=split, root=str(folder), size=self.size, download=download)
            if len(stored.imgs) != info["n_samples"][split]:
                raise ValueError(f"{len(stored.imgs)} images in {split}")
            splits.append(_split(stored))
        return splits

    def _missing_or_damaged(
        self, data_dir: Path, info: dict[str, Any], why: str, error: Exception
    ) -> RunError:
        path = (data_dir / "medmnist" / self._file).resolve()
        found, remedy = f"{path} is not there", ""
        if path.exists():
            found, remedy = f"{path} is damaged or incomplete", f"delete {path}, then "
        cause = error.__context__ or error  # the package answers any failure with instructions
        reason = " ".join(str(cause).split())[:200] or type(cause).__name__
        url = info["url" if self.size == 28 else f"url_{self.size}"]
        options = f"dataset.name={self.name} dataset.size={self.size} data_dir={data_dir}"
        return RunError(
            f"dataset {self.name}: {found} and {why} ({reason}); {remedy}run `fm-al-data medmnist "
            f"{options}` on a machine with a network, or download {url} to that place"
        )


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
