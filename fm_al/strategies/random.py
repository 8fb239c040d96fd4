"""Random: the baseline that every other strategy has to beat."""

from __future__ import annotations

import torch
from torch import Tensor

from fm_al.strategies.base import Query, Strategy


class Random(Strategy):
    """Pick n images uniformly, without replacement."""

    def select(self, query: Query, n: int, generator: torch.Generator) -> Tensor:
        order = torch.randperm(len(query.unlabelled), generator=generator)
        return query.unlabelled[order[:n].to(query.device)]
