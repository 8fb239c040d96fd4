"""Core-set selection by greedy k-center (Sener and Savarese 2018, algorithm 1)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fm_al.strategies.base import Query, Strategy
from fm_al.strategies.distances import SquaredDistances


@dataclass(frozen=True, kw_only=True)
class Coreset(Strategy):
    """Each pick is the image farthest, by its embedding, from the nearest labelled or picked one;
    ties go to the lowest index. Where nothing is labelled the first pick is the image closest to
    the pool's mean. A pick costs O(N D).
    """

    augment: bool = False

    def select(self, query: Query, n: int, generator: torch.Generator) -> Tensor:
        embeddings = query.embeddings
        squared_distances = SquaredDistances(embeddings)
        nearest = squared_distances.to_nearest(query.labelled)
        nearest[query.labelled] = -1  # below any distance: never the farthest
        picks: list[int] = []
        while len(picks) < n:
            if picks or len(query.labelled):
                pick = int(nearest.argmax())
            else:
                pick = int((embeddings - embeddings.mean(dim=0)).square_().sum(dim=1).argmin())
            torch.minimum(nearest, squared_distances(pick), out=nearest)
            nearest[pick] = -1
            picks.append(pick)
        return torch.tensor(picks)
