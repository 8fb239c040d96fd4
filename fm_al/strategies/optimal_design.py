"""What BAIT and FisherMask share: a query as `fm_al.fisher` takes it, and its report."""

from __future__ import annotations

from torch import Tensor

from fm_al.fisher.options import OptionNames
from fm_al.fisher.pool import PoolNetwork, ScoredPool
from fm_al.fisher.selection import PoolSelection
from fm_al.strategies.base import Query


def option_names(key: str = "strategy") -> OptionNames:
    """How errors name options that stand under this key of the configuration."""
    return OptionNames(f"{key}.", "device.scoring_batch_size")


def scored_pool(query: Query) -> ScoredPool:
    """The pool with its scores. Raises RunError if a score is not finite."""
    return ScoredPool(
        query.embeddings,
        query.logits,
        query.model.head.bias is not None,
        query.labelled,
        query.unlabelled,
    )


def pool_network(query: Query) -> PoolNetwork:
    """The network and the pool's images."""
    return PoolNetwork(query.model, query.model.head, query.images, query.batch_size)


def recorded(query: Query, selection: PoolSelection) -> Tensor:
    """Record the report of a selection, and return its picks."""
    for name, value in selection.report.items():
        query.record(name, value)
    return selection.picks
