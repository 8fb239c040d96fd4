"""FisherMask, batch active learning by the Fisher information of a network's most important weights
(Gul et al. 2024, arXiv 2411.05752)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fm_al.backbones.base import Backbone
from fm_al.fisher.network_mask import check_network
from fm_al.fisher.options import FisherMaskOptions
from fm_al.fisher.selection import check_options, fishermask_selection
from fm_al.strategies.base import Query, QuerySizes, Strategy
from fm_al.strategies.optimal_design import option_names, pool_network, recorded, scored_pool


@dataclass(frozen=True, kw_only=True)
class FisherMask(FisherMaskOptions, Strategy):
    """Picks the images that minimise tr(M^{-1} F) of the masked weights of all layers.

    The options are those of `FisherMaskOptions`.
    """

    augment: bool = False

    def check_query(self, n: int) -> None:
        check_options(self, n, option_names())

    def check(self, network: Backbone, image: Tensor) -> None:
        check_network(network, network.head, image, self, option_names())

    def memory(self, sizes: QuerySizes, n: int) -> dict[str, int]:
        return sizes.embeddings | sizes.logits  # the selection states the rest itself

    def select(self, query: Query, n: int, generator: torch.Generator) -> Tensor:
        nothing = query.labelled[:0]
        pool, network = scored_pool(query), pool_network(query)
        selection = fishermask_selection(pool, network, nothing, n, generator, self, option_names())
        return recorded(query, selection)
