"""Long-tailed imbalance: class sizes that fall exponentially."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from fm_al.data.base import ClassCounts, Imbalance
from fm_al.data.imbalance.profile import fit_profile


@dataclass(frozen=True, kw_only=True)
class LongTail(Imbalance):
    """Class i of C keeps n_i = n_max ratio^(-i / (C - 1)) images, rounded down, in the order in
    which classes are numbered (Cui et al. 2019, arXiv 1901.05555, section 5.1).

    ratio: of the largest class over the smallest. test: the test set follows; otherwise all of it
    stays.
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
