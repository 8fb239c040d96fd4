"""Strategies by the idea behind them."""

from __future__ import annotations

from collections.abc import Mapping

FISHER, IMBALANCE = "Fisher information", "made for imbalance"
FAMILIES: Mapping[str, tuple[str, ...]] = {
    FISHER: ("fishermask", "bait", "fishermask_entropy"),
    IMBALANCE: ("base", "cbal", "balanced", "galaxy", "direct"),
    "uncertainty": ("entropy", "margin", "least_confidence", "bald", "drop_query", "alfa_mix"),
    "uncertainty and diversity": ("badge", "lcmd", "cluster_margin", "uncertainty_herding"),
    "coverage": ("coreset", "kmeans", "typiclust", "probcover", "max_herding"),
    "random": ("random",),
}
OTHER = "other"  # of strategies that users add


def strategy_of(group: str) -> str:
    """The strategy of a group, whose name may have options in brackets: `bait (repaired)`."""
    return group.partition(" (")[0]


def family_of(group: str) -> str:
    """The idea behind the strategy of a group."""
    strategy = strategy_of(group)
    return next((family for family, names in FAMILIES.items() if strategy in names), OTHER)
