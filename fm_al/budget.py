"""How many images are labelled, and when."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Annotated, Any

from pydantic import Field

from fm_al.errors import ConfigError

Images = Annotated[int, Field(ge=1)]
MOST_LABELS = 10**7  # more rounds than that could not even be listed


@dataclass(frozen=True)
class Budget:
    """How many images are labelled, and when.

    Args:
        initial: Images that are labelled before the first round.
        per_round: Images that each query labels; the last query may be smaller. A list has an entry
            for each of the first queries.
        total: Images that are labelled in the last round.
        train_before_first_query: False makes the first query with an untrained network, as the
            FisherMask code does for all strategies but BAIT.
        growth: Every query beyond those that `per_round` lists labels this many times as many
            images as the one before it.
        start: Describes how the first images are chosen; see `fm_al.starts.base`. None is uniformly
            at random.
        whole_pool: Label the whole pool at once: a single round, an upper bound for every strategy.
            The strategy, and the other options of the budget, have no effect then.
    """

    initial: Annotated[int, Field(ge=2)]
    per_round: Images | Annotated[list[Images], Field(min_length=1)]
    total: Annotated[int, Field(ge=2, le=MOST_LABELS)]
    train_before_first_query: bool = True
    growth: Annotated[float, Field(ge=1)] = 1.0
    start: dict[str, Any] | None = None
    whole_pool: bool = False

    def __post_init__(self) -> None:
        if self.total < self.initial and not self.whole_pool:
            raise ConfigError(
                f"budget.total={self.total}: should be at least budget.initial={self.initial}"
            )
        # Records are read without the checks of a configuration.
        if self.total > MOST_LABELS or min(self._listed) < 1 or self.growth < 1:
            raise ValueError("not a budget")

    def schedule(self, pool_size: int) -> list[int]:
        """The number of labelled images in each round, in a pool of this size."""
        if self.whole_pool:
            return [pool_size]
        return list(accumulate(self.query_sizes, initial=self.initial))

    @property
    def trains_first(self) -> bool:
        """Whether the first round's network is trained."""
        return self.train_before_first_query or self.whole_pool

    @property
    def rounds(self) -> int:
        """How many rounds there are."""
        return len(self.query_sizes) + 1

    @property
    def _listed(self) -> list[int]:
        return [self.per_round] if isinstance(self.per_round, int) else self.per_round

    @cached_property
    def query_sizes(self) -> list[int]:
        """How many images each query labels."""
        if self.whole_pool:
            return []
        listed = self._listed
        sizes: list[int] = []
        left = self.total - self.initial
        while left:
            beyond = len(sizes) + 1 - len(listed)
            size = listed[len(sizes)] if beyond <= 0 else round(listed[-1] * self.growth**beyond)
            sizes.append(min(size, left))
            left -= sizes[-1]
        return sizes

    def fit_to_pool(self, pool: int) -> None:
        """Raise ConfigError if the pool has fewer images than the budget labels."""
        if self.whole_pool:
            return
        for key, labels in (("initial", self.initial), ("total", self.total)):
            if labels > pool:
                raise ConfigError(f"budget.{key}={labels}: the pool has {pool} images")
