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


def moved_pool(pool: Pool, device: torch.device, on_host: bool = False) -> Pool:
    """A pool with the same images, classes and labels. on_host: the images stay where they are."""
    images, targets = pool._images, pool._targets
    moved = Images(
        images.stored if on_host else images.stored.to(device),
        images.mean,
        images.std,
        images.crop_padding,
        images.horizontal_flip,
        images.memory_format,
        targets.to(device).device,
    )
    features = None if pool.features is None else pool.features.to(device)
    other = Pool(moved, targets.to(device), pool.classes, features)
    other.label(pool.labelled)
    return other


def moved_query(query: Query, device: torch.device, on_host: bool = False) -> Query:
    """A query of the moved network and pool, not scored yet. on_host: see `moved_pool`."""
    pool = moved_pool(query._pool, device, on_host)
    return Query(moved_network(query.model, device), pool, query.batch_size, query.autocast)


def with_scores_of(query: Query, scored: Query) -> Query:
    """The query with copies of the embeddings and logits of another one: strategies that take them
    overwrite them."""
    query.embeddings = scored.embeddings.to(query.device, copy=True)
    query.logits = scored.logits.to(query.device, copy=True)
    return query
