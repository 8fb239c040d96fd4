"""Long-tailed imbalance: class sizes that fall exponentially."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from fm_al.data.base import ClassCounts, Imbalance
from fm_al.data.imbalance.profile import fit_profile


@dataclass(frozen=True, kw_only=True)
class LongTail(Imbalance):
    """Keep n_max ratio^(-i / (C - 1)) images of class i of C, rounded down.

    Cui et al. 2019, arXiv 1901.05555, section 5.1.

    Args:
        ratio: Size of the first class over that of the last.
        test: Whether the test set follows the same profile. Otherwise all of it is kept.
    """

    ratio: Annotated[float, Field(ge=1, allow_inf_nan=False)]
    test: bool = False

    def counts(self, class_names: tuple[str, ...], pool: list[int], test: list[int]) -> ClassCounts:
        classes = list(range(len(class_names)))
        profile = {i: self.ratio ** (-i / (len(classes) - 1)) for i in classes}
        kept = fit_profile(profile, pool, class_names, self.ratio, "pool", "")
        if self.test:
            remedy = ", or imbalance.test=false"
            test = fit_profile(profile, test, class_names, self.ratio, "test set", remedy)
        return ClassCounts(classes, kept, test)
