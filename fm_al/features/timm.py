"""Features of a network of timm, such as DINOv2 or CLIP."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from fm_al.errors import ConfigError, RunError
from fm_al.features.networks import NetworkExtractor, Preparation, optional


@dataclass(frozen=True, kw_only=True)
class Timm(NetworkExtractor):
    """A pretrained network of timm without its classifier.

    Images are resized to the side that the weights were trained with, without cropping.

    Args:
        model: As in `timm.list_models(pretrained=True)`.
    """

    model: Annotated[str, Field(min_length=1)]

    @cached_property
    def network(self) -> nn.Module:
        timm = optional("timm", "timm")
        if not timm.is_model(self.model.partition(".")[0]):
            raise ConfigError(
                f"features.model={self.model}: timm has no such model; "
                "timm.list_models(pretrained=True) lists them"
            )
        try:
            network: nn.Module = timm.create_model(self.model, pretrained=True, num_classes=0)
        except Exception as error:  # no network, no such weights: a dozen classes of errors
            reason = " ".join(str(error).split())[:300]
            raise RunError(
                f"features.model={self.model}: its weights can't be downloaded or read ({reason})"
            ) from error
        return network.eval()

    def prepare(self, images: Tensor) -> Tensor:
        return self._preparation(images)

    @cached_property
    def _preparation(self) -> Preparation:
        data = optional("timm.data", "timm").resolve_model_data_config(self.network)
        mode = "bicubic" if data["interpolation"] == "bicubic" else "bilinear"
        side = self.resize_to or data["input_size"][-1]
        return Preparation(side, tuple(data["mean"]), tuple(data["std"]), mode)
