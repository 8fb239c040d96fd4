"""Square roots V_x of images' Fisher information, and products with them.

The block of the last layer is a Kronecker product and is never built."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fm_al.fisher.chunks import chunk_images, row_chunk_images
from fm_al.fisher.inputs import Inputs
from fm_al.fisher.triangles import add_triangle, complete, times_triangle, upper_half


@dataclass(frozen=True)
class Blocks:
    """V_x = s_x [E_x ⊗ h_x^T | G_x] of N images, each with R rows and k = E D + q columns.

    The first block is the last layer's: E_x is `fisher_factors` times `contrasts`, and h_x is the
    embedding, with a 1 appended if the layer has a bias. The second block holds the gradients at
    other weights: `fisher_factors` times the Jacobian. Either may have no columns.

    Attributes:
        factors: E_x, (N, R, E) float64.
        inputs: h_x of D numbers.
        dense: G_x, (N, R, q), any float type, on any device. Parts of it are copied to the device
            of the factors when they are needed.
        scales: s_x, (N,) float64.
    """

    factors: Tensor
    inputs: Inputs
    dense: Tensor
    scales: Tensor

    @classmethod
    def of_last_layer(
        cls, factors: Tensor, embeddings: Tensor, dense: Tensor | None = None
    ) -> Blocks:
        """Build the blocks of E_x, h_x and, if given, G_x, with scales of 1."""
        if dense is None:
            dense = torch.empty(*factors.shape[:2], 0, device=factors.device)
        if not len(factors) == len(embeddings) == len(dense) or factors.shape[1] != dense.shape[1]:
            raise ValueError(
                f"numbers of images or rows differ: factors {tuple(factors.shape)}, "
                f"embeddings {tuple(embeddings.shape)}, dense {tuple(dense.shape)}"
            )
        scales = torch.ones(len(factors), dtype=torch.float64, device=factors.device)
        return cls(factors.double(), Inputs(embeddings), dense, scales)

    @classmethod
    def of_dense(cls, dense: Tensor) -> Blocks:
        """Build blocks without a last layer, of gradients (N, R, k)."""
        factors = torch.empty(*dense.shape[:2], 0, dtype=torch.float64, device=dense.device)
        return cls.of_last_layer(factors, dense.new_empty(len(dense), 0), dense)

    def __len__(self) -> int:
        return len(self.factors)

    def __getitem__(self, images: Tensor | slice) -> Blocks:
        stored = images if isinstance(images, slice) else images.to(self.dense.device)
        return Blocks(
            self.factors[images], self.inputs[images], self.dense[stored], self.scales[images]
        )

    @property
    def embeddings(self) -> Tensor:
        """The embeddings that `inputs` reads."""
        return self.inputs.embeddings

    @property
    def rows(self) -> int:
        """R."""
        return self.factors.shape[1]

    @property
    def dimensions(self) -> int:
        """D, the length of h_x."""
        return self.inputs.dimensions

    @property
    def width(self) -> int:
        """k."""
        return self.factors.shape[2] * self.dimensions + self.dense.shape[2]

    def fisher(self) -> Tensor:
        """Return the mean of I(x): (k, k) float64."""
        return fisher_sum([self], self.width, self.factors.device) / len(self)

    def scaled(self, scale: float | Tensor) -> Blocks:
        """Multiply V_x by one scale, or by one scale per image, (N,)."""
        return replace(self, scales=scale * self.scales)

    def in_half(self) -> Blocks:
        """Return the blocks with G_x in float16.

        Each image's gradients are scaled by their largest entry, since they may be tiny. The error
        is at most 2^-11 of each number, or 2^-25 of the image's largest.
        """
        if self.dense.shape[2] == 0:
            return self
        largest = self.dense.abs().amax(dim=(1, 2)).double()
        scales = torch.where(largest > 0, largest, 1.0)
        dense = (self.dense / scales[:, None, None]).half()
        factors = self.factors / scales[:, None, None]
        return replace(self, factors=factors, dense=dense, scales=self.scales * scales)

    def chunks(self, for_squares: bool = False) -> Iterator[tuple[slice, Chunk]]:
        """Yield all images in parts, in float64 on the device of `factors`.

        A part is overwritten by the next one: converting into fresh memory takes longer than the
        conversion.
        """
        sizes = self.rows, self.dimensions, self.dense.shape[2]
        size = chunk_images(*sizes, self.factors.device, for_squares)
        shape = min(size, len(self)), self.rows, self.dense.shape[2]
        buffer = self.factors.new_empty(shape)
        for start in range(0, len(self), size):
            part = slice(start, start + size)
            stored = self.dense[part]
            dense = buffer[: len(stored)].copy_(stored)
            scales = self.scales[part, None, None]
            yield part, Chunk(self.factors[part], self.inputs[part].float64(), dense, scales)

    def columns(self, matrix: Tensor) -> Columns:
        """Arrange a matrix (k, m) for `Chunk.times`."""
        E, D, m = self.factors.shape[2], self.dimensions, matrix.shape[1]
        last = matrix[: E * D].view(E, D, m).transpose(0, 1).reshape(D, E * m)
        rows = matrix[E * D :].T
        if m > 4:
            rows = torch.cat([rows, rows.new_zeros(-m % 4, rows.shape[1])])
        return Columns(m, last, rows)

    def times(self, matrix: Tensor) -> Tensor:
        """Multiply every V_x by a matrix (k, m): (N, R, m) float64."""
        columns = self.columns(matrix)
        products = self.factors.new_empty(len(self), self.rows, columns.count)
        for part, chunk in self.chunks():
            products[part] = chunk.times(columns)
        return products

    def row_vectors(self) -> Tensor:
        """Return V_x of all images, one below the other: (N R, k) float64."""
        vectors = self.factors.new_empty(len(self), self.rows, self.width)
        for part, chunk in self.chunks():
            vectors[part] = chunk.row_vectors()
        return vectors.flatten(0, 1)

    def row_vector_chunks(self) -> Iterator[tuple[slice, Tensor]]:
        """Yield V_x of all images in parts, (n R, k) float64."""
        size = row_chunk_images(self.rows, self.width, self.factors.device)
        for start in range(0, len(self), size):
            part = slice(start, start + size)
            yield part, self[part].row_vectors()


@dataclass(frozen=True)
class Columns:
    """A matrix (k, m), arranged for `Chunk.times`.

    Attributes:
        count: m.
        last: The first E D of its rows, (D, E m).
        rows: The transpose of the others, (m or more, q). Beyond m they are zeros: BLAS multiplies
            eight long rows faster than six, and faster than a few columns.
    """

    count: int
    last: Tensor
    rows: Tensor


@dataclass(frozen=True)
class Chunk:
    """`Blocks` of some images, all in float64 on one device; scales are (n, 1, 1)."""

    factors: Tensor
    embeddings: Tensor
    dense: Tensor
    scales: Tensor

    def times(self, columns: Columns) -> Tensor:
        """Multiply every V_x by a matrix (k, m): (n, R, m)."""
        n, E, m = len(self.factors), self.factors.shape[2], columns.count
        product = torch.bmm(self.factors, (self.embeddings @ columns.last).view(n, E, m))
        dense = (columns.rows @ self.dense.flatten(0, 1).T)[:m].T
        return product.add_(dense.view_as(product)).mul_(self.scales)

    def quadratic_forms(self, halved: Tensor) -> Tensor:
        """Return V_x S V_x^T of every image, (n, R, R), for a symmetric S (k, k) after `halve`."""
        n, D = self.embeddings.shape
        E, q = self.factors.shape[2], self.dense.shape[2]
        # V_x S V_x^T = E_x inner E_x^T + half + half^T
        inner = halved.new_empty(n, E, E)
        for a in range(E):
            for b in range(a, E):
                block = halved[a * D : (a + 1) * D, b * D : (b + 1) * D]
                products = times_triangle(self.embeddings, block).mul_(self.embeddings)
                torch.sum(products, dim=1, out=inner[:, a, b])
                inner[:, b, a] = inner[:, a, b]
        half = times_triangle(self.dense.flatten(0, 1), halved[E * D :, E * D :])
        half = half.view_as(self.dense)
        for e in range(E if q else 0):
            mixed = self.embeddings @ halved[e * D : (e + 1) * D, E * D :]
            half.addcmul_(self.factors[:, :, e, None], mixed[:, None])
        forms = torch.bmm(half, self.dense.mT)
        forms = forms + forms.mT
        forms += torch.bmm(torch.bmm(self.factors, inner), self.factors.mT)
        return forms.mul_(self.scales.square())

    def grams(self) -> Tensor:
        """Return V_x V_x^T of every image, (n, R, R)."""
        lengths = self.embeddings.square().sum(dim=1)[:, None, None]
        grams = torch.bmm(self.dense, self.dense.mT)
        return grams.baddbmm_(self.factors * lengths, self.factors.mT).mul_(self.scales.square())

    def row_vectors(self) -> Tensor:
        """Return V_x of every image, (n, R, k)."""
        last = (self.factors[:, :, :, None] * self.embeddings[:, None, None]).flatten(2)
        return torch.cat([last, self.dense], dim=2).mul_(self.scales)

    def add_information(self, total: Tensor) -> None:
        """Add the sum of V_x^T V_x to `total` (k, k).

        Of symmetric blocks only the upper triangle is added; `InformationSum.total` mirrors it.
        """
        D, E = self.embeddings.shape[1], self.factors.shape[2]
        scaled = self.factors * self.scales.square()
        weights = torch.bmm(scaled.mT, self.factors)
        for a in range(E):
            for b in range(a, E):
                block = total[a * D : (a + 1) * D, b * D : (b + 1) * D]
                add_triangle(block, self.embeddings * weights[:, a, b, None], self.embeddings)
            mixed = torch.bmm(scaled[:, :, a, None].mT, self.dense)[:, 0]
            total[a * D : (a + 1) * D, E * D :].addmm_(self.embeddings.T, mixed)
        rows = (self.dense * self.scales).flatten(0, 1)
        add_triangle(total[E * D :, E * D :], rows, rows)


def halve(symmetric: Tensor, E: int, D: int) -> Tensor:
    """Overwrite S (k, k) with the triangles that `quadratic_forms` multiplies by.

    v S v^T = 2 v U v^T with U upper triangular, at half the cost. There is one triangle for each
    pair of the last layer's blocks and one for the block of the other weights.

    Args:
        symmetric: S.
        E: Columns of the factors, see `Blocks`.
        D: Length of an embedding.
    """
    for a in range(E):
        for b in range(a, E):
            block = symmetric[a * D : (a + 1) * D, b * D : (b + 1) * D]
            block.copy_(upper_half(block + block.T))
    others = symmetric[E * D :, E * D :]
    others.copy_(upper_half(others))
    return symmetric


class InformationSum:
    """Sum of I(x) over images that are added in parts, with k = `width`."""

    def __init__(self, width: int, device: torch.device) -> None:
        self._sum = torch.zeros(width, width, dtype=torch.float64, device=device)
        self._classes = self._dimensions = 0  # E and D of the last layer's block

    def add(self, blocks: Blocks) -> None:
        """Add I(x) of all images of the blocks."""
        self._classes, self._dimensions = blocks.factors.shape[2], blocks.dimensions
        for _, chunk in blocks.chunks(for_squares=True):
            chunk.add_information(self._sum)

    def total(self) -> Tensor:
        """Return the sum, (k, k) float64, symmetric. Nothing can be added afterwards."""
        total, E, D = self._sum, self._classes, self._dimensions
        for a in range(E):
            for b in range(a, E):
                block = total[a * D : (a + 1) * D, b * D : (b + 1) * D]
                complete(block)
                total[b * D : (b + 1) * D, a * D : (a + 1) * D] = block
        total[E * D :, : E * D] = total[: E * D, E * D :].T
        complete(total[E * D :, E * D :])
        return total


def fisher_sum(parts: Iterable[Blocks], width: int, device: torch.device) -> Tensor:
    """Sum I(x) over all images of all parts, each with k = `width`: (k, k) float64."""
    information = InformationSum(width, device)
    for blocks in parts:
        information.add(blocks)
    return information.total()
