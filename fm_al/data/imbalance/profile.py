"""Counts that follow a given profile over classes."""

from __future__ import annotations

import math

from fm_al.errors import ConfigError


def fit_profile(
    profile: list[float], available: list[int], ratio: float, where: str, remedy: str
) -> list[int]:
    """n_c = floor(n_max profile_c), profile_c in (0, 1], with the largest n_max for which no class
    needs more than it has; so the ratio holds for data sets whose own classes differ in size.

    ratio, where, remedy: for the ConfigError where a class would keep no image."""
    largest = min(int(n / share + 1e-9) for n, share in zip(available, profile, strict=True))
    counts = [math.floor(largest * share + 1e-9) for share in profile]
    if min(counts) < 1:
        raise ConfigError(
            f"imbalance.ratio={ratio:g}: class {counts.index(0)} would keep none of its "
            f"{available[counts.index(0)]} images in the {where}, where the largest class has "
            f"{largest}; use at most {largest}{remedy}"
        )
    return counts
