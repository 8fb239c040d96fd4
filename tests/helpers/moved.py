"""The same pool and network on another device."""

from __future__ import annotations

import copy

import torch

from fm_al.backbones.base import Backbone
from fm_al.data.images import Images
from fm_al.data.pool import Pool
from fm_al.strategies.base import Query


def moved_network(network: Backbone, device: torch.device) -> Backbone:
    return copy.deepcopy(network).to(device)


def moved_pool(pool: Pool, device: torch.device) -> Pool:
    """A pool with the same images, classes and labels."""
    images, targets = pool._images, pool._targets
    moved = Images(
        images.stored.to(device),
        images.mean.to(device),
        images.std.to(device),
        images.crop_padding,
        images.horizontal_flip,
        images.memory_format,
    )
    other = Pool(moved, targets.to(device), pool.classes)
    other.label(pool.labelled)
    return other


def moved_query(query: Query, device: torch.device) -> Query:
    """A query of the moved network and pool, not scored yet."""
    pool = moved_pool(query._pool, device)
    return Query(moved_network(query.model, device), pool, query.batch_size, query.autocast)


def with_scores_of(query: Query, scored: Query) -> Query:
    """The query with the embeddings and logits of another one, moved."""
    query.embeddings = scored.embeddings.to(query.device)
    query.logits = scored.logits.to(query.device)
    return query
