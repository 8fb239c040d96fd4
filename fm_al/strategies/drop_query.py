"""DropQuery: images whose prediction changes under dropout, one per cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import normalize

from fm_al.strategies.base import FLOAT, Query, QuerySizes, Strategy
from fm_al.strategies.candidates import CandidateOptions
from fm_al.strategies.chunks import row_chunks
from fm_al.strategies.dropout import dropped_logits, mask_generator
from fm_al.strategies.kmeans import compacted, representatives, representatives_memory

MAX_SAMPLES = 100_000
CHUNK = 4096  # images at a time; changing it changes the picks, since it orders the draws of masks


@dataclass(frozen=True, kw_only=True)
class DropQuery(CandidateOptions, Strategy):
    """Of the images whose prediction changes under dropout, pick one per cluster.

    Revisiting active learning in the era of vision foundation models (Gupte, Aklilu, Nirschl and
    Yeung-Levy 2024, arXiv 2401.14555, algorithm 1). An image is a candidate if more than half of
    `samples` dropout masks change its predicted class. The candidates' embeddings are scaled to
    length 1, as in the authors' code, and clustered by k-means into n clusters; the image nearest
    to each centre is picked.

    If there are fewer candidates than `candidates_per_pick` times n, the threshold of half is
    lowered by one mask at a time, down to all unlabelled images. So there are at least n. The
    threshold (candidates have more changes than it; -1 for all images) and the number of candidates
    are recorded as `drop_query`.

    The authors drop numbers of frozen features under a linear classifier. Here the input of the
    last layer is dropped, the embedding of this round's network. The two are the same where a
    linear network is trained on features.

    The cost is O(samples x N C D), and that of k-means.

    Args:
        samples: Masks per image.
        dropout: Probability that a number of the embedding is dropped.
        candidates_per_pick: Least number of candidates per pick.
        iterations: Of Lloyd's algorithm, at most.
    """

    samples: Annotated[int, Field(ge=1, le=MAX_SAMPLES)] = 3
    dropout: Annotated[float, Field(gt=0, lt=1)] = 0.75
    candidates_per_pick: Annotated[int, Field(ge=1)] = 25
    iterations: Annotated[int, Field(ge=0)] = 100

    def memory(self, sizes: QuerySizes, n: int) -> dict[str, int]:
        numbers = 4 * min(CHUNK, sizes.images) * (sizes.embedding + sizes.classes)
        masked = {f"{CHUNK:,} images under a mask": FLOAT * numbers}
        return (
            sizes.embeddings
            | masked
            | representatives_memory(sizes.images, sizes.embedding, n)
            | sizes.vectors(12)
        )

    def select(self, query: Query, n: int, generator: torch.Generator) -> Tensor:
        unlabelled = query.unlabelled
        candidates = self._candidates(query, n, generator)
        points = compacted(query.take("embeddings"), unlabelled[candidates])
        for rows in row_chunks(len(points)):
            points[rows] = normalize(points[rows])
        return unlabelled[candidates[representatives(points, n, self.iterations, generator)]]

    def _candidates(self, query: Query, n: int, generator: torch.Generator) -> Tensor:
        """Indices among the unlabelled images of the candidates, int64, at least n."""
        masks = mask_generator(generator, query.device)
        changes = torch.cat(
            [
                class_changes(
                    query.model.head, query.embeddings[images], self.samples, self.dropout, masks
                )
                for images in query.unlabelled.split(CHUNK)
            ]
        )
        at_least = torch.bincount(changes, minlength=self.samples + 1).flip(0).cumsum(0).flip(0)
        threshold = self.samples // 2
        while threshold >= 0 and at_least[threshold + 1] < self.candidates_per_pick * n:
            threshold -= 1
        candidates = (changes > threshold).nonzero().squeeze(1)
        query.record("drop_query", {"threshold": threshold, "candidates": len(candidates)})
        return candidates


@torch.no_grad()
def class_changes(
    head: nn.Linear, embeddings: Tensor, samples: int, dropout: float, generator: torch.Generator
) -> Tensor:
    """Count under how many dropout masks the predicted class of an image is another one.

    Args:
        head: The last layer, D inputs and C outputs.
        embeddings: float32 (N, D).
        samples: How many masks are drawn for each image.
        dropout: Probability that a number of an embedding is dropped.
        generator: Draws the masks, on the device of the embeddings.

    Returns:
        int64 (N,).
    """
    predicted = head(embeddings).argmax(dim=1)
    changes = torch.zeros_like(predicted)
    for _ in range(samples):
        dropped = dropped_logits(head, embeddings, dropout, generator)
        changes += dropped.argmax(dim=1) != predicted
    return changes
