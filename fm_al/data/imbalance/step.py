"""Step imbalance: minority classes of one size, majority classes of another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from fm_al.data.base import ClassCounts, Imbalance
from fm_al.data.imbalance.classes import class_numbers
from fm_al.data.imbalance.profile import fit_profile
from fm_al.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Step(Imbalance):
    """Keep n images of each majority class and n / ratio, rounded down, of each minority class.

    n is the largest number that every class can afford (Buda et al. 2018, arXiv 1710.05381,
    section 2.1).

    Args:
        minority_classes: By name, or by number from 0 if the names are not numbers.
        ratio: Images of a majority class over those of a minority class.
        classes: Which classes are kept, renumbered in their order. None keeps all.
        test: Whether the test set follows the same profile. Otherwise all test images of the kept
            classes are kept.
    """

    minority_classes: Annotated[list[int | str], Field(min_length=1)]
    ratio: Annotated[float, Field(ge=1, allow_inf_nan=False)]
    classes: Annotated[list[int | str], Field(min_length=2)] | None = None
    test: bool = False

    def counts(self, class_names: tuple[str, ...], pool: list[int], test: list[int]) -> ClassCounts:
        classes = list(range(len(class_names)))
        if self.classes is not None:
            classes = sorted(class_numbers("imbalance.classes", self.classes, class_names))
        minority = class_numbers("imbalance.minority_classes", self.minority_classes, class_names)
        if left_out := sorted({*minority} - {*classes}):
            raise ConfigError(
                f"imbalance.minority_classes={self.minority_classes}: class "
                f"{class_names[left_out[0]]!r} is not among imbalance.classes={self.classes}"
            )
        if len(minority) == len(classes):
            raise ConfigError(
                f"imbalance.minority_classes={self.minority_classes}: these are all "
                f"{len(classes)} classes; leave at least one in the majority"
            )
        profile = {c: 1 / self.ratio if c in minority else 1.0 for c in classes}
        kept = fit_profile(profile, pool, class_names, self.ratio, "pool", "")
        kept_test = [test[c] for c in classes]
        if self.test:
            remedy = ", or imbalance.test=false"
            kept_test = fit_profile(profile, test, class_names, self.ratio, "test set", remedy)
        return ClassCounts(classes, kept, kept_test)
