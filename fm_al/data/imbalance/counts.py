"""A number of images per class, given in the configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from fm_al.data.base import ClassCounts, Imbalance
from fm_al.data.imbalance.classes import class_numbers
from fm_al.errors import ConfigError

Count = Annotated[int, Field(gt=0)]
CountOfClass = Annotated[dict[int | str, Count], Field(min_length=2)]


@dataclass(frozen=True, kw_only=True)
class Counts(Imbalance):
    """Keep so many images of each class, and drop the other classes.

    Kept classes are renumbered in their order.

    Args:
        pool: Images in the pool, by a class's name or its number from 0; by name alone if the
            names are numbers.
        test: The same for the test set, or one number for every kept class. None keeps all test
            images of these classes.
        test_capped: If a class has fewer test images than that one number, all classes keep as
            many as the scarcest has. Otherwise that is an error.
    """

    pool: CountOfClass
    test: CountOfClass | Count | None = None
    test_capped: bool = False

    def __post_init__(self) -> None:
        if self.test_capped and not isinstance(self.test, int):
            raise ConfigError(
                f"imbalance.test_capped=true: imbalance.test={self.test} should then be one number "
                "for all classes"
            )

    def counts(self, class_names: tuple[str, ...], pool: list[int], test: list[int]) -> ClassCounts:
        named = class_numbers("imbalance.pool", self.pool, class_names)
        wanted_of = dict(zip(named, self.pool.values(), strict=True))
        classes = sorted(named)
        wanted = [wanted_of[c] for c in classes]
        _check("pool", classes, wanted, pool, class_names)
        wanted_of_test = self._test(classes, class_names, test)
        _check("test", classes, wanted_of_test, test, class_names)
        return ClassCounts(classes, wanted, wanted_of_test)

    def _test(self, classes: list[int], class_names: tuple[str, ...], test: list[int]) -> list[int]:
        if self.test is None:
            return [test[c] for c in classes]
        if isinstance(self.test, int):
            scarcest = min(test[c] for c in classes)
            return [min(self.test, scarcest) if self.test_capped else self.test] * len(classes)
        named = class_numbers("imbalance.test", self.test, class_names)
        if set(named) != set(classes):
            of_test, of_pool = ([class_names[c] for c in sorted(each)] for each in (named, classes))
            raise ConfigError(
                f"imbalance.test: has counts for classes {of_test}, imbalance.pool for {of_pool}; "
                "these should be the same"
            )
        wanted = dict(zip(named, self.test.values(), strict=True))
        return [wanted[c] for c in classes]


def _check(
    option: str, classes: list[int], wanted: list[int], available: list[int], names: tuple[str, ...]
) -> None:
    for number, count in zip(classes, wanted, strict=True):
        if count > available[number]:
            raise ConfigError(
                f"imbalance.{option}: {count} images of class {names[number]!r}, which has "
                f"{available[number]}"
            )
