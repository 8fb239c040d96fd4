"""Half of each batch by entropy, half by FisherMask."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fm_al.backbones.base import Backbone
from fm_al.fisher.network_mask import check_network
from fm_al.fisher.selection import check_options, fishermask_selection
from fm_al.strategies.base import Query, QuerySizes, Strategy
from fm_al.strategies.entropy import Entropy
from fm_al.strategies.fishermask import FisherMask
from fm_al.strategies.optimal_design import option_names, pool_network, recorded, scored_pool

NAMES = option_names("strategy.fishermask")


@dataclass(frozen=True, kw_only=True)
class FisherMaskEntropy(Strategy):
    """Picks the n // 2 images of largest entropy, then completes the batch by FisherMask.

    The second half is chosen knowing the first: its information counts as if it were picked.

    Attributes:
        fishermask: The strategy of that name, with its options.
    """

    fishermask: FisherMask

    @property
    def augment(self) -> bool:  # type: ignore[override]
        return self.fishermask.augment

    def check_query(self, n: int) -> None:
        check_options(self.fishermask, n - n // 2, NAMES)

    def check(self, network: Backbone, image: Tensor) -> None:
        check_network(network, network.head, image, self.fishermask, NAMES)

    def memory(self, sizes: QuerySizes, n: int) -> dict[str, int]:
        return sizes.embeddings | sizes.logits  # the selection states the rest itself

    def select(self, query: Query, n: int, generator: torch.Generator) -> Tensor:
        uncertain = query.unlabelled[:0]
        if n > 1:
            uncertain = Entropy().select(query, n // 2, generator)
        pool, network = scored_pool(query), pool_network(query)
        selection = fishermask_selection(
            pool, network, uncertain, n - len(uncertain), generator, self.fishermask, NAMES
        )
        return torch.cat([uncertain, recorded(query, selection)])
