"""BAIT, batch active learning by the last layer's Fisher information (Ash et al. 2021)."""

from __future__ import annotations

import torch
from torch import Tensor

from fm_al.fisher.design import Weighting
from fm_al.strategies.base import Query, Strategy
from fm_al.strategies.optimal_design import (
    Count,
    LabelledWeight,
    NotNegative,
    OptimalDesign,
    PoolFisher,
    Positive,
    QueryBlocks,
    Scale,
    Temperature,
)


class BAIT(Strategy):
    """Images that minimise tr(M^{-1} F) of the last layer, greedily (arXiv 2106.09675, sect. 3).

    The options are those of `OptimalDesign`. As (C - 1) D weights count, with C classes and
    embeddings of D numbers, the memory grows with the square of that.
    """

    def __init__(
        self,
        regularization: Positive,
        regularization_scale: Scale,
        oversampling: NotNegative,
        weighting: Weighting,
        pool_fisher: PoolFisher,
        labelled_fisher: bool,
        labelled_weight: LabelledWeight,
        temperature: Temperature,
        max_candidates: Count | None,
        memory_limit_gib: Positive | None,
        augment: bool = False,
    ) -> None:
        self.augment = augment
        self.design = OptimalDesign(
            regularization,
            regularization_scale,
            oversampling,
            weighting,
            pool_fisher,
            labelled_fisher,
            labelled_weight,
            temperature,
            max_candidates,
            memory_limit_gib,
        )

    def check_query(self, n: int) -> None:
        self.design.check_query(n, "strategy")

    def select(self, query: Query, n: int, generator: torch.Generator) -> Tensor:
        lowers_memory = (
            "lower strategy.max_candidates; if the matrices are too large, use a backbone with "
            "smaller embeddings or strategy=fishermask strategy.whole_last_layer=false"
        )
        temperature = self.design.temperature_of(query, "strategy")
        images = QueryBlocks(query, self.design.weighting, temperature, "strategy", lowers_memory)
        return self.design.select(query, n, generator, images)
