"""A strategy that needs neither labels nor a network."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fm_al.backbones.base import Backbone
from fm_al.data.pool import Pool
from fm_al.errors import ConfigError
from fm_al.starts.base import Start
from fm_al.strategies.base import Query, Strategy
from fm_al.strategies.option_names import options_below
from fm_al.strategies.picking import checked_picks


@dataclass(frozen=True, kw_only=True)
class StrategyStart(Start):
    """Let a strategy choose by fixed features, with nothing labelled.

    Attributes:
        strategy: One that works on features and does not ask the network.
    """

    strategy: Strategy

    def __post_init__(self) -> None:
        if not self.strategy.reads_features:
            raise ConfigError(
                f"budget.start.strategy={type(self.strategy).__name__}: asks the network, which is "
                "not trained yet; use typiclust, probcover, max_herding or kmeans"
            )

    @property
    def reads_features(self) -> bool:
        return True

    def check(self, n: int) -> None:
        with options_below("budget.start.strategy."):
            self.strategy.check_query(n)

    def choose(self, pool: Pool, n: int, generator: torch.Generator) -> Tensor:
        network = _NoNetwork(pool.classes, type(self.strategy).__name__)
        query = Query(network, pool, batch_size=1, budget=n)
        return checked_picks(self.strategy, query, n, generator)


class _NoNetwork(Backbone):
    """Stands where a query has its network. asking: the strategy that may ask it."""

    def __init__(self, classes: int, asking: str) -> None:
        super().__init__()
        self.head = nn.utils.skip_init(nn.Linear, 1, classes)  # draws no weights
        self._asking = asking

    def embed(self, images: Tensor) -> Tensor:
        raise ConfigError(
            f"budget.start.strategy={self._asking}: asks the network, which is not trained yet; "
            "use typiclust, probcover, max_herding or kmeans"
        )
