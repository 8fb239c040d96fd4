"""ALFA-Mix: images whose prediction changes when a little of a labelled class is mixed in."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import normalize

from fm_al.strategies.badge import residuals
from fm_al.strategies.base import FLOAT, Query, QuerySizes, Strategy
from fm_al.strategies.candidates import CandidateOptions
from fm_al.strategies.chunks import row_chunks
from fm_al.strategies.kmeans import compacted, representatives, representatives_memory
from fm_al.strategies.margin import margins

CHUNK = 4096  # images at a time


@dataclass(frozen=True, kw_only=True)
class ALFAMix(CandidateOptions, Strategy):
    """Mix embeddings with class means; of those whose prediction changes, pick one per cluster.

    Active learning by feature mixing (Parvaneh et al. 2022, arXiv 2203.07034) with the closed form
    of the mixing ratio. An anchor z* is the mean embedding of the labelled images of a class. An
    image with embedding h, gradient g = W^T (p - e_yhat) of the loss of its predicted class, and
    ratio alpha = (epsilon / sqrt(D)) |z* - h| g / (|g| (z* - h)), number by number, is a candidate
    if alpha z* + (1 - alpha) h is predicted otherwise for any anchor. A number in which z* and h
    are equal cannot change. The candidates' embeddings are scaled to length 1 and clustered by
    k-means into n clusters, and the image nearest to each centre is picked.

    Mixing is a step of length epsilon |z* - h| / sqrt(D) along g, so each image and anchor has a
    smallest epsilon, which is computed once; the authors try every epsilon. epsilon is raised from
    `epsilon` in steps of `epsilon` until more than n images are candidates, or it is 1.

    What the authors' code does otherwise: a class without labels has the mean of all labelled
    images as its anchor, here it has none; it adds 1e-8 to z* - h; too few candidates are completed
    at random, with replacement. Here every candidate is picked then, and the rest are the images of
    the lowest margin, see `Margin`. So are all picks if nothing is labelled, or where g is 0
    everywhere. Ties go to the lowest index. The epsilon reached, the number of candidates and the
    number of picks by margin are recorded as `alfa_mix`.

    The cost is O(N C D + A N (C + D)) for A labelled classes, up to O(A N C D) where images and
    anchors have many equal numbers, and that of k-means.

    Args:
        epsilon: First epsilon, and the step by which it is raised. The paper reports 0.2;
            the authors' code uses 0.03125.
        iterations: Of Lloyd's algorithm, at most.
    """

    epsilon: Annotated[float, Field(ge=1e-9, le=1)] = 0.03125
    iterations: Annotated[int, Field(ge=0)] = 100

    def memory(self, sizes: QuerySizes, n: int) -> dict[str, int]:
        in_chunk = FLOAT * min(CHUNK, sizes.images) * (5 * sizes.embedding + 6 * sizes.classes)
        anchors = {"class means": 2 * FLOAT * sizes.classes * sizes.embedding}
        mixing = {f"mixing of {CHUNK:,} images at a time": in_chunk}
        clusters = representatives_memory(sizes.images, sizes.embedding, n)
        return sizes.embeddings | sizes.scores | anchors | mixing | clusters

    def select(self, query: Query, n: int, generator: torch.Generator) -> Tensor:
        unlabelled = query.unlabelled
        margin = query.scores(margins)[unlabelled]
        smallest = self._smallest_epsilons(query)
        epsilon = self.raised(smallest, n)
        candidates = smallest < epsilon
        rest = (~candidates).nonzero().squeeze(1)
        by_margin = rest[margin[rest].argsort(stable=True)]
        changed = candidates.nonzero().squeeze(1)
        query.record(
            "alfa_mix",
            {
                "epsilon": epsilon,
                "candidates": len(changed),
                "by_margin": max(0, n - len(changed)),
            },
        )
        if len(changed) <= n:
            return unlabelled[torch.cat([changed, by_margin])[:n]]
        points = compacted(query.take("embeddings"), unlabelled[changed])
        for rows in row_chunks(len(points)):
            points[rows] = normalize(points[rows])
        return unlabelled[changed[representatives(points, n, self.iterations, generator)]]

    def raised(self, smallest: Tensor, n: int) -> float:
        """The first epsilon for which more than n images are candidates, at most 1."""

        def epsilon(step: int) -> float:
            return min(step * self.epsilon, 1.0)

        last = math.ceil(1 / self.epsilon)
        if n >= len(smallest):
            return epsilon(last)
        needed = smallest.sort().values[n].cpu()  # candidates are more than n beyond
        steps = range(1, last)
        found = bisect_left(steps, True, key=lambda step: bool(needed < epsilon(step)))
        return epsilon(1 + found)

    def _smallest_epsilons(self, query: Query) -> Tensor:
        """For every unlabelled image, the epsilon above which its prediction changes."""
        anchors = class_means(query.embeddings, query.labelled, query.labelled_targets)
        return torch.cat(
            [
                smallest_epsilons(query.model.head, query.embeddings[images], anchors)
                for images in query.unlabelled.split(CHUNK)
            ]
        )


def class_means(embeddings: Tensor, labelled: Tensor, targets: Tensor) -> Tensor:
    """Mean embeddings of the labelled images of each class that has any, float32 (A, D)."""
    means = [embeddings[labelled[targets == each]].mean(dim=0) for each in targets.unique()]
    return torch.stack(means) if means else embeddings[:0]


@torch.no_grad()
def smallest_epsilons(head: nn.Linear, embeddings: Tensor, anchors: Tensor) -> Tensor:
    """Compute above which epsilon mixing with an anchor changes the prediction of an image.

    Args:
        head: The last layer, D inputs and C outputs.
        embeddings: h, float32 (N, D).
        anchors: z*, float32 (A, D).

    Returns:
        Of the anchor with the smallest, float32 (N,); infinite if none changes it.
    """
    logits = head(embeddings)
    predicted = logits.argmax(dim=1, keepdim=True)
    ahead = logits.gather(1, predicted) - logits
    residual = residuals(logits.softmax(dim=1))
    residual /= residual.abs().amax(dim=1, keepdim=True).clamp(min=torch.finfo().tiny)
    direction = normalize(residual @ head.weight)
    along = direction @ head.weight.T
    smallest = embeddings.new_full((len(embeddings),), torch.inf)
    for anchor in anchors:
        difference = anchor - embeddings
        step = difference.norm(dim=1) / math.sqrt(embeddings.shape[1])
        equal = difference == 0
        where = equal.any(dim=0).nonzero().squeeze(1)  # numbers that cannot change in some images
        speed = along - (direction[:, where] * equal[:, where]) @ head.weight[:, where].T
        gained = (speed - speed.gather(1, predicted)) * step[:, None]
        needed = torch.where(gained > 0, ahead / gained, torch.inf)
        torch.minimum(smallest, needed.amin(dim=1), out=smallest)
    return smallest
