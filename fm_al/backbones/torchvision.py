"""Any of torchvision's classification models, with a new last layer."""

from __future__ import annotations

from difflib import get_close_matches
from http.client import HTTPException
from pathlib import Path
from pickle import UnpicklingError
from typing import Annotated, Any

import torch
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError
from torch import Tensor, nn
from torch.nn import functional
from torchvision import models

from fm_al.backbones.base import Backbone
from fm_al.errors import ConfigError, RunError

AUXILIARY = ("aux1", "aux2", "AuxLogits")  # heads that only help training
MAX_SIDE = 4096  # pixels; the first feature maps of one image then take gigabytes

# Their default initialisation is slow and deprecated; this is its announced successor.
_OPTIONS: dict[str, dict[str, Any]] = {
    "googlenet": {"init_weights": False},
    "inception_v3": {"init_weights": False},
}


def known_model(name: str) -> str:
    names = models.list_models(module=models)
    if name not in names:
        close = get_close_matches(name, names) or names
        raise PydanticCustomError(
            "unknown_model",
            "torchvision has no such classification model; use {names}",
            {"names": " or ".join(close)},
        )
    return name


class Torchvision(Backbone):
    """A torchvision model whose last linear layer is replaced by a new one, `head`.

    Grey images are repeated to three channels.

    Args:
        channels: Of the images, 1 or 3.
        classes: C.
        image_size: Height and width in pixels.
        name: As in `torchvision.models.list_models(module=torchvision.models)`.
        weights: None, or pretrained weights of this model such as DEFAULT. torchvision downloads
            them if they are not in its cache.
        resize_to: Side in pixels that batches are resized to, bilinearly. None does not resize.

    Raises:
        ConfigError: If the model has no linear last layer, or cannot take the images.
        RunError: If the weights cannot be downloaded or read.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        image_size: tuple[int, int],
        name: Annotated[str, AfterValidator(known_model)],
        weights: str | None,
        resize_to: Annotated[int, Field(ge=1, le=MAX_SIDE)] | None,
    ) -> None:
        super().__init__()
        if channels not in (1, 3):
            raise ConfigError(
                f"backbone.name={name}: torchvision's models take images of three channels or, "
                f"repeated, of one; these have {channels}"
            )
        self.resize_to = resize_to
        model = model_of(name, weights, "backbone")
        _, last = without_last_layer(model, name, "backbone")
        self.body = model
        self.head = nn.Linear(last.in_features, classes)
        self._check_size(name, image_size)

    def embed(self, images: Tensor) -> Tensor:
        if self.resize_to is not None:
            images = functional.interpolate(
                images,
                size=(self.resize_to, self.resize_to),
                mode="bilinear",
                antialias=self.resize_to < max(images.shape[2:]),
            )
        return self.body(images.expand(-1, 3, -1, -1))

    def _check_size(self, name: str, image_size: tuple[int, int]) -> None:
        """Raise ConfigError if the model cannot take the images, by a pass on the meta device."""
        height, width = (self.resize_to, self.resize_to) if self.resize_to else image_size
        tensors = dict([*self.body.named_parameters(), *self.body.named_buffers()])
        meta = {key: tensor.detach().to("meta") for key, tensor in tensors.items()}
        training = self.body.training
        self.body.eval()
        try:
            torch.func.functional_call(
                self.body, meta, torch.empty(1, 3, height, width, device="meta")
            )
        except (RuntimeError, ValueError, AssertionError) as error:
            reason = str(error).partition("\n")[0]
            raise ConfigError(
                f"backbone.resize_to={self.resize_to or 'null'}: {name} can't take images of "
                f"{height} x {width} ({reason}); use {getattr(self.body, 'image_size', 224)}"
            ) from error
        finally:
            self.body.train(training)


def model_of(name: str, weights: str | None, group: str) -> nn.Module:
    """Make torchvision's model without its auxiliary heads.

    Args:
        name: Of the model.
        weights: None, or the name of weights of torchvision.
        group: The group of the configuration that asks for it, for errors.
    """
    options = _OPTIONS.get(name, {})
    if weights is None:
        model = models.get_model(name, **options)
    else:
        available = models.get_model_weights(name).__members__
        if weights not in available:
            raise ConfigError(
                f"{group}.weights={weights}: {name} has no such weights; "
                f"use null or one of {', '.join(available)}"
            )
        try:
            model = models.get_model(name, weights=available[weights], **options)
        except (OSError, HTTPException, RuntimeError, UnpicklingError, EOFError) as error:
            url = available[weights].url
            file = Path(torch.hub.get_dir(), "checkpoints", Path(url).name)
            reason = " ".join(str(error).split())
            raise RunError(
                f"{group}.weights={weights}: could not download or read {name}'s weights "
                f"({reason}); put {url} at {file}"
                + ", or use backbone.weights=null"
                * (group == "backbone")
            ) from error
    for auxiliary in AUXILIARY:
        if hasattr(model, auxiliary):
            model.aux_logits = False
            setattr(model, auxiliary, None)
    return model


def without_last_layer(model: nn.Module, name: str, group: str) -> tuple[str, nn.Linear]:
    """Replace a model's last layer by the identity; return its path and the layer.

    Raises:
        ConfigError: The last layer is not linear.
    """
    path, last = list(model.named_modules())[-1]
    if not isinstance(last, nn.Linear):
        raise ConfigError(
            f"{group}.name={name}: does not end in a linear layer, which "
            f"{'the query strategies need' if group == 'backbone' else 'takes the features'}; use "
            "another, such as resnet18 or mobilenet_v3_small"
        )
    parent, _, attribute = path.rpartition(".")
    setattr(model.get_submodule(parent), attribute, nn.Identity())
    return path, last
