"""Features of a torchvision network: the input of its last linear layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from pickle import UnpicklingError
from typing import Annotated

import torch
from pydantic import AfterValidator, Field
from torch import Tensor, nn
from torchvision import models

from fm_al.backbones.torchvision import AUXILIARY, known_model, model_of, without_last_layer
from fm_al.errors import ConfigError, RunError
from fm_al.features.networks import NetworkExtractor, Preparation


@dataclass(frozen=True, kw_only=True)
class Torchvision(NetworkExtractor):
    """A torchvision classification model without its last layer.

    Images are prepared as torchvision does it for the weights, resized and cropped. With
    `resize_to`, they are resized to a square instead. A model of a file is prepared for like the
    model's own weights.

    Args:
        name: As in `torchvision.models.list_models(module=torchvision.models)`.
        weights: Weights of torchvision such as DEFAULT, downloaded if they are not in its cache, or
            the path of a file with the model's `state_dict`. Of the last layer nothing is read.
    """

    name: Annotated[str, AfterValidator(known_model)]
    weights: Annotated[str, Field(min_length=1)] = "DEFAULT"

    @cached_property
    def network(self) -> nn.Module:
        available = models.get_model_weights(self.name).__members__
        if self.weights in available:
            model = model_of(self.name, self.weights, "features")
            without_last_layer(model, self.name, "features")
        elif Path(self.weights).is_file():
            model = model_of(self.name, None, "features")
            path, _ = without_last_layer(model, self.name, "features")
            self._load(model, path)
        else:
            raise ConfigError(
                f"features.weights={self.weights}: there is no such file, and {self.name} has no "
                f"such weights; use one of {', '.join(available)}, or the path of a file"
            )
        return model.eval()

    def prepare(self, images: Tensor) -> Tensor:
        return self._prepared(images)

    @cached_property
    def _prepared(self) -> Callable[[Tensor], Tensor]:
        available = models.get_model_weights(self.name).__members__
        known = self.weights if self.weights in available else "DEFAULT"
        as_trained = available[known].transforms() if known in available else None
        if as_trained is not None and self.resize_to is None:
            return as_trained
        if as_trained is None:
            return Preparation(self.resize_to or 224)
        return Preparation(
            self.resize_to or 224, tuple(as_trained.mean), tuple(as_trained.std), "bilinear"
        )

    def _load(self, model: nn.Module, last: str) -> None:
        """Load the file's weights into a model whose last layer, of this path, is gone."""
        try:
            state = torch.load(self.weights, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, UnpicklingError, EOFError) as error:
            reason = " ".join(str(error).split())[:200]
            raise RunError(f"features.weights={self.weights}: can't be read ({reason})") from error
        if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
            state = state["state_dict"]
        if not isinstance(state, dict) or not all(isinstance(x, Tensor) for x in state.values()):
            raise ConfigError(f"features.weights={self.weights}: holds no state_dict of a network")
        unused = tuple(f"{layer}." for layer in (last, *AUXILIARY))
        state = {key: value for key, value in state.items() if not key.startswith(unused)}
        if wrong := _misfit(model.state_dict(), state):
            raise ConfigError(
                f"features.weights={self.weights}: does not fit features.name={self.name}: {wrong}"
            )
        model.load_state_dict(state)


def _misfit(wanted: dict[str, Tensor], there: dict[str, Tensor]) -> str | None:
    """The first difference in names and shapes."""
    for key, tensor in wanted.items():
        if key not in there:
            return f"it lacks {key}"
        if there[key].shape != tensor.shape:
            shapes = tuple(there[key].shape), tuple(tensor.shape)
            return f"{key} has shape {shapes[0]}, the network's has {shapes[1]}"
    unknown = [key for key in there if key not in wanted]
    return f"the network has no {unknown[0]}" if unknown else None
