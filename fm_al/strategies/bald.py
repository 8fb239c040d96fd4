"""BALD, Bayesian active learning by disagreement (Houlsby et al. 2011), with Monte Carlo dropout
(Gal, Islam and Ghahramani 2017) in front of the last layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from fm_al.strategies.base import Query, Strategy

MOST_SAMPLES = 100_000  # whose mean is within a third of a percent of a deviation
CHUNK = 4096  # images at a time; part of the result, since it orders the draws of the masks


@dataclass(frozen=True, kw_only=True)
class BALD(Strategy):
    """The n largest mutual informations of prediction and mask, H(mean_s p_s) - mean_s H(p_s), with
    p_s = softmax(head(h * mask_s / (1 - dropout))); ties go to the lowest index.

    samples: masks per image. dropout: the probability that a number of the embedding is dropped.
    """

    samples: Annotated[int, Field(ge=2, le=MOST_SAMPLES)] = 20
    dropout: Annotated[float, Field(gt=0, lt=1)] = 0.5

    def select(self, query: Query, n: int, generator: torch.Generator) -> Tensor:
        masks = torch.Generator(query.device)
        masks.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        information = torch.cat(
            [
                self._mutual_information(query, images, masks)
                for images in query.unlabelled.split(CHUNK)
            ]
        )
        return query.unlabelled[information.argsort(descending=True, stable=True)[:n]]

    @torch.no_grad()
    def _mutual_information(self, query: Query, images: Tensor, masks: torch.Generator) -> Tensor:
        embeddings = query.embeddings[images]
        mean = torch.zeros(len(images), query.classes, device=query.device)
        expected_entropy = torch.zeros(len(images), device=query.device)
        for _ in range(self.samples):
            mask = torch.empty_like(embeddings).bernoulli_(1 - self.dropout, generator=masks)
            logits = query.model.head(embeddings * mask / (1 - self.dropout))
            probabilities = logits.softmax(dim=1)
            mean += probabilities / self.samples
            expected_entropy += torch.special.entr(probabilities).sum(dim=1) / self.samples
        return torch.special.entr(mean).sum(dim=1) - expected_entropy
