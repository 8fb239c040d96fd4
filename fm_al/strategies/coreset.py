"""Core-set selection by greedy k-center (Sener and Savarese 2018, algorithm 1)."""

from __future__ import annotations

import torch
from torch import Tensor

from fm_al.strategies.base import Query, Strategy
from fm_al.strategies.distances import squared_distances

CHUNK = 64  # labelled images at a time, for N x CHUNK distances


class Coreset(Strategy):
    """Each pick is the image farthest, by its embedding, from the nearest labelled or picked one;
    ties go to the lowest index. Where nothing is labelled the first pick is the image closest to
    the pool's mean. A pick costs O(N D).
    """

    def select(self, query: Query, n: int, generator: torch.Generator) -> Tensor:
        embeddings = query.embeddings
        picks: list[Tensor] = []
        centres = query.labelled
        if len(centres) == 0:
            mean = embeddings.mean(dim=0, keepdim=True)
            centres = squared_distances(embeddings, mean).argmin(dim=0)
            picks.append(centres)
        nearest = torch.full((len(embeddings),), torch.inf, device=query.device)
        for chunk in centres.split(CHUNK):
            distances = squared_distances(embeddings, embeddings[chunk]).amin(dim=1)
            torch.minimum(nearest, distances, out=nearest)
        nearest[centres] = -1  # below any distance: never the farthest
        while len(picks) < n:
            pick = nearest.argmax(dim=0, keepdim=True)
            distances = squared_distances(embeddings, embeddings[pick])[:, 0]
            torch.minimum(nearest, distances, out=nearest)
            nearest[pick] = -1
            picks.append(pick)
        return torch.cat(picks)
