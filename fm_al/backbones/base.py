"""The contract of a backbone: logits = head(embed(x))."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn


class Backbone(nn.Module, ABC):
    """A classification network that says where its last layer starts.

    A backbone is one file in `fm_al/backbones/` and one in `conf/backbone/`. Its constructor takes
    `channels`, `classes` and `image_size` (height and width in pixels), which the data set decides,
    and its own options by name. Strategies that use embeddings or the last layer's gradients read
    `embed` and `head`.

    Attributes:
        head: The last linear layer, D inputs and C outputs.
        takes_vectors: Whether it works on vectors, images of 1 x 1 pixels. Convolutions don't.
    """

    takes_vectors: ClassVar[bool] = False
    head: nn.Linear

    @abstractmethod
    def embed(self, images: Tensor) -> Tensor:
        """Compute the input of the last layer.

        Args:
            images: Normalised, float (N, channels, height, width).

        Returns:
            Embeddings, float (N, D).
        """

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits of images, float (N, C)."""
        return self.head(self.embed(images))
