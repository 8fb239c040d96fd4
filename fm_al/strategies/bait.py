"""BAIT, batch active learning by the last layer's Fisher information (Ash et al. 2021)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fm_al.fisher.options import DesignOptions
from fm_al.fisher.selection import bait_selection, check_options
from fm_al.strategies.base import Query, QuerySizes, Strategy
from fm_al.strategies.optimal_design import option_names, recorded, scored_pool


@dataclass(frozen=True, kw_only=True)
class BAIT(DesignOptions, Strategy):
    """Picks the images that minimise tr(M^{-1} F) of the last layer (arXiv 2106.09675, sect. 3).

    The options are those of `DesignOptions`. With C classes and embeddings of D numbers, (C - 1) D
    weights count, and memory grows with the square of that.
    """

    augment: bool = False

    def check_query(self, n: int) -> None:
        check_options(self, n, option_names())

    def memory(self, sizes: QuerySizes, n: int) -> dict[str, int]:
        return sizes.embeddings | sizes.logits  # the selection states the rest itself

    def select(self, query: Query, n: int, generator: torch.Generator) -> Tensor:
        return recorded(
            query, bait_selection(scored_pool(query), n, generator, self, option_names())
        )
