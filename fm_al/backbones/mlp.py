"""Multilayer perceptron on the pixels."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

from pydantic import Field, PositiveInt
from torch import Tensor, nn

from fm_al.backbones.base import Backbone


class MLP(Backbone):
    """Fully connected layers with ReLU on the flattened image.

    Args:
        channels: Of the images.
        classes: C.
        image_size: Height and width in pixels.
        hidden: Widths of the layers; the last is D, the size of the embedding.
    """

    takes_vectors = True

    def __init__(
        self,
        channels: int,
        classes: int,
        image_size: tuple[int, int],
        hidden: Annotated[list[PositiveInt], Field(min_length=1)],
    ) -> None:
        super().__init__()
        height, width = image_size
        layers: list[nn.Module] = [nn.Flatten()]
        for features_in, features_out in pairwise([channels * height * width, *hidden]):
            layers += [nn.Linear(features_in, features_out), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(hidden[-1], classes)

    def embed(self, images: Tensor) -> Tensor:
        return self.body(images)
