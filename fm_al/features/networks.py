"""What extractors with a network share: how images are prepared, and a digest of the weights."""

from __future__ import annotations

import hashlib
import importlib
import json
from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from fm_al.errors import ConfigError
from fm_al.features.base import Extractor, FeatureMap, extractor_name

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MAX_SIDE = 4096  # pixels
EXTRA = "features"  # of setup.cfg


@dataclass(frozen=True)
class Preparation:
    """Resize images to a square, bilinearly or bicubically, without cropping, and normalise them.

    Attributes:
        side: In pixels.
        mean: Per channel, of values in [0, 1].
        std: Per channel.
        mode: `bilinear` or `bicubic`.
    """

    side: int
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    mode: str = "bilinear"

    def __call__(self, images: Tensor) -> Tensor:
        """uint8 (n, 3, height, width) to float32 (n, 3, side, side)."""
        size = self.side, self.side
        resized = images.float() / 255
        if images.shape[2:] != size:
            shrinks = self.side < max(images.shape[2:])
            resized = functional.interpolate(resized, size=size, mode=self.mode, antialias=shrinks)
        mean, std = (torch.tensor(each, device=images.device) for each in (self.mean, self.std))
        return (resized - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)


@dataclass(frozen=True, kw_only=True)
class NetworkExtractor(Extractor):
    """Features are the output of a network with fixed weights, computed in float32.

    Grey images are repeated to three channels. An extractor implements `network` and `prepare`.

    Args:
        resize_to: Side in pixels that images are resized to. None is what the weights were trained
            with.
    """

    resize_to: Annotated[int, Field(ge=1, le=MAX_SIDE)] | None = None

    @property
    @abstractmethod
    def network(self) -> nn.Module:
        """The network, on the CPU; it maps prepared images to features, (n, D)."""

    @abstractmethod
    def prepare(self, images: Tensor) -> Tensor:
        """Prepare images as the weights want them.

        Args:
            images: uint8 (n, 3, height, width), on the device.

        Returns:
            float32 (n, 3, height, width).
        """

    @cached_property
    def weights_digest(self) -> str:
        """SHA-256 of the network's weights with their names."""
        digest = hashlib.sha256()
        for name, tensor in self.network.state_dict().items():
            digest.update(json.dumps([name, str(tensor.dtype), [*tensor.shape]]).encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        return digest.hexdigest()

    def identity(self) -> dict[str, Any]:
        return super().identity() | {"weights_digest": self.weights_digest}

    def fitted(self, images: Tensor, device: torch.device) -> FeatureMap:
        if images.is_floating_point() or images.shape[1] not in (1, 3):
            what = "vectors" if images.is_floating_point() else f"{images.shape[1]} channels"
            raise ConfigError(
                f"features={extractor_name(self)}: takes images of one or three channels, "
                f"and the data set has {what}; use features=pca"
            )
        network = self.network.to(device).eval()

        def compute(batch: Tensor) -> Tensor:
            return self._checked(network(self.prepare(batch.expand(-1, 3, -1, -1))))

        self._try(compute, images[:1].to(device))
        return compute

    def _try(self, compute: FeatureMap, image: Tensor) -> None:
        """Raise ConfigError if the network can't take the images."""
        try:
            with torch.inference_mode():
                compute(image)
        except (RuntimeError, ValueError, AssertionError) as error:
            if isinstance(error, ConfigError):
                raise
            reason = str(error).partition("\n")[0]
            raise ConfigError(
                f"features.resize_to={self.resize_to or 'null'}: the network can't take the images "
                f"({reason}); use another size, such as 224"
            ) from error

    def _checked(self, features: Any) -> Tensor:
        if isinstance(features, Tensor) and features.ndim == 2:
            return features
        shape = tuple(features.shape) if isinstance(features, Tensor) else type(features)
        raise ConfigError(
            f"features={extractor_name(self)}: the network returns {shape}; it should return "
            "a vector for every image"
        )


def optional(package: str, extractor: str) -> ModuleType:
    """Import a package of the extra `features`. Raises ConfigError if it is not installed."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ConfigError(
            f"features={extractor}: needs the package {package} ({error}); install it with "
            f"`pip install {package}` or `pip install 'fm_al[{EXTRA}]'`"
        ) from error
