"""Counts that follow a given profile over classes."""

from __future__ import annotations

import math

from fm_al.errors import ConfigError


def fit_profile(
    profile: dict[int, float],
    available: list[int],
    class_names: tuple[str, ...],
    ratio: float,
    where: str,
    remedy: str,
) -> list[int]:
    """n_c = floor(n_max profile_c), profile_c in (0, 1] for each class c that is kept, with the
    largest n_max for which none needs more than it has; so the ratio holds for data sets whose own
    classes differ in size.

    available: images of every class. class_names, ratio, where, remedy: for the ConfigError where a
    class would keep no image."""
    largest = min(int(available[c] / share + 1e-9) for c, share in profile.items())
    counts = {c: math.floor(largest * share + 1e-9) for c, share in profile.items()}
    for c, count in counts.items():
        if count < 1:
            raise ConfigError(
                f"imbalance.ratio={ratio:g}: class {class_names[c]!r} would keep none of its "
                f"{available[c]} images in the {where}, where the largest class has {largest}; "
                f"use at most {largest}{remedy}"
            )
    return list(counts.values())
