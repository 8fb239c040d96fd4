"""Random: the baseline that every other strategy has to beat."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fm_al.strategies.base import Query, QuerySizes, Strategy
from fm_al.strategies.candidates import CandidateOptions


@dataclass(frozen=True, kw_only=True)
class Random(CandidateOptions, Strategy):
    """Pick n images uniformly, without replacement."""

    def memory(self, sizes: QuerySizes, n: int) -> dict[str, int]:
        return sizes.vectors(12)

    def select(self, query: Query, n: int, generator: torch.Generator) -> Tensor:
        order = torch.randperm(len(query.unlabelled), generator=generator)
        return query.unlabelled[order[:n].to(query.device)]
