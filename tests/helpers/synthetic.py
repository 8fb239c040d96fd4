"""Small queries: of a tiny network on random images, and of given embeddings and logits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fm_al.backbones.base import Backbone
from fm_al.data.images import Images
from fm_al.data.pool import Pool
from fm_al.strategies.base import Query


class TinyBackbone(Backbone):
    """A convolution with batch norm, averaged over the image: embeddings of 6 numbers."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.head = nn.Linear(6, classes)

    def embed(self, images: Tensor) -> Tensor:
        return self.norm(self.convolution(images)).relu().mean(dim=(2, 3))


def query_of(
    model: Backbone,
    images: Tensor,
    classes: int,
    labelled: Sequence[int],
    features: Tensor | None = None,
    targets: Tensor | None = None,
) -> Query:
    """uint8 images (N, 1, height, width), those of these indices labelled, class i % classes unless
    targets say otherwise. Features are the pixels unless they are given."""
    if targets is None:
        targets = torch.arange(len(images)) % classes
    if features is None:
        features = images.flatten(1).float() / 255
    stored = Images(images, torch.tensor([0.5]), torch.tensor([0.25]))
    pool = Pool(stored, targets, classes, features)
    pool.label(torch.tensor(labelled, dtype=torch.int64))
    return Query(model, pool, batch_size=16)


def network_query(
    images: Tensor,
    labelled: Sequence[int],
    classes: int = 3,
    embedding_scale: float = 1,
    logit_scale: float = 1,
    targets: Tensor | None = None,
) -> Query:
    """Of a TinyBackbone, the same for the same classes, with embeddings and logits so scaled."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = TinyBackbone(classes)
    with torch.no_grad():
        model.norm.weight *= embedding_scale
        model.head.weight *= logit_scale / embedding_scale
    return query_of(model, images, classes, labelled, targets=targets)


def given_query(
    embeddings: Tensor,
    logits: Tensor,
    labelled: Sequence[int] = (),
    targets: Tensor | None = None,
) -> Query:
    """Of these embeddings (N, D), which are the features too, and logits (N, C); the images and the
    network are blank."""
    classes = logits.shape[1]
    images = torch.zeros(len(logits), 1, 1, 1, dtype=torch.uint8)
    query = query_of(TinyBackbone(classes), images, classes, labelled, embeddings.clone(), targets)
    query.embeddings, query.logits = embeddings.clone(), logits.clone()
    return query


# Rows of probabilities with ties within rows and, if drawn several times, between them.
TIED_PREDICTIONS = [
    (0.5, 0.25, 0.25),
    (0.25, 0.5, 0.25),
    (0.5, 0.5, 0.0),
    (1.0, 0.0, 0.0),
    (0.0, 0.0, 1.0),
]


def points_to_cover(seed: int, labelled: int) -> tuple[Tensor, list[int]]:
    """60 random points, float32 (60, 4), and so many of them; for odd seeds 20 points twice."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(60, 4, generator=generator)
    if seed % 2:
        points[20:40] = points[:20]
    return points, torch.randperm(60, generator=generator)[:labelled].tolist()
