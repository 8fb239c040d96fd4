"""Information with one block per class, and the criterion and M^{-1} made of such blocks.

I(x) has the diagonal blocks q_xc h_x h_x^T, with q_xc = p_c (1 - p_c) / T^2, for C classes and
embeddings of D numbers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fm_al.fisher.chunks import SQUARES_LEAST, images_at_once
from fm_al.fisher.criterion import LOW_RANK, ROWS_LEAST, Regularized
from fm_al.fisher.inputs import Inputs
from fm_al.fisher.triangles import add_triangle, complete


@dataclass(frozen=True)
class ClassBlocks:
    """Information of N images, I(x) with a block q_xc h_x h_x^T for every class c.

    Attributes:
        weights: q, (N, C) float64.
        inputs: h_x of D numbers.
    """

    weights: Tensor
    inputs: Inputs

    @classmethod
    def of_logits(cls, logits: Tensor, inputs: Inputs, temperature: float) -> ClassBlocks:
        """Compute q_xc = p_c (1 - p_c) / T^2 with p = softmax(z / T).

        Args:
            logits: z, (N, C), any float type.
            inputs: h_x.
            temperature: T.
        """
        p = (logits.double() / temperature).softmax(dim=1)
        top = p.argmax(dim=1, keepdim=True)
        # 1 - p of the likeliest class is summed over the others, so nothing cancels.
        others = (1 - p).scatter(1, top, p.scatter(1, top, 0.0).sum(dim=1, keepdim=True))
        return cls(p.mul_(others).div_(temperature**2), inputs)

    def __len__(self) -> int:
        return len(self.weights)

    def __getitem__(self, images: Tensor | slice) -> ClassBlocks:
        return ClassBlocks(self.weights[images], self.inputs[images])

    def scaled(self, scales: float | Tensor) -> ClassBlocks:
        """Multiply I(x) by one scale, or by one scale per image, (N,)."""
        if isinstance(scales, Tensor):
            scales = scales[:, None]
        return replace(self, weights=self.weights * scales)

    @property
    def chunk_images(self) -> int:
        """How many images are processed together."""
        numbers = 3 * self.inputs.dimensions + 2 * self.weights.shape[1]
        return max(SQUARES_LEAST, images_at_once(numbers, self.weights.device))


class ClassInformationSum:
    """Sum of I(x) over images that are added in parts, (C, D, D)."""

    def __init__(self, classes: int, dimensions: int, device: torch.device) -> None:
        shape = classes, dimensions, dimensions
        self._sum = torch.zeros(shape, dtype=torch.float64, device=device)

    def add(self, blocks: ClassBlocks) -> None:
        """Add I(x) of all images of the blocks."""
        for part, h in blocks.inputs.chunks(blocks.chunk_images):
            for total, q in zip(self._sum, blocks.weights[part].T, strict=True):
                add_triangle(total, h * q[:, None], h)

    def total(self) -> Tensor:
        """Return the sum, (C, D, D) float64, symmetric. Nothing can be added afterwards."""
        for block in self._sum:
            complete(block)
        return self._sum


@dataclass(frozen=True)
class ClassCriterion(Regularized):
    """sum_c tr(M_c^{-1} F_c), M_c = lambda 1 + prior + the information of the images inside.

    Attributes:
        pool_fisher: F, (C, D, D) float64.
        prior: What is known without the picks, (C, D, D) float64.
        regularization: lambda.
    """

    pool_fisher: Tensor
    prior: Tensor
    regularization: float

    def roots(self, inside: ClassBlocks) -> Iterable[Tensor]:
        """Yield L_c^{-1} of every class, (D, D) lower triangular, with M_c = L_c L_c^T."""
        h = inside.inputs.float64()
        identity = torch.eye(self.prior.shape[1]).to(self.prior)
        for prior, q in zip(self.prior, inside.weights.T, strict=True):
            M = prior.clone()
            M.diagonal().add_(self.regularization)
            M.addmm_((h * q[:, None]).T, h)
            yield torch.linalg.solve_triangular(self.cholesky(M), identity, upper=False)

    def inverse(self, inside: ClassBlocks) -> ClassInverse:
        """Return M^{-1} with these images inside."""
        root = torch.empty_like(self.prior)
        for into, of_class in zip(root, self.roots(inside), strict=True):
            into.copy_(of_class)
        return ClassInverse(root)

    def value(self, inside: ClassBlocks) -> float:
        """Return the criterion with these images inside."""
        roots = zip(self.roots(inside), self.pool_fisher, strict=True)
        return sum(float((root @ F * root).sum()) for root, F in roots)


class ClassInverse:
    """M_c^{-1} = root_c^T (1 - T_c^T S T_c) root_c of every class; see `Inverse`.

    Attributes:
        root: (C, D, D), lower triangular.
        T: (C, r, D).
        signs: The diagonal of S, (r,): 1 for images that were added, -1 for those removed.
    """

    def __init__(self, root: Tensor) -> None:
        self.root = root
        self.T = root[:, :0]
        self.signs = root.new_empty(0)

    def whitened(self, rows: Tensor) -> Tensor:
        """Return root_c^T's half of a product, for one row per class, (C, D)."""
        half = torch.bmm(self.root, rows[:, :, None])
        along = torch.bmm(self.T, half) * self.signs[:, None]
        return half.baddbmm_(self.T.mT, along, alpha=-1)[:, :, 0]

    def times_root(self, rows: Tensor) -> Tensor:
        """Return the other half."""
        return torch.bmm(rows[:, None], self.root)[:, 0]

    def times(self, rows: Tensor) -> Tensor:
        """Return M_c^{-1} times one row per class, (C, D)."""
        return self.times_root(self.whitened(rows))

    @property
    def has_many_rows(self) -> bool:
        """Whether T is so long that M^{-1} should be computed again without it."""
        return self.T.shape[1] > max(LOW_RANK * self.T.shape[2], ROWS_LEAST)

    def change(self, whitened: Tensor, sign: int) -> None:
        """Subtract sign w_c w_c^T from M_c^{-1}, with w = `times_root` of these rows."""
        self.T = torch.cat([self.T, whitened[:, None]], dim=1)
        self.signs = torch.cat([self.signs, self.signs.new_full((1,), sign)])
