"""From an image's logits to the rows of V_x: all classes, the likeliest ones, or one against all.

Every kind has R rows over C classes, which multiply the Jacobian of the logits, and the same rows
in the E coordinates that the last layer's block has per entry of h_x.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from fm_al.fisher.factors import Weighting, contrasts, fisher_factors
from fm_al.fisher.top_class_blocks import likeliest


class ImageFactors(Protocol):
    """How the rows of V_x follow from the logits.

    Attributes:
        rows: R.
        columns: E.
        left_out: How many coordinates per entry of h_x are left out, since no image informs them.
        numbers: Float64 numbers per image while they are computed.
    """

    @property
    def rows(self) -> int: ...
    @property
    def columns(self) -> int: ...
    @property
    def left_out(self) -> int: ...
    @property
    def numbers(self) -> int: ...

    def over_classes(self, logits: Tensor) -> Tensor:
        """Compute what multiplies the Jacobian of the logits, (n, R, C) float64."""

    def in_basis(self, over_classes: Tensor) -> Tensor:
        """Bring these rows into the last layer's coordinates, (n, R, E) float64."""


@dataclass(frozen=True)
class ExactFactors:
    """The Fisher information about all C classes, in the basis of `contrasts`: R = E = C - 1."""

    classes: int
    weighting: Weighting
    temperature: float

    left_out = 1

    @property
    def rows(self) -> int:
        return self.classes - 1

    @property
    def columns(self) -> int:
        return self.classes - 1

    @property
    def numbers(self) -> int:
        return 5 * self.classes**2

    def over_classes(self, logits: Tensor) -> Tensor:
        return fisher_factors(logits, self.weighting, self.temperature)

    def in_basis(self, over_classes: Tensor) -> Tensor:
        return over_classes @ contrasts(self.classes).to(over_classes)


@dataclass(frozen=True)
class TopClassFactors:
    """The Fisher information about each image's c likeliest classes, renormalised: R = c - 1.

    See `TopClassBlocks`. In the basis of `contrasts`, E = C - 1. With c = C it is exact.
    """

    classes: int
    top_classes: int
    weighting: Weighting
    temperature: float

    left_out = 1

    @property
    def rows(self) -> int:
        return self.top_classes - 1

    @property
    def columns(self) -> int:
        return self.classes - 1

    @property
    def numbers(self) -> int:
        return 5 * (self.top_classes + 1) * self.classes

    def over_classes(self, logits: Tensor) -> Tensor:
        top, values = likeliest(logits, self.top_classes)
        factors = fisher_factors(values, self.weighting, self.temperature)
        rows = factors.new_zeros(len(logits), self.rows, self.classes)
        return rows.scatter_(2, top[:, None].expand_as(factors), factors)

    def in_basis(self, over_classes: Tensor) -> Tensor:
        return over_classes @ contrasts(self.classes).to(over_classes)


@dataclass(frozen=True)
class BinaryFactors:
    """The information about whether the likeliest class is right: R = E = 1.

    With p its probability, the last layer's block is I(x) = p (1 - p) h h^T / T^2: that of a
    logistic regression with one vector of weights (Huseljic et al. 2024, "Fast Fishing", arXiv
    2404.08981). At other weights w, with the log odds o = log p - log(1 - p) at a temperature of 1,
    the row is sqrt(p (1 - p)) / T times do / dw.
    """

    classes: int
    temperature: float

    rows = 1
    columns = 1
    left_out = 0

    @property
    def numbers(self) -> int:
        return 6 * self.classes

    def over_classes(self, logits: Tensor) -> Tensor:
        z = logits.double() / self.temperature
        top = z.argmax(dim=1, keepdim=True)
        # 1 - p is summed over the other classes, so nothing cancels.
        others = z.scatter(1, top, -torch.inf)
        log_odds = z.gather(1, top) - others.logsumexp(dim=1, keepdim=True)
        deviation = (log_odds.sigmoid() * (-log_odds).sigmoid()).sqrt() / self.temperature
        gradient = others.softmax(dim=1).neg_().scatter_(1, top, 1.0)
        return (deviation * gradient)[:, None]

    def in_basis(self, over_classes: Tensor) -> Tensor:
        return over_classes.amax(dim=2, keepdim=True)
