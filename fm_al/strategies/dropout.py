"""Dropout on the input of the last layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def mask_generator(generator: torch.Generator, device: torch.device) -> torch.Generator:
    """Make the generator of a query's masks on its device.

    Args:
        generator: The query's, a CPU generator, which seeds it.
        device: Where the masks are drawn.
    """
    masks = torch.Generator(device)
    masks.manual_seed(int(torch.randint(2**62, (), generator=generator)))
    return masks


def dropped_logits(
    head: nn.Linear, embeddings: Tensor, dropout: float, generator: torch.Generator
) -> Tensor:
    """Compute head(h * mask / (1 - dropout)) under one new mask for each image.

    Args:
        head: The last layer, D inputs and C outputs.
        embeddings: h, float32 (N, D).
        dropout: Probability that a number of h is dropped.
        generator: Draws the masks, on the device of the embeddings.

    Returns:
        float32 (N, C).
    """
    mask = torch.empty_like(embeddings).bernoulli_(1 - dropout, generator=generator)
    logits: Tensor = head(embeddings * mask / (1 - dropout))
    return logits
