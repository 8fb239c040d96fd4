"""Balanced: another strategy, asked for a share of the batch in each predicted class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fm_al.backbones.base import Backbone
from fm_al.errors import ConfigError
from fm_al.strategies.base import Query, QuerySizes, Strategy
from fm_al.strategies.candidates import CandidateOptions
from fm_al.strategies.class_levels import levelled
from fm_al.strategies.option_names import options_below
from fm_al.strategies.picking import checked_picks


@dataclass(frozen=True, kw_only=True)
class Balanced(CandidateOptions, Strategy):
    """Level the numbers of labels per class: let a strategy pick within each predicted class.

    Each class's share of the batch raises the classes with the fewest labels first, until all have
    as many as the largest; the rest is shared evenly. The inner strategy picks the share among the
    images that are predicted as that class, and sees these and all labelled ones alone. A class
    with too few predicted images passes the rest of its share on to the others, which are levelled
    again.

    Recorded are `wanted`, the shares if every class had enough images, `given`, those that were
    picked, and under `inner` what the inner strategy records, by class.

    Args:
        inner: Any other strategy. Its `max_candidates` counts within each class.
    """

    inner: Strategy

    def __post_init__(self) -> None:
        if isinstance(self.inner, Balanced):
            raise ConfigError(
                "strategy.inner=balanced: should be another strategy, which balanced then balances"
            )

    @property
    def augment(self) -> bool:  # type: ignore[override]
        return self.inner.augment

    @property
    def reads_features(self) -> bool:
        return self.inner.reads_features

    def check_query(self, n: int) -> None:
        super().check_query(n)
        with options_below("strategy.inner."):  # one class may have to give the whole batch
            self.inner.check_query(n)

    def check(self, network: Backbone, image: Tensor) -> None:
        with options_below("strategy.inner."):
            self.inner.check(network, image)

    def memory(self, sizes: QuerySizes, n: int) -> dict[str, int]:
        return sizes.embeddings | sizes.scores  # the inner strategy's is checked class by class

    def select(self, query: Query, n: int, generator: torch.Generator) -> Tensor:
        unlabelled = query.unlabelled
        predicted = query.scores(lambda probabilities: probabilities.argmax(dim=1))[unlabelled]
        counts = _counts(query.labelled_targets, query.classes)
        there = _counts(predicted, query.classes)
        given = levelled(counts, n, there)
        query.record("wanted", levelled(counts, n, [n] * query.classes))
        query.record("given", given)
        picks: list[Tensor] = []
        records: dict[int, dict[str, Any]] = {}
        for c, share in enumerate(given):
            if share:
                within = query.among(unlabelled[predicted == c])
                within.recorded = records[c] = {}
                picks.append(checked_picks(self.inner, within, share, generator))
        if any(records.values()):
            query.record("inner", {c: record for c, record in records.items() if record})
        # The query may be one of some candidates, with indices of its own; both ascend.
        chosen = torch.cat(picks).to(query.device)
        return unlabelled[torch.searchsorted(query.pool_indices(unlabelled), chosen)]


def _counts(classes: Tensor, count: int) -> list[int]:
    counts: list[int] = torch.bincount(classes.cpu(), minlength=count).tolist()
    return counts
