"""The criterion tr(M^{-1} F) that a design minimises, and M^{-1} in a form cheap to update."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor

from fm_al.errors import RunError
from fm_al.fisher.blocks import Blocks

LOW_RANK = 0.5  # share of k up to which information is kept as rows
ROWS_LEAST = 64  # rows that M^{-1} may always keep
ROUNDING = 1e-14  # share of a matrix's largest diagonal entry that is rounding, not information


class HasRows(Protocol):
    """V_x of some images."""

    @property
    def rows(self) -> int:
        """R, the rows of a V_x."""
        ...

    def __len__(self) -> int: ...
    def __getitem__(self: Images, images: Tensor | slice) -> Images: ...


Images = TypeVar("Images", bound=HasRows)


class Regularized:
    """What depends on lambda: whether float64 can solve it, and the error if not.

    Attributes:
        regularization: lambda.
    """

    regularization: float

    def cholesky(self, matrix: Tensor) -> Tensor:
        """Factor a matrix. Raises RunError if it is not positive definite."""
        factor, info = torch.linalg.cholesky_ex(matrix)
        if not bool((info == 0) & factor.diagonal().isfinite().all()):
            raise self.no_solution("M is not positive definite")
        return factor

    def finite(self, score: float) -> float:
        """Return the score. Raises RunError if it is not finite."""
        if not math.isfinite(score):
            raise self.no_solution(f"the best candidate's score is {score}")
        return score

    def no_solution(self, what: str) -> RunError:
        """The error for a selection that float64 cannot carry out."""
        return RunError(
            f"selection failed: {what} with lambda={self.regularization:g}; raise regularization "
            "or lower oversampling"
        )


class DesignCriterion(Regularized, ABC, Generic[Images]):
    """tr(M^{-1} F) with M = lambda 1 + prior + the information of the images inside."""

    @abstractmethod
    def value(self, inside: Images) -> float:
        """Return tr(M^{-1} F) with these images inside."""

    @abstractmethod
    def over_prior(self, images: Images) -> tuple[Tensor, Tensor]:
        """Return X M_0^{-1} and X M_0^{-1} X^T, with M_0 the M with no image inside.

        X is the V_x of these images, one below the other.
        """

    @abstractmethod
    def fisher_form(self, rows: Tensor) -> Tensor:
        """Return rows F rows^T, for rows (m, k)."""


@dataclass(frozen=True)
class Criterion(DesignCriterion[Blocks]):
    """`DesignCriterion` with all matrices stored.

    Attributes:
        pool_fisher: F, (k, k) float64.
        prior: What is known without the picks, (k, k) float64; None for nothing.
        regularization: lambda.
    """

    pool_fisher: Tensor
    prior: Tensor | None
    regularization: float

    def inverse(self, inside: Blocks, whole: bool = False) -> Inverse:
        """Return M^{-1} with these images inside. whole: do not use its low rank."""
        k, prior = len(self.pool_fisher), None
        most = int(LOW_RANK * k) - len(inside) * inside.rows
        if not whole and most >= 0:
            none = self.pool_fisher[:0]
            prior = none if self.prior is None else low_rank_rows(self.prior, most)
        if prior is not None:
            rows = torch.cat([prior, inside.row_vectors()]) / math.sqrt(self.regularization)
            gram = rows @ rows.T
            gram.diagonal().add_(1)
            T = torch.linalg.solve_triangular(self.cholesky(gram), rows, upper=False)
            return Inverse(self.regularization, None, T)
        M = torch.zeros_like(self.pool_fisher) if self.prior is None else self.prior.clone()
        M.diagonal().add_(self.regularization)
        for _, rows in inside.row_vector_chunks():
            M.addmm_(rows.T, rows)
        L = self.cholesky(M)
        del M
        identity = torch.eye(k, dtype=L.dtype, device=L.device)
        root = torch.linalg.solve_triangular(L, identity, upper=False)
        return Inverse(self.regularization, root, root[:0])

    def value(self, inside: Blocks) -> float:
        root = self.inverse(inside, whole=True).root
        assert root is not None
        return float(((root @ self.pool_fisher) * root).sum())

    def over_prior(self, images: Blocks) -> tuple[Tensor, Tensor]:
        inverse = self.inverse(images[:0], whole=True)
        half = inverse.whitened(images.row_vectors())
        return inverse.times_root(half), half @ half.T

    def fisher_form(self, rows: Tensor) -> Tensor:
        return rows @ self.pool_fisher @ rows.T


class Inverse:
    """M^{-1} = root^T (1 - T^T S T) root.

    Adding or removing an image appends R rows to T and changes nothing else.

    Attributes:
        root: (k, k), lower triangular, with M = (root^T root)^{-1} at the start. None stands for
            lambda^{-1/2} times the identity.
        T: (r, k).
        signs: The diagonal of S, (r,): 1 for images that were added, -1 for those removed.
    """

    def __init__(self, regularization: float, root: Tensor | None, T: Tensor) -> None:
        self.regularization = regularization
        self.root = root
        self.T = T
        self.signs = torch.ones_like(T[:, 0])

    def whitened(self, rows: Tensor) -> Tensor:
        """Return rows root^T (1 - T^T S T), for rows (m, k)."""
        rows = rows / math.sqrt(self.regularization) if self.root is None else rows @ self.root.T
        # Not in place: a single row may have strides that cuBLAS refuses to write to.
        return torch.addmm(rows, (rows @ self.T.T) * self.signs, self.T, alpha=-1)

    def times_root(self, rows: Tensor) -> Tensor:
        """Return rows root, the other half of a product with M^{-1}."""
        return rows / math.sqrt(self.regularization) if self.root is None else rows @ self.root

    def times(self, rows: Tensor) -> Tensor:
        """Return rows M^{-1}."""
        return self.times_root(self.whitened(rows))

    @property
    def has_many_rows(self) -> bool:
        """Whether T is so long that M^{-1} should be computed again without it."""
        return len(self.T) > max(LOW_RANK * self.T.shape[1], ROWS_LEAST)

    def change(self, whitened: Tensor, sign: int) -> None:
        """Subtract sign W^T W from M^{-1}, with W = `times_root` of these rows."""
        self.T = torch.cat([self.T, whitened])
        self.signs = torch.cat([self.signs, torch.full_like(whitened[:, 0], sign)])


def low_rank_rows(information: Tensor, most: int) -> Tensor | None:
    """Return X (r, k) with X^T X the matrix, up to rounding; None if r would exceed `most`.

    By a Cholesky factorization with pivots.
    """
    left = information.diagonal().clone()
    X = information.new_empty(most, len(left))
    negligible = ROUNDING * float(left.max())
    for row in range(most + 1):
        pivot = int(left.argmax())
        length = float(left[pivot])
        if length <= negligible:
            return X[:row]
        if row < most:
            torch.sub(information[pivot], X[:row, pivot] @ X[:row], out=X[row])
            X[row] /= math.sqrt(length)
            left -= X[row].square()
            left[pivot] = 0
    return None
