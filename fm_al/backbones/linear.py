"""Multinomial logistic regression on the pixels."""

from __future__ import annotations

from torch import Tensor, nn

from fm_al.backbones.base import Backbone


class Linear(Backbone):
    """The last layer alone. The embedding is the flattened image.

    Args:
        channels: Of the images.
        classes: C.
        image_size: Height and width in pixels.
    """

    takes_vectors = True

    def __init__(self, channels: int, classes: int, image_size: tuple[int, int]) -> None:
        super().__init__()
        height, width = image_size
        self.head = nn.Linear(channels * height * width, classes)

    def embed(self, images: Tensor) -> Tensor:
        return images.flatten(1)
