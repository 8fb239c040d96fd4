"""`query.features`: computed once for a data set, kept in `data_dir` and memory-mapped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fm_al.data.base import ImageData
from fm_al.data.datasets.features import mapped
from fm_al.device import Device
from fm_al.features.base import Extractor, extractor_name
from fm_al.features.extraction import (
    digest_of,
    fingerprint_of,
    made_of,
    normalized,
    refuse_not_finite,
    rows_of,
)
from fm_al.features.folder import fill
from fm_al.features.matrix import write_matrix
from fm_al.features.none import NoFeatures
from fm_al.records.lock import Lock

FILE = "features.npy"
CHUNK = 4096  # rows at a time


def with_features(
    data: ImageData, dataset: str, extractor: Extractor, device: Device, data_dir: Path
) -> ImageData:
    """Give the train split its features.

    Args:
        data: The whole data set, before any imbalance.
        dataset: Its name, for the folder.
        extractor: Computes the features; fitted on the train split.
        device: Where to compute.
        data_dir: Features are kept in `<data_dir>/features/<dataset>-<extractor>-<fingerprint>/`.

    Returns:
        The data with `train.features`, (N, D) float32, and `features_content`.

    Raises:
        ConfigError: The extractor doesn't fit the images.
        RunError: Features are not finite.
    """
    if isinstance(extractor, NoFeatures):
        return data
    made = made_of(extractor, train_images=digest_of(data.train.images))
    content = fingerprint_of(made)
    if (given := extractor.given(len(data.train))) is not None:
        features = _checked(given, extractor.normalize)
    else:
        folder = data_dir / "features" / f"{dataset}-{extractor_name(extractor)}-{content[:16]}"

        def write(lock: Lock) -> None:
            images = data.train.images
            compute = extractor.fitted(images, device.torch_device)
            rows = rows_of(compute, images, device, extractor.normalize)
            size = device.scoring_batch
            write_matrix(
                folder / FILE, content, len(images), np.dtype(np.float32), size, rows, lock
            )

        fill(folder, made, device.torch_device.type, [FILE], write)
        features = torch.from_numpy(mapped(folder / FILE))
    return replace(data, train=replace(data.train, features=features), features_content=content)


def _checked(given: Tensor, normalize: bool) -> Tensor:
    """Features of the user's in float32; as they are, and not copied, if that is what they are."""
    as_they_are = given.dtype == torch.float32 and not normalize
    features = given if as_they_are else torch.empty(given.shape, dtype=torch.float32)
    for start in range(0, len(given), CHUNK):
        part = given[start : start + CHUNK].float()
        refuse_not_finite(part, start)
        if not as_they_are:
            features[start : start + CHUNK] = normalized(part) if normalize else part
    return features
