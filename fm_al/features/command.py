"""`fm-al-features`: computes features of a data set into a folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fm_al.config import build, check_node
from fm_al.data.base import Dataset
from fm_al.device import Device
from fm_al.errors import ConfigError
from fm_al.features.base import Extractor
from fm_al.features.folder import make_folder
from fm_al.features.none import NoFeatures
from fm_al.records.result_config import Config

KINDS = {"dataset": Dataset, "features": Extractor, "device": Device}


def compute(config: Config, folder: Path, dtype: str) -> None:
    """Check the configuration, compute the features that the folder lacks, and say what it has.

    Args:
        config: A resolved configuration.
        folder: Where the features go.
        dtype: `float16` or `float32`.

    Raises:
        ConfigError: The configuration is invalid.
        RunError: As `make_folder`.
    """
    for group, kind in KINDS.items():
        check_node(group, config[group], kind)
    dataset, extractor, device = (build(config[group]) for group in KINDS)
    if isinstance(extractor, NoFeatures):
        raise ConfigError("features=none: choose what to compute, such as features=pca")
    device.set_up()
    data = dataset.load(Path(config["data_dir"]), config["download"])
    is_complete = make_folder(folder, data, extractor, device, np.dtype(dtype))
    dimensions = np.load(folder / "train.npy", mmap_mode="r").shape[1]
    print(
        f"{folder}: {len(data.train)} training images, {len(data.test)} test images, "
        f"{len(data.class_names)} classes, {dimensions} features in {dtype}"
        + ", complete already"
        * is_complete
    )
