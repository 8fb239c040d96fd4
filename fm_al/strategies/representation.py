"""What strategies work on that compare images with each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from fm_al.strategies.base import Query, QuerySizes


@dataclass(frozen=True, kw_only=True)
class FeatureOptions:
    """The option of strategies that compare images with each other.

    A strategy that derives from this and from `Strategy` reads `points`.

    Attributes:
        representation: `features`, which do not change with the network (see the group
            `features`), or `embeddings`, those of this round's network.
    """

    representation: Literal["features", "embeddings"] = "features"

    @property
    def reads_features(self) -> bool:
        return self.representation == "features"

    def points(self, query: Query) -> Tensor:
        """The representation of the pool, float32 (N, D). Not to be changed in place."""
        return query.features if self.reads_features else query.embeddings

    def points_memory(self, sizes: QuerySizes) -> dict[str, int]:
        """Bytes of `points`."""
        return sizes.fixed_features if self.reads_features else sizes.embeddings

    def dimension(self, sizes: QuerySizes) -> int:
        """D, the numbers of a point."""
        return sizes.features if self.reads_features else sizes.embedding
