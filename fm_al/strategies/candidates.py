"""Choosing among some of the unlabelled images, and whether a query fits into memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field

from fm_al.fisher.memory import require_memory
from fm_al.fisher.options import OptionNames
from fm_al.fisher.selection import check_candidates
from fm_al.randomness import random_subset
from fm_al.strategies.base import Query, Strategy

STRATEGY = OptionNames("strategy.")


@dataclass(frozen=True, kw_only=True)
class CandidateOptions:
    """The option of strategies that may choose among some of the images.

    A strategy that derives from this and from `Strategy` has it. It needs no code: its query is
    that of a smaller pool.

    Attributes:
        max_candidates: Choose among at most this many unlabelled images, drawn uniformly at random
            in each round; None for all. Only these and the labelled images are scored.
    """

    max_candidates: Annotated[int, Field(ge=1)] | None = None

    def check_query(self, n: int) -> None:
        """Raise ConfigError if there are fewer candidates than n."""
        check_candidates(self, n, STRATEGY)


def candidates_query(strategy: Strategy, query: Query, generator: torch.Generator) -> Query:
    """Draw the candidates of a strategy that limits them, and record how many there are.

    Args:
        strategy: Its `max_candidates` counts if it derives from `CandidateOptions`.
        query: Of the whole pool.
        generator: The query's; nothing is drawn if there is no limit, or if it is not reached.

    Returns:
        The query to show the strategy; `Query.pool_indices` translates its picks.
    """
    if not isinstance(strategy, CandidateOptions) or strategy.max_candidates is None:
        return query
    unlabelled = query.unlabelled
    candidates = random_subset(unlabelled, strategy.max_candidates, generator)
    query.record("candidates", len(candidates))
    return query if len(candidates) == len(unlabelled) else query.among(candidates)


def check_memory(strategy: Strategy, query: Query, n: int) -> None:
    """Raise RunError if the device has less memory left than the strategy states for a query."""
    remedy = "use a smaller pool, or a device with more memory"
    if isinstance(strategy, CandidateOptions):
        option, most = f"{STRATEGY.prefix}max_candidates", strategy.max_candidates
        change = f"set {option}" if most is None else f"lower {option}={most}"
        remedy = f"{change} to score fewer images, or use a device with more memory"
    require_memory(query.device, strategy.memory(query.sizes, n), None, "", remedy)
