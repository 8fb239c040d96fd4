"""Principal components of the pixels: features that need no network and no download."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from fm_al.device import float64_device
from fm_al.errors import ConfigError, RunError
from fm_al.features.base import Extractor, FeatureMap

DEFAULT_DIMENSIONS = 64
MAX_PIXELS = 8192  # the covariance then has 0.5 GiB, and its eigenvectors take minutes
CHUNK = 4096  # images at a time


@dataclass(frozen=True, kw_only=True)
class PCA(Extractor):
    """Project images on the directions of largest variance of the train split.

    Computed in float64 from the covariance of the pixels. Components are signed so that their
    largest entry is positive.

    Args:
        dimensions: How many. None is 64, or the rank of the pixels' covariance if that is lower.
        resize_to: Side in pixels that images are first averaged down to. None keeps them.
        whiten: Scale every coordinate to variance 1. Otherwise distances are those of the pixels,
            but for what the other directions add.
    """

    dimensions: Annotated[int, Field(ge=1)] | None = None
    resize_to: Annotated[int, Field(ge=1)] | None = None
    whiten: bool = True

    def identity(self) -> dict[str, Any]:
        known = super().identity()
        if self.whiten:
            del known["whiten"]  # features that were kept before this option existed are whitened
        return known

    def fitted(self, images: Tensor, device: torch.device) -> FeatureMap:
        device = float64_device(device)
        mean, directions, variances = self._components(images, device)
        scaled = directions / variances.sqrt() if self.whiten else directions

        def project(batch: Tensor) -> Tensor:
            return (self._pixels(batch.to(device)) - mean) @ scaled

        return project

    def _components(self, images: Tensor, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Mean, (P,), directions as columns, (P, D), and variances along them, (D,), float64."""
        side = self._side(images)
        if side is not None and side > min(images.shape[2:]):
            raise ConfigError(
                f"features.resize_to={side}: the images are {images.shape[2]} x {images.shape[3]}; "
                "use a smaller side, or null"
            )
        pixels = math.prod(images.shape[1:]) if side is None else images.shape[1] * side**2
        if pixels > MAX_PIXELS:
            most = math.isqrt(MAX_PIXELS // images.shape[1])
            raise ConfigError(
                f"features.resize_to={side or 'null'}: the images have {pixels:,} values, which "
                f"are too many for features=pca; use at most {most}"
            )
        mean = torch.zeros(pixels, dtype=torch.float64, device=device)
        for chunk in self._chunks(images, device):
            mean += chunk.sum(dim=0) / len(images)
        covariance = torch.zeros(pixels, pixels, dtype=torch.float64, device=device)
        for chunk in self._chunks(images, device):
            chunk -= mean
            covariance.addmm_(chunk.T, chunk, alpha=1 / len(images))
        variances, directions = torch.linalg.eigh(covariance)
        variances, directions = variances.flip(0), directions.flip(1)
        dimensions = self._dimensions(variances, mean)
        directions = directions[:, :dimensions]
        largest = directions.gather(0, directions.abs().argmax(dim=0, keepdim=True))
        return mean, directions * largest.sign(), variances[:dimensions]

    def _dimensions(self, variances: Tensor, mean: Tensor) -> int:
        """How many of the directions are used. variances: of all, descending."""
        epsilon = torch.finfo(torch.float64).eps
        of_rounding = 16 * epsilon * mean.square().max()  # where the mean is subtracted
        noise = len(variances) * epsilon * (variances[0] + of_rounding)
        rank = int((variances > noise).sum())
        if rank == 0:
            raise RunError("features=pca: all images of the train split are the same")
        if self.dimensions is None:
            return min(DEFAULT_DIMENSIONS, rank)
        if self.dimensions > rank:
            raise ConfigError(
                f"features.dimensions={self.dimensions}: the images vary in {rank} directions; use "
                f"at most {rank}"
            )
        return self.dimensions

    def _chunks(self, images: Tensor, device: torch.device) -> Iterator[Tensor]:
        for chunk in images.split(CHUNK):
            yield self._pixels(chunk.to(device))

    def _pixels(self, batch: Tensor) -> Tensor:
        """Values in [0, 1] of images, those of vectors as they are: float64 (n, P), a new tensor"""
        scale = 1.0 if batch.is_floating_point() else 255.0
        values = batch.double() / scale
        if (side := self._side(batch)) is not None:
            values = functional.interpolate(values, size=(side, side), mode="area")
        return values.flatten(1)

    def _side(self, images: Tensor) -> int | None:
        return None if images.is_floating_point() else self.resize_to
