"""Features of images, computed on the device in batches, and digests of what they depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fm_al.device import Device
from fm_al.errors import RunError, memory_errors_named
from fm_al.features.base import Extractor, FeatureMap
from fm_al.records.digests import canonical

METHOD = 1  # raised when the same options give other features than before
CHUNK = 2**24  # bytes at a time


def digest_of(images: Tensor) -> str:
    """SHA-256 of images, their type and their shape."""
    described = [str(images.dtype), list(images.shape)]
    digest = hashlib.sha256(json.dumps(described).encode())
    rows = max(1, CHUNK // max(1, images[:1].nbytes))
    for part in images.split(rows):
        digest.update(part.contiguous().numpy().data)
    return digest.hexdigest()


def made_of(extractor: Extractor, **data: Any) -> dict[str, Any]:
    """What features depend on, as JSON. data: digests of images and what else counts."""
    described = {"method": METHOD, "extractor": extractor.identity(), **data}
    return json.loads(json.dumps(described))


def fingerprint_of(made: dict[str, Any]) -> str:
    """SHA-256 of `made_of`."""
    return hashlib.sha256(canonical(made).encode()).hexdigest()


def normalized(features: Tensor) -> Tensor:
    """Divide feature vectors, (n, D), by their lengths. Zeros stay zeros."""
    return functional.normalize(features, eps=1e-12)


def rows_of(
    compute: FeatureMap, images: Tensor, device: Device, normalize: bool
) -> Callable[[slice], np.ndarray]:
    """A function that computes the features of consecutive images, float32 (n, D) on the CPU.

    Args:
        compute: Maps a batch to features.
        images: On the CPU.
        device: Where features are computed.
        normalize: Whether vectors get length 1.
    """

    def rows(which: slice) -> np.ndarray:
        with (
            torch.inference_mode(),
            memory_errors_named("computing features", "device.scoring_batch_size"),
        ):
            features = compute(images[which].to(device.torch_device)).float()
            features = (normalized(features) if normalize else features).cpu()
        refuse_not_finite(features, which.start)
        return features.numpy()

    return rows


def refuse_not_finite(features: Tensor, start: int = 0) -> None:
    """Raise RunError for the first vector that is not finite. start: the first one's position."""
    wrong = (~features.isfinite()).any(dim=1).nonzero()
    if len(wrong):
        raise RunError(f"the features of image {start + int(wrong[0])} are not finite")
