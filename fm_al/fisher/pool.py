"""What selection reads of a pool of images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class ScoredPool:
    """The outputs of a network for a pool of N images with C classes.

    Attributes:
        embeddings: What the last layer reads, (N, D), any float type.
        logits: (N, C), any float type, on the same device.
        head_bias: Whether the last layer has a bias.
        labelled: Indices of the labelled images, (n_L,) int64, on the same device.
        unlabelled: Indices of the images to choose from, like `labelled`, ascending.
    """

    embeddings: Tensor
    logits: Tensor
    head_bias: bool
    labelled: Tensor
    unlabelled: Tensor

    @property
    def device(self) -> torch.device:
        return self.logits.device

    @property
    def classes(self) -> int:
        """C."""
        return self.logits.shape[1]

    def __len__(self) -> int:
        """N."""
        return len(self.logits)


@dataclass(frozen=True)
class PoolNetwork:
    """The network itself and the pool's images, for gradients of weights in all layers.

    Attributes:
        network: In eval mode, on the pool's device.
        head: Its last layer, one of its modules.
        images: Returns the images of these indices as the network takes them, (n, ...).
        batch_size: Images per forward pass.
    """

    network: nn.Module
    head: nn.Linear
    images: Callable[[Tensor], Tensor]
    batch_size: int
