"""How groups and numbers read in a sentence."""

from __future__ import annotations

from collections.abc import Sequence

from fm_al.report.text import listed

SPOKEN = {
    "fishermask": "FisherMask",
    "fishermask_entropy": "FisherMask with entropy",
    "bait": "BAIT",
    "badge": "BADGE",
    "bald": "BALD",
    "base": "BASE",
    "cbal": "CBAL",
    "direct": "DIRECT",
    "galaxy": "GALAXY",
    "lcmd": "LCMD",
    "kmeans": "k-means",
    "typiclust": "TypiClust",
    "probcover": "ProbCover",
    "max_herding": "MaxHerding",
    "uncertainty_herding": "Uncertainty Herding",
    "alfa_mix": "ALFA-Mix",
    "drop_query": "DropQuery",
    "cluster_margin": "Cluster-Margin",
    "least_confidence": "least confidence",
}
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def spoken(group: str) -> str:
    """`bait (repaired)` as `BAIT repaired`, `balanced (inner=badge)` as `balanced BADGE`."""
    strategy, _, rest = group.partition(" (")
    options = rest.removesuffix(")")
    if strategy == "balanced":
        return f"balanced {spoken(options.partition('=')[2] or 'entropy')}"
    name = SPOKEN.get(strategy, strategy)
    return f"{name} {options}" if options else name


def all_spoken(groups: Sequence[str]) -> str:
    """Groups in a sentence; empty without groups."""
    return listed([spoken(group) for group in groups]) if groups else ""


def number(count: int) -> str:
    """A small number as a word."""
    return NUMBERS[count] if count < len(NUMBERS) else str(count)


def percent(share: float) -> str:
    return f"{share:.0%}"


def signed(difference: float) -> str:
    return f"{difference:+.3f}"


def ordinal(place: int) -> str:
    """1st, 2nd, 3rd, 11th."""
    ending = "th" if 10 < place % 100 < 14 else {1: "st", 2: "nd", 3: "rd"}.get(place % 10, "th")
    return f"{place}{ending}"
