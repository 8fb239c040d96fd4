"""The contract of a feature extractor."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# Maps a batch on the device, (n, channels, height, width) as stored, to features, float (n, D).
FeatureMap = Callable[["Tensor"], "Tensor"]


@dataclass(frozen=True, kw_only=True)
class Extractor(ABC):
    """Compute fixed features of images: one file in `fm_al/features/`, one in `conf/features/`.

    It implements `fitted`. Its own options are added to these as dataclass fields. The same
    options, images and weights must give the same features: what is computed once is kept.

    Args:
        normalize: Whether every feature vector is divided by its length.
    """

    normalize: bool = False

    def identity(self) -> dict[str, Any]:
        """What features depend on beside the images, as JSON: the class and its options.

        An extractor with weights or files adds a digest of their content.
        """
        kind = type(self)
        return {"class": f"{kind.__module__}.{kind.__qualname__}", **dataclasses.asdict(self)}

    def given(self, count: int) -> Tensor | None:
        """Features that need not be computed, float (count, D), perhaps a memory map.

        Args:
            count: The number of images in the data set's train split.

        Raises:
            RunError: If they don't fit the images.
        """
        return None

    @abstractmethod
    def fitted(self, images: Tensor, device: torch.device) -> FeatureMap:
        """Prepare the extractor for a data set.

        Args:
            images: The train split's, on the CPU: uint8 (N, channels, height, width), or the floats
                of a data set of vectors.
            device: Where features will be computed.

        Returns:
            The function that computes them, for train and test images.

        Raises:
            ConfigError: If the options don't fit the images.
        """


def extractor_name(extractor: Extractor) -> str:
    """The name of its file, such as `pca`."""
    return type(extractor).__module__.rpartition(".")[2]
