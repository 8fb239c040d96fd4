"""A small convolutional network, quick enough for a CPU."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

from pydantic import Field, PositiveInt
from torch import Tensor, nn

from fm_al.backbones.base import Backbone
from fm_al.errors import ConfigError


class CNN(Backbone):
    """3 x 3 convolutions with batch norm and ReLU, and the mean over all positions.

    The image is halved between convolutions.

    Args:
        channels: Of the images.
        classes: C.
        image_size: Height and width in pixels.
        widths: Channels of the convolutions; the last is D, the size of the embedding.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        image_size: tuple[int, int],
        widths: Annotated[list[PositiveInt], Field(min_length=1)],
    ) -> None:
        super().__init__()
        smallest = 2 ** (len(widths) - 1)
        if min(image_size) < smallest:
            raise ConfigError(
                f"backbone.widths={widths}: {len(widths)} convolutions need images of "
                f"{smallest} x {smallest}, these are {image_size[0]} x {image_size[1]}; "
                f"use at most {min(image_size).bit_length()}"
            )
        layers: list[nn.Module] = []
        for channels_in, channels_out in pairwise([channels, *widths]):
            layers += [
                nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
                nn.BatchNorm2d(channels_out),
                nn.ReLU(),
                nn.MaxPool2d(2),
            ]
        self.body = nn.Sequential(*layers[:-1], nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(widths[-1], classes)

    def embed(self, images: Tensor) -> Tensor:
        return self.body(images)
