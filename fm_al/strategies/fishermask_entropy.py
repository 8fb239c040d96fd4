"""Half of each batch by entropy, half by FisherMask."""

from __future__ import annotations

import torch
from torch import Tensor

from fm_al.backbones.base import Backbone
from fm_al.strategies.base import Query, Strategy
from fm_al.strategies.entropy import Entropy
from fm_al.strategies.fishermask import FisherMask


class FisherMaskEntropy(Strategy):
    """First the n // 2 images of largest entropy, then those that complete them best to a batch by
    the Fisher information of the masked weights.

    fishermask: the strategy of that name, with its options.
    """

    def __init__(self, fishermask: FisherMask) -> None:
        self.augment = fishermask.augment
        self.fishermask = fishermask
        self.fishermask.key = "strategy.fishermask"

    def check_query(self, n: int) -> None:
        self.fishermask.check_query(n - n // 2)

    def check(self, network: Backbone, image: Tensor) -> None:
        self.fishermask.check(network, image)

    def select(self, query: Query, n: int, generator: torch.Generator) -> Tensor:
        uncertain = query.unlabelled[:0]
        if n > 1:
            uncertain = Entropy().select(query, n // 2, generator)
        informative = self.fishermask.complete(query, uncertain, n - len(uncertain), generator)
        return torch.cat([uncertain, informative])
