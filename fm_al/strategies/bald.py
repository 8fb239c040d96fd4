"""BALD: the images on which dropout masks disagree most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from fm_al.strategies.base import FLOAT, Query, QuerySizes, Strategy
from fm_al.strategies.candidates import CandidateOptions
from fm_al.strategies.dropout import dropped_logits, mask_generator

MAX_SAMPLES = 100_000  # the mean is then within a third of a percent of a standard deviation
CHUNK = 4096  # images at a time; changing it changes the picks, since it orders the draws of masks


@dataclass(frozen=True, kw_only=True)
class BALD(CandidateOptions, Strategy):
    """Pick the n images with the largest mutual information of prediction and dropout mask.

    Bayesian active learning by disagreement (Houlsby et al. 2011, arXiv 1112.5745), by Monte Carlo
    dropout (Gal, Islam and Ghahramani 2017, arXiv 1703.02910) before the last layer alone.

    Args:
        samples: Masks per image.
        dropout: Probability that a number of the embedding is dropped.
    """

    samples: Annotated[int, Field(ge=2, le=MAX_SAMPLES)] = 20
    dropout: Annotated[float, Field(gt=0, lt=1)] = 0.5

    def memory(self, sizes: QuerySizes, n: int) -> dict[str, int]:
        numbers = 4 * min(CHUNK, sizes.images) * (sizes.embedding + sizes.classes)
        masked = {f"{CHUNK:,} images under a mask": FLOAT * numbers}
        return sizes.embeddings | masked | sizes.vectors(12)

    def select(self, query: Query, n: int, generator: torch.Generator) -> Tensor:
        masks = mask_generator(generator, query.device)
        scores = [
            mutual_information(
                query.model.head, query.embeddings[images], self.samples, self.dropout, masks
            )
            for images in query.unlabelled.split(CHUNK)
        ]
        return query.unlabelled[torch.cat(scores).argsort(descending=True, stable=True)[:n]]


@torch.no_grad()
def mutual_information(
    head: nn.Linear, embeddings: Tensor, samples: int, dropout: float, generator: torch.Generator
) -> Tensor:
    """Compute H(mean_s p_s) - mean_s H(p_s), p_s = softmax(head(h * mask_s / (1 - dropout))).

    Args:
        head: The last layer, D inputs and C outputs.
        embeddings: h, float32 (N, D).
        samples: How many masks are drawn for each image.
        dropout: Probability that a number of h is dropped.
        generator: Draws the masks, on the device of the embeddings.

    Returns:
        In nats, float32 (N,).
    """
    mean = embeddings.new_zeros(len(embeddings), head.out_features)
    expected_entropy = embeddings.new_zeros(len(embeddings))
    for _ in range(samples):
        probabilities = dropped_logits(head, embeddings, dropout, generator).softmax(dim=1)
        mean += probabilities / samples
        expected_entropy += torch.special.entr(probabilities).sum(dim=1) / samples
    return torch.special.entr(mean).sum(dim=1) - expected_entropy
