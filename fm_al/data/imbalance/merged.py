"""Merged classes: the last classes become one large one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from fm_al.data.base import ClassCounts, Imbalance
from fm_al.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Merged(Imbalance):
    """Keep all images, and let all classes from number `classes` - 1 on be one class, `other`.

    Pool and test set are merged alike, so that `other` is the majority in both. The protocol of
    GALAXY (Zhang et al. 2022, arXiv 2202.01402, section 6) and DIRECT (Nuggehalli et al. 2025,
    arXiv 2312.09196); the authors' code calls the option `n_class`.

    Args:
        classes: How many classes are left, with `other`.
    """

    classes: Annotated[int, Field(ge=2)]

    def counts(self, class_names: tuple[str, ...], pool: list[int], test: list[int]) -> ClassCounts:
        if self.classes >= len(class_names):
            raise ConfigError(
                f"imbalance.classes={self.classes}: leaves nothing to merge of {len(class_names)} "
                f"classes; use 2 to {len(class_names) - 1}, or imbalance=none"
            )
        last = self.classes - 1
        return ClassCounts(
            classes=list(range(self.classes)),
            pool=[*pool[:last], sum(pool[last:])],
            test=[*test[:last], sum(test[last:])],
            merged=tuple(range(self.classes, len(class_names))),
        )
