"""The largest counts that follow a profile over classes."""

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
    """Compute n_c = floor(n_max profile_c) with the largest n_max that every class can afford.

    So the profile holds even if the classes of the data set differ in size.

    Args:
        profile: Shares in (0, 1], by the number of each kept class.
        available: Images that every class has.
        class_names: By a class's number, for the error.
        ratio: `imbalance.ratio`, for the error.
        where: The pool or the test set, for the error.
        remedy: What else would help, for the error.

    Returns:
        The number of images of every kept class.

    Raises:
        ConfigError: If a class would keep no image.
    """
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
