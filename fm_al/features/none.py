"""No features: `query.features` is an error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fm_al.errors import ConfigError
from fm_al.features.base import Extractor, FeatureMap

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class NoFeatures(Extractor):
    """Computes nothing."""

    def __init__(self) -> None:
        super().__init__()

    def fitted(self, images: Tensor, device: torch.device) -> FeatureMap:
        raise ConfigError("features=none: computes no features; use another, such as features=pca")
