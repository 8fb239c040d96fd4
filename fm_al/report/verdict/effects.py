"""Differences between two groups, over one setting or several together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd
from scipy import special

from fm_al.report.statistics import ALPHA, FEWEST_FOR_T, compared, holm


@dataclass(frozen=True)
class Effect:
    """How much the area or the accuracy of one group is above that of another.

    Attributes:
        first, second: The groups.
        difference: first - second, the mean over settings of the mean over pairs.
        interval: 95% confidence interval of the difference; None without an estimate.
        p_value: Two-sided, of the hypothesis that the difference is 0; None likewise.
        corrected: The same, corrected by Holm for its family of effects.
    """

    first: str
    second: str
    difference: float
    interval: tuple[float, float] | None = None
    p_value: float | None = None
    corrected: float | None = None

    @property
    def is_significant(self) -> bool:
        return self.corrected is not None and self.corrected < ALPHA

    @property
    def is_gain(self) -> bool:
        """Whether the first group is significantly better."""
        return self.is_significant and self.difference > 0

    @property
    def is_loss(self) -> bool:
        """Whether the first group is significantly worse."""
        return self.is_significant and self.difference < 0

    @property
    def turned(self) -> Effect:
        """second - first."""
        interval = None if self.interval is None else (-self.interval[1], -self.interval[0])
        return replace(
            self,
            first=self.second,
            second=self.first,
            difference=-self.difference,
            interval=interval,
        )

    def __str__(self) -> str:
        if self.interval is None:
            return f"{self.difference:+.3f}"
        low, high = self.interval
        return f"{self.difference:+.3f} [{low:+.3f}, {high:+.3f}]"


def effect(frames: Sequence[pd.DataFrame], first: str, second: str) -> Effect:
    """Compare two groups over settings that count the same, whatever their number of pairs.

    The settings are fixed, so the seeds are the only chance: the variance of the mean difference is
    the sum of the settings' own, with Satterthwaite's degrees of freedom (Welch 1947). For one
    setting this is the paired t-test. There is no estimate if a setting has too few pairs, or if no
    difference varies. Settings are taken as independent, though runs of one seed share initial
    weights. The p-value is not corrected yet.

    Args:
        frames: Seeds x groups, for each setting.
        first, second: Columns of all frames.
    """
    each = [compared(frame, first, second) for frame in frames]
    mean = sum(one.difference for one in each) / len(each)
    variances = [(one.spread or 0) ** 2 / max(1, one.pairs) for one in each]
    if any(one.pairs < FEWEST_FOR_T for one in each) or not any(variances):
        return Effect(first, second, mean)
    freedom = sum(variances) ** 2 / sum(
        variance**2 / (one.pairs - 1) for variance, one in zip(variances, each, strict=True)
    )
    error = math.sqrt(sum(variances)) / len(each)
    half = error * float(special.stdtrit(freedom, 1 - ALPHA / 2))
    p_value = 2 * float(special.stdtr(freedom, -abs(mean) / error))
    return Effect(first, second, mean, (mean - half, mean + half), p_value)


def corrected(found: Sequence[Effect]) -> list[Effect]:
    """Correct a family of effects by Holm."""
    p_values = holm([one.p_value for one in found])
    return [replace(one, corrected=p) for one, p in zip(found, p_values, strict=True)]


def effects(frames: Sequence[pd.DataFrame], first: str, others: Sequence[str]) -> list[Effect]:
    """Compare a group with each of the others, corrected by Holm over these comparisons."""
    return corrected([effect(frames, first, other) for other in others])
