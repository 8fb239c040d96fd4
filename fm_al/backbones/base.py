"""The contract of a backbone: logits = head(embed(x))."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Backbone(nn.Module, ABC):
    """A network for classification that says where its last layer starts.

    A backbone is one file here and one in `conf/backbone/`. Its constructor takes `channels`,
    `classes` and `image_size` (height and width in pixels), which the data set decides, and every
    option of its own by name. `head` is the last linear layer; the query strategies that work on
    embeddings or on the last layer's gradients read `embed` and `head`.
    """

    head: nn.Linear

    @abstractmethod
    def embed(self, images: Tensor) -> Tensor:
        """What the last layer reads: (N, D) float, of images (N, channels, height, width)."""

    def forward(self, images: Tensor) -> Tensor:
        """Logits, (N, classes)."""
        return self.head(self.embed(images))
