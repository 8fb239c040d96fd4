"""Greedy optimal design: which images make the inverse Fisher information smallest.

Of images x with Fisher information I(x) = V_x^T V_x over k weights, n are picked that minimise
tr(M^{-1} F), where M = lambda 1 + prior + scale * (sum of I(x) over the picks) and F is the pool's
mean information (BAIT, Ash et al. 2021, arXiv 2106.09675; FisherMask, Gul et al. 2024, arXiv
2411.05752): greedily forward, and greedily backward from more picks than n if so wished.

The textbook computes a product with k x k matrices for every candidate and every pick. Here each
candidate keeps two small matrices, A_x = V_x M^{-1} V_x^T and B_x = V_x M^{-1} F M^{-1} V_x^T.
Picking it lowers the objective by tr((1 + A_x)^{-1} B_x), and a pick changes A and B by products of
V_x with a k x 2R matrix: the same picks, at O(N R^2 k) a pick instead of O(N R k^2). For the last
layer, whose gradients are Kronecker products, k in that is D.

Precision: V_x is stored in float32 or less, since rounding what is given only moves the optimum a
little, the same for every step. All that is computed from it is in float64: M^{-1}, A, B and the
products that go into them, of which each alone would change the picks if rounded to float32 (there
is a test), and F, which they are products of.

A small lambda costs digits: A starts at the information over lambda, B at the square of that, and
picks that resemble x leave little of either. Two signs show what is lost: the best candidate's A
and B differ from those computed anew, or some score is below 0, which none can be. Then A and B of
all candidates are computed from scratch, and if that does not help, from whitened vectors L^{-1}
V_x^T with M = L L^T. There the square does not come up. Images are taken back by (1 + G)^{-1}, G =
X M_0^{-1} X^T of the picks' rows X: see `_Removal`. Picks are those of exact arithmetic down to a
lambda of 1e-6 of the mean eigenvalue of F in all pools tested, with duplicates and the like.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from fm_al.errors import RunError

# Scores closer than this, relatively, are equal: a network's float32 outputs for the same image
# differ by 1e-7 with its place in the batch.
TIE = 1e-6
DRIFT = 1e-7  # of A, B and scores, relatively, above which they are computed anew
LOST = 1e-3  # of them when just computed, above which M is too ill conditioned
CANCELLED = 1e-6  # of the objective, below which it is not what is left after subtractions
LOW_RANK = 0.5  # of k, the rank up to which information is kept as rows
ROWS_LEAST = 64
REMOVAL_ROWS = 2048  # of picks, which `_Removal` has memory for whatever k
ROUNDING = 1e-14  # of a matrix's largest diagonal entry, what is no information
NEGLIGIBLE = 1e-12  # of the objective, what scores may differ by for no reason
TILE = 96  # columns at a time of a triangular product
CHUNK_BYTES = {"cpu": 2**22, "cuda": 2**28}  # of what is computed for some candidates at a time
SUBSPACE = 8  # vectors that look for the largest eigenvalue together
RESIDUAL = 1e-3  # of its eigenvector, relatively, at which the search ends
MOST_ITERATIONS = 100
SQUARES_LEAST = 256  # candidates at a time in products with a k x k matrix

Weighting = Literal["fisher", "uniform"]


def fisher_factors(
    logits: Tensor, weighting: Weighting = "fisher", temperature: float = 1.0
) -> Tensor:
    """R_x with R_x^T R_x = sum_c w_c (e_c - p) (e_c - p)^T: (N, C - 1, C) float64; logits (N, C).

    w_c is p_c (`fisher`): then R_x^T R_x = diag p - p p^T, and (R_x J_x)^T (R_x J_x) is the Fisher
    information of image x, J_x the Jacobian of its logits. Or 1 (`uniform`), as in the FisherMask
    authors' selection. Each row sums to 0: C - 1 rows hold what C log probabilities' gradients do.
    temperature: T; the network is then the one whose logits are z / T, with p = softmax(z / T) and
    a Jacobian of J_x / T, so R_x is divided by T, too.
    """
    return _factors((logits.double() / temperature).softmax(dim=1), weighting) / temperature


def _factors(p: Tensor, weighting: Weighting) -> Tensor:
    """The same of probabilities (N, C) float64, at a temperature of 1."""
    classes = p.shape[1]
    if weighting == "uniform":
        # With u = Q^T p, Q the contrasts, it is (1 + C u u^T)^{1/2} Q^T.
        basis = contrasts(classes).to(p.device)
        u = p @ basis
        stretch = classes / (1 + (1 + classes * u.square().sum(dim=1)).sqrt())
        return basis.T + (stretch[:, None] * u)[:, :, None] * (u @ basis.T)[:, None]
    # The Cholesky factor of diag p - p p^T in closed form (Tanabe and Sagae 1992): row j is class j
    # against those after it. Sums of what is left, not 1 less what is gone, so nothing cancels.
    smallest = torch.finfo(p.dtype).tiny
    left = p @ torch.ones(classes, classes).to(p).tril()
    after = left[:, 1:]
    shares = p[:, None, :] / after[:, :, None].clamp_min(smallest)
    rows = torch.eye(classes, dtype=p.dtype, device=p.device)[:-1] - shares.triu(1)
    return (p[:, :-1] / left[:, :-1].clamp_min(smallest) * after).sqrt()[:, :, None] * rows


def contrasts(classes: int) -> Tensor:
    """Orthonormal basis of the vectors over C classes that sum to 0: (C, C - 1) float64.

    No row of `fisher_factors` has a part outside of it, so in this basis the C D weights of the
    last layer are (C - 1) D coordinates, and D more in which there is never any information.
    """
    steps = torch.arange(1, classes, dtype=torch.float64)
    helmert = torch.ones(classes, classes - 1, dtype=torch.float64).triu()
    helmert[torch.arange(1, classes), torch.arange(classes - 1)] = -steps
    return helmert / (steps * (steps + 1)).sqrt()


@dataclass(frozen=True)
class Blocks:
    """V_x = s_x [E_x ⊗ h_x^T | G_x] of N images, R rows and k = E D + q columns each.

    factors: E_x, (N, R, E) float64. embeddings: h_x, (N, D). dense: G_x, (N, R, q), of any float
    type and on any device: it is streamed to that of the others. scales: s_x, (N,) float64.

    The first block is the last layer, never built: E_x is `fisher_factors` times `contrasts`, h_x
    the embedding with a 1 appended if the layer has a bias. The second holds the gradients at other
    weights: `fisher_factors` times the Jacobian. Either may have no columns.
    """

    factors: Tensor
    embeddings: Tensor
    dense: Tensor
    scales: Tensor

    @classmethod
    def of_last_layer(
        cls, factors: Tensor, embeddings: Tensor, dense: Tensor | None = None
    ) -> Blocks:
        """Of E_x and h_x, and of other weights' gradients if given; the scales are 1."""
        if dense is None:
            dense = torch.empty(*factors.shape[:2], 0, device=factors.device)
        if not len(factors) == len(embeddings) == len(dense) or factors.shape[1] != dense.shape[1]:
            raise ValueError(
                f"images or rows differ: factors {tuple(factors.shape)}, "
                f"embeddings {tuple(embeddings.shape)}, dense {tuple(dense.shape)}"
            )
        scales = torch.ones(len(factors), dtype=torch.float64, device=factors.device)
        return cls(factors.double(), embeddings, dense, scales)

    @classmethod
    def of_dense(cls, dense: Tensor) -> Blocks:
        """Of gradients (N, R, k) alone."""
        factors = torch.empty(*dense.shape[:2], 0, dtype=torch.float64, device=dense.device)
        return cls.of_last_layer(factors, dense.new_empty(len(dense), 0), dense)

    def __len__(self) -> int:
        return len(self.factors)

    def __getitem__(self, images: Tensor | slice) -> Blocks:
        stored = images if isinstance(images, slice) else images.to(self.dense.device)
        return Blocks(
            self.factors[images], self.embeddings[images], self.dense[stored], self.scales[images]
        )

    @property
    def rows(self) -> int:
        """R."""
        return self.factors.shape[1]

    @property
    def width(self) -> int:
        """k."""
        return self.factors.shape[2] * self.embeddings.shape[1] + self.dense.shape[2]

    def fisher(self) -> Tensor:
        """Mean of I(x): (k, k) float64."""
        return fisher_sum([self], self.width, self.factors.device) / len(self)

    def scaled(self, scale: float | Tensor) -> Blocks:
        """scale * V_x, with one scale for all images or one an image, (N,)."""
        return replace(self, scales=scale * self.scales)

    def in_half(self) -> Blocks:
        """With G_x in float16, scaled by its largest entry, since gradients may be tiny: off by at
        most 2^-11 of each number, or 2^-25 of the image's largest."""
        if self.dense.shape[2] == 0:
            return self
        largest = self.dense.abs().amax(dim=(1, 2)).double()
        scales = torch.where(largest > 0, largest, 1.0)
        dense = (self.dense / scales[:, None, None]).half()
        factors = self.factors / scales[:, None, None]
        return Blocks(factors, self.embeddings, dense, self.scales * scales)

    def chunks(self, for_squares: bool = False) -> Iterator[tuple[slice, _Chunk]]:
        """All images in parts, in float64 on the device of `factors`; larger ones for products with
        a whole k x k matrix."""
        device = self.factors.device
        sizes = self.rows, self.embeddings.shape[1], self.dense.shape[2]
        size = _chunk_images(*sizes, device, for_squares)
        for start in range(0, len(self), size):
            part = slice(start, start + size)
            dense = self.dense[part].to(device).double()
            scales = self.scales[part, None, None]
            yield part, _Chunk(self.factors[part], self.embeddings[part].double(), dense, scales)

    def row_vectors(self) -> Tensor:
        """V_x of all images, one below the other: (N R, k) float64."""
        vectors = self.factors.new_empty(len(self), self.rows, self.width)
        for part, chunk in self.chunks():
            vectors[part] = chunk.row_vectors()
        return vectors.flatten(0, 1)

    def row_vector_chunks(self) -> Iterator[tuple[slice, Tensor]]:
        """V_x of all images in parts, (n R, k) float64."""
        fits = CHUNK_BYTES[self.factors.device.type] // (8 * self.rows * self.width)
        size = max(SQUARES_LEAST // self.rows, fits, 1)
        for start in range(0, len(self), size):
            part = slice(start, start + size)
            yield part, self[part].row_vectors()


@dataclass(frozen=True)
class _Chunk:
    """s_x [E_x ⊗ h_x^T | G_x] of some images, all in float64 and on one device; s_x (n, 1, 1)."""

    factors: Tensor
    embeddings: Tensor
    dense: Tensor
    scales: Tensor

    def times(self, matrix: Tensor) -> Tensor:
        """V_x matrix of each image, (n, R, m), of a matrix (k, m)."""
        n, D = self.embeddings.shape
        E, m = self.factors.shape[2], matrix.shape[1]
        last = matrix[: E * D].view(E, D, m).transpose(0, 1).reshape(D, E * m)
        product = torch.bmm(self.factors, (self.embeddings @ last).view(n, E, m))
        # By its transpose, with rows of zeros: a BLAS takes eight long rows faster than six, and
        # faster than a few columns.
        rows = matrix[E * D :].T
        if m > 4:
            rows = torch.cat([rows, rows.new_zeros(-m % 4, rows.shape[1])])
        dense = (rows @ self.dense.flatten(0, 1).T)[:m].T
        return product.add_(dense.view_as(product)).mul_(self.scales)

    def quadratic_forms(self, halved: Tensor) -> Tensor:
        """V_x S V_x^T of each image, (n, R, R), of a symmetric S (k, k), after `halve`."""
        n, D = self.embeddings.shape
        E, q = self.factors.shape[2], self.dense.shape[2]
        # V_x S V_x^T = E_x inner E_x^T + half + half^T
        inner = halved.new_empty(n, E, E)
        for a in range(E):
            for b in range(a, E):
                block = halved[a * D : (a + 1) * D, b * D : (b + 1) * D]
                products = _times_triangle(self.embeddings, block).mul_(self.embeddings)
                torch.sum(products, dim=1, out=inner[:, a, b])
                inner[:, b, a] = inner[:, a, b]
        half = _times_triangle(self.dense.flatten(0, 1), halved[E * D :, E * D :])
        half = half.view_as(self.dense)
        for e in range(E if q else 0):
            mixed = self.embeddings @ halved[e * D : (e + 1) * D, E * D :]
            half.addcmul_(self.factors[:, :, e, None], mixed[:, None])
        forms = torch.bmm(half, self.dense.mT)
        forms = forms + forms.mT
        forms += torch.bmm(torch.bmm(self.factors, inner), self.factors.mT)
        return forms.mul_(self.scales.square())

    def grams(self) -> Tensor:
        """V_x V_x^T of each image, (n, R, R)."""
        lengths = self.embeddings.square().sum(dim=1)[:, None, None]
        grams = torch.bmm(self.dense, self.dense.mT)
        return grams.baddbmm_(self.factors * lengths, self.factors.mT).mul_(self.scales.square())

    def row_vectors(self) -> Tensor:
        """V_x of each image, (n, R, k)."""
        last = (self.factors[:, :, :, None] * self.embeddings[:, None, None]).flatten(2)
        return torch.cat([last, self.dense], dim=2).mul_(self.scales)

    def add_information(self, total: Tensor) -> None:
        """Adds sum of V_x^T V_x to `total` (k, k), whose symmetric blocks have upper triangles only
        until `InformationSum.total` completes them."""
        D, E = self.embeddings.shape[1], self.factors.shape[2]
        scaled = self.factors * self.scales.square()
        weights = torch.bmm(scaled.mT, self.factors)
        for a in range(E):
            for b in range(a, E):
                block = total[a * D : (a + 1) * D, b * D : (b + 1) * D]
                _add_triangle(block, self.embeddings * weights[:, a, b, None], self.embeddings)
            mixed = torch.bmm(scaled[:, :, a, None].mT, self.dense)[:, 0]
            total[a * D : (a + 1) * D, E * D :].addmm_(self.embeddings.T, mixed)
        rows = (self.dense * self.scales).flatten(0, 1)
        _add_triangle(total[E * D :, E * D :], rows, rows)


class InformationSum:
    """Sum of I(x) over the images of blocks with k = `width`, added part by part."""

    def __init__(self, width: int, device: torch.device) -> None:
        self._sum = torch.zeros(width, width, dtype=torch.float64, device=device)
        self._classes = self._dimensions = 0  # of the last layer's block

    def add(self, blocks: Blocks) -> None:
        """Adds I(x) of all images of the blocks."""
        self._classes, self._dimensions = blocks.factors.shape[2], blocks.embeddings.shape[1]
        for _, chunk in blocks.chunks(for_squares=True):
            chunk.add_information(self._sum)

    def total(self) -> Tensor:
        """(k, k) float64, symmetric. Nothing can be added afterwards."""
        total, E, D = self._sum, self._classes, self._dimensions
        for a in range(E):
            for b in range(a, E):
                block = total[a * D : (a + 1) * D, b * D : (b + 1) * D]
                _complete(block)
                total[b * D : (b + 1) * D, a * D : (a + 1) * D] = block
        total[E * D :, : E * D] = total[: E * D, E * D :].T
        _complete(total[E * D :, E * D :])
        return total


def fisher_sum(parts: Iterable[Blocks], width: int, device: torch.device) -> Tensor:
    """Sum of I(x) over all images of all parts, each with k = `width`: (k, k) float64."""
    information = InformationSum(width, device)
    for blocks in parts:
        information.add(blocks)
    return information.total()


def memory_needed(
    candidates: int, rows: int, dimensions: int, dense_width: int, device: torch.device
) -> dict[str, int]:
    """What `select` holds at its peak beside the candidates' blocks, in bytes by name, where E is R
    or there are no embeddings (dimensions = 0)."""
    width = rows * dimensions + dense_width
    chunk = min(candidates, _chunk_images(rows, dimensions, dense_width, device, for_squares=True))
    needs = {
        f"{candidates:,} candidates' four {rows} x {rows} matrices": 32 * candidates * rows**2,
        f"six {width:,} x {width:,} matrices": 6 * 8 * width**2,
        f"{chunk:,} candidates in float64": 4 * 8 * chunk * _numbers(rows, dimensions, dense_width),
    }
    # Taking picks back comes afterwards.
    picked = min(candidates * rows, _most_rows(width))
    backward = 8 * (6 * picked**2 + 4 * picked * width + 3 * width**2)
    more = backward - sum(needs.values())
    return needs | {f"matrices of {picked:,} picks' rows": more} if more > 0 else needs


def _numbers(rows: int, dimensions: int, dense_width: int) -> int:
    """Of one image in a chunk, with what comes of it."""
    return rows * dense_width + dimensions + 8 * rows**2


def _chunk_images(
    rows: int, dimensions: int, dense_width: int, device: torch.device, for_squares: bool
) -> int:
    """Images in a chunk: few enough for a cache, or so many that going through a k x k matrix for
    each chunk takes no longer than the products with it."""
    least = max(SQUARES_LEAST, dense_width // (2 * rows)) if for_squares else 1
    return max(least, CHUNK_BYTES[device.type] // (8 * _numbers(rows, dimensions, dense_width)))


def information_scale(pool_fisher: Tensor) -> float:
    """tr(F) / k, the mean eigenvalue of F: a lambda for `select` should be a share of it.

    Eigenvalues of the information are what lambda is compared with, and their size depends on the
    norms of the embeddings and on how sure the network is.

    Args:
        pool_fisher: F, (k, k), the mean information of the pool.

    Raises:
        RunError: the trace is 0 or not finite.
    """
    scale = float(pool_fisher.diagonal().double().mean())
    if not math.isfinite(scale):
        raise RunError(
            f"the mean eigenvalue of the pool's Fisher information is {scale}: should be finite; "
            "has training diverged?"
        )
    if scale <= 0:
        raise RunError(
            f"the mean eigenvalue of the pool's Fisher information is {scale}: the network is sure "
            "of every image, so there is no scale for lambda; raise temperature, or set "
            "regularization_scale=absolute"
        )
    return scale


def largest_eigenvalue(symmetric: Tensor) -> float:
    """Largest eigenvalue of a positive semi-definite matrix (k, k), to a thousandth or better.

    Subspace iteration from a fixed start: a power iteration of several vectors together, which
    converges even if the largest eigenvalues are close to each other. It stops when the leading
    vector's residual bounds the error.
    """
    k = len(symmetric)
    start = torch.randn(k, min(SUBSPACE, k), generator=torch.Generator().manual_seed(0))
    product = symmetric @ start.to(symmetric)
    value = 0.0
    for _ in range(MOST_ITERATIONS):
        vectors = torch.linalg.qr(product).Q
        product = symmetric @ vectors
        values, rotation = torch.linalg.eigh(vectors.T @ product)
        value, leading = float(values[-1]), rotation[:, -1]
        if value <= 0:
            break
        residual = product @ (leading / value) - vectors @ leading
        if float(residual.norm()) <= RESIDUAL:
            break
    return value


@dataclass(frozen=True)
class Selection:
    """picks: positions among the candidates, in the order of picking, (n,) int64 on the CPU.
    objective: tr(M^{-1} F) with them."""

    picks: Tensor
    objective: float


def select(
    candidates: Blocks,
    n: int,
    pool_fisher: Tensor,
    prior: Tensor | None = None,
    scale: float = 1.0,
    regularization: float = 1.0,
    oversampling: float = 0.0,
) -> Selection:
    """n of the candidates that make tr(M^{-1} F) small, M = lambda 1 + prior + scale * sum of I(x).

    pool_fisher: F, and prior: what is known without the picks, (k, k) float64, symmetric, on the
    device of the candidates' factors; F is the mean `fisher_sum` of the pool, or the identity.
    With n_L labelled images of mean information I_L and n = K, BAIT and FisherMask have a prior of
    n_L / (n_L + K) I_L and a scale of K / (n_L + K). regularization: lambda > 0. oversampling: b;
    n and b n, rounded, are picked forward, all candidates if there are fewer, and taken back until
    n are left. Of scores that are equal to a millionth the lowest position's goes first.

    Raises:
        RunError: M is singular, less than three digits of the scores are left, or something is not
            finite.
        ValueError: an argument is out of range, or its shape or type is wrong.
    """
    if not 1 <= n <= len(candidates):
        raise ValueError(f"n={n}: there are {len(candidates)} candidates")
    for name, value in (("regularization", regularization), ("scale", scale)):
        if not 0 < value < math.inf:
            raise ValueError(f"{name}={value}: should be above 0")
    if not 0 <= oversampling < math.inf:
        raise ValueError(f"oversampling={oversampling}: should be 0 or above")
    for name, matrix in (("pool_fisher", pool_fisher), ("prior", prior)):
        if matrix is not None and matrix.shape != (candidates.width, candidates.width):
            raise ValueError(
                f"{name} is {tuple(matrix.shape)}, the candidates have k={candidates.width}"
            )
        if matrix is not None and matrix.dtype != torch.float64:
            raise ValueError(f"{name} is {matrix.dtype}: should be torch.float64")
    base = _Base(pool_fisher, prior, regularization)
    forward = _Design(candidates.scaled(math.sqrt(scale)), base)
    for _ in range(min(n + math.floor(oversampling * n + 0.5), len(candidates))):
        forward.add_best()
    picked, objective = forward.inside, forward.final_objective()
    if len(picked) > n:
        blocks = forward.candidates[torch.tensor(picked)]
        del forward
        few_rows = len(picked) * blocks.rows <= _most_rows(blocks.width)
        backward = (_Removal if few_rows else _Design)(blocks, base, list(range(len(picked))))
        positions = torch.tensor(picked)
        while len(backward.inside) > n:
            backward.remove_best(positions)
        picked = [picked[position] for position in backward.inside]
        objective = backward.final_objective()
    return Selection(torch.tensor(picked), objective)


def _most_rows(width: int) -> int:
    """Of picks that `_Removal` takes back. Of more than k some resemble others, and then what
    `_Design` keeps is better conditioned."""
    return min(width, max(REMOVAL_ROWS, width // 2))


@dataclass(frozen=True)
class _Base:
    """F, and M without picks."""

    pool_fisher: Tensor
    prior: Tensor | None
    regularization: float

    def inverse(self, inside: Blocks, whole: bool = False) -> _Inverse:
        """M^{-1} with these images inside; `whole`: not by its low rank."""
        k, prior = len(self.pool_fisher), None
        most = int(LOW_RANK * k) - len(inside) * inside.rows
        if not whole and most >= 0:
            none = self.pool_fisher[:0]
            prior = none if self.prior is None else _low_rank_rows(self.prior, most)
        if prior is not None:
            rows = torch.cat([prior, inside.row_vectors()]) / math.sqrt(self.regularization)
            gram = rows @ rows.T
            gram.diagonal().add_(1)
            T = torch.linalg.solve_triangular(self.cholesky(gram), rows, upper=False)
            return _Inverse(self.regularization, None, T)
        M = torch.zeros_like(self.pool_fisher) if self.prior is None else self.prior.clone()
        M.diagonal().add_(self.regularization)
        for _, rows in inside.row_vector_chunks():
            M.addmm_(rows.T, rows)
        L = self.cholesky(M)
        del M
        identity = torch.eye(k, dtype=L.dtype, device=L.device)
        root = torch.linalg.solve_triangular(L, identity, upper=False)
        return _Inverse(self.regularization, root, root[:0])

    def cholesky(self, matrix: Tensor) -> Tensor:
        factor, info = torch.linalg.cholesky_ex(matrix)
        if info.item() or not bool(factor.diagonal().isfinite().all()):
            raise self.no_solution("M is not positive definite")
        return factor

    def objective(self, inside: Blocks) -> float:
        """tr(M^{-1} F) with these images inside."""
        root = self.inverse(inside, whole=True).root
        assert root is not None
        return float(((root @ self.pool_fisher) * root).sum())

    def finite(self, score: float) -> float:
        if not math.isfinite(score):
            raise self.no_solution(f"the best candidate's score is {score}")
        return score

    def no_solution(self, what: str) -> RunError:
        return RunError(
            f"selection stops: {what} with a lambda of {self.regularization:g}; raise that, by "
            "regularization, or lower oversampling"
        )


class _Inverse:
    """M^{-1} = root^T (1 - T^T S T) root, M = lambda 1 + prior + the picks' information.

    root: (k, k), lower triangular, M at the start is (root^T root)^{-1}; or None for lambda^{-1/2}
    times the identity. T: (r, k), and S its rows' signs: to add an image or to take it back appends
    R rows and changes nothing else.
    """

    def __init__(self, regularization: float, root: Tensor | None, T: Tensor) -> None:
        self.regularization = regularization
        self.root = root
        self.T = T
        self.signs = torch.ones_like(T[:, 0])

    def whitened(self, rows: Tensor) -> Tensor:
        """rows root^T (1 - T^T S T) of rows (m, k)."""
        rows = rows / math.sqrt(self.regularization) if self.root is None else rows @ self.root.T
        return rows.addmm_((rows @ self.T.T) * self.signs, self.T, alpha=-1)

    def times_root(self, rows: Tensor) -> Tensor:
        """rows root, the other half of rows M^{-1}."""
        return rows / math.sqrt(self.regularization) if self.root is None else rows @ self.root

    def times(self, rows: Tensor) -> Tensor:
        """rows M^{-1}."""
        return self.times_root(self.whitened(rows))

    def change(self, whitened: Tensor, sign: int) -> None:
        """Subtracts sign W^T W from M^{-1}, W = `times_root` of these rows."""
        self.T = torch.cat([self.T, whitened])
        self.signs = torch.cat([self.signs, torch.full_like(whitened[:, 0], sign)])


def _low_rank_rows(information: Tensor, most: int) -> Tensor | None:
    """X (r, k) with X^T X the matrix but for rounding, by a Cholesky factorization with pivots;
    None if r would be above `most`."""
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


class _Updated:
    """What is computed once and then updated, as long as it has not drifted."""

    base: _Base
    objective: float
    tolerated = DRIFT
    careful = False
    just_computed = True

    def accepts(self, drift: float) -> bool:
        """Whether it is as small as computing anew, and then carefully, would make it. Raises
        RunError where that leaves too few digits."""
        if drift <= self.tolerated:
            return True
        if not self.just_computed:
            return False
        if not self.careful:
            self.careful = True
            return False
        if not drift <= LOST:
            raise self.base.no_solution(f"M^-1 is known to {drift:.0e} only")
        self.tolerated = 10 * drift
        return True

    def accepts_scores(self, scores: Tensor, best: float) -> bool:
        """No score is below 0 but by as much as it is wrong, others by as much as that."""
        wrong = max(0.0, -float(scores.nan_to_num(-torch.inf, torch.inf).min()))
        scale = max(best, 0.0) + NEGLIGIBLE / DRIFT * abs(self.objective)
        return wrong == 0 or (scale > 0 and self.accepts(wrong / scale))

    def least(self, rises: Tensor, images: Tensor, positions: Tensor) -> int | None:
        """The image of the least rise, of equal ones that of the lowest position; None if the rises
        have drifted. NaN is none: what is left of M is definite but for rounding, so that its rise
        can't be told from infinity."""
        rises = rises.where(~rises.isnan(), torch.inf)
        least = self.base.finite(float(rises.min()))
        if not self.accepts_scores(rises, least):
            return None
        equal = images[(rises <= least + TIE * abs(least)).cpu()]
        return int(equal[positions[equal].argmin()])


class _Design(_Updated):
    """A set of candidates, M^{-1} with them inside, and every candidate's A and B."""

    def __init__(self, candidates: Blocks, base: _Base, inside: list[int] | None = None) -> None:
        self.candidates = candidates
        self.base = base
        self.inside = inside or []
        self.careful = bool(inside)
        self.recompute()
        self.objective = self.at_first = self._objective()

    def recompute(self) -> None:
        """M^{-1}, A and B from scratch."""
        self.inverse = self.base.inverse(self._blocks_inside(), whole=self.careful)
        images, rows = len(self.candidates), self.candidates.rows
        self.A = self.base.pool_fisher.new_empty(images, rows, rows)
        self.B = torch.empty_like(self.A)
        for part, A, B in self._careful_forms() if self.careful else self._forms():
            self.A[part], self.B[part] = A, B
            if not bool(A.isfinite().all() and B.isfinite().all()):
                raise RunError(
                    "selection can't start: the candidates' gradients, the pool's Fisher "
                    "information or the prior are not finite"
                )
        self.just_computed = True

    def _forms(self) -> Iterator[tuple[slice, Tensor, Tensor]]:
        inverse, blocks = self.inverse, self.candidates
        sizes = blocks.factors.shape[2], blocks.embeddings.shape[1]
        weighted = halve(inverse.times(inverse.times(self.base.pool_fisher).T), *sizes)
        if inverse.root is None:
            lengths = 1 / self.base.regularization
            columns = inverse.T.T * math.sqrt(lengths)
            for part, chunk in blocks.chunks(for_squares=True):
                along = chunk.times(columns)
                A = torch.baddbmm(chunk.grams(), along, along.mT, beta=lengths, alpha=-1)
                yield part, A, chunk.quadratic_forms(weighted)
            return
        whole = halve(inverse.root.T @ inverse.root, *sizes)
        for part, chunk in blocks.chunks(for_squares=True):
            yield part, chunk.quadratic_forms(whole), chunk.quadratic_forms(weighted)

    def _careful_forms(self) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """The same of whitened vectors: B of a candidate that M knows well is then not what is left
        of numbers larger by the square of the information over lambda. It takes k / q as long."""
        root = self.inverse.root
        assert root is not None
        half = _upper_half(root @ self.base.pool_fisher @ root.T)
        upper = root.T.contiguous()
        for part, vectors in self.candidates.row_vector_chunks():
            rows = _times_triangle(vectors, upper)
            weighted = _times_triangle(rows, half)
            rows, weighted = (x.unflatten(0, (-1, self.candidates.rows)) for x in (rows, weighted))
            B = torch.bmm(weighted, rows.mT)
            yield part, torch.bmm(rows, rows.mT), B + B.mT

    def _blocks_inside(self) -> Blocks:
        return self.candidates[torch.tensor(self.inside, dtype=torch.int64)]

    def _objective(self) -> float:
        F, inverse = self.base.pool_fisher, self.inverse
        if inverse.root is None:
            along = float((inverse.T @ F * inverse.T).sum())
            return (float(F.trace()) - along) / self.base.regularization
        return float((inverse.root @ F * inverse.root).sum())

    def final_objective(self) -> float:
        """tr(M^{-1} F), anew if little is left of what it was."""
        if self.objective > CANCELLED * self.at_first:
            return self.objective
        return self.base.objective(self._blocks_inside())

    def best_to_add(self) -> int | None:
        """Of the candidates not inside, the one whose addition lowers the objective most; None if
        the scores have drifted."""
        scores = traces(self.A, self.B, 1)
        left = scores.clone()
        left[self.inside] = -torch.inf
        best = float(left.max())
        if not self.accepts_scores(scores, best):
            return None
        self.base.finite(best)
        return int((left >= best - TIE * abs(best)).nonzero()[0])

    def best_to_remove(self, positions: Tensor) -> int | None:
        """Of the candidates inside, the one whose removal raises the objective least, of equal
        ones that of the lowest position; None if the scores have drifted."""
        inside = torch.tensor(self.inside)
        return self.least(traces(-self.A[inside], self.B[inside], 1), inside, positions)

    def add_best(self) -> None:
        while (image := self.best_to_add()) is None or not self.change(image, +1):
            self.recompute()

    def remove_best(self, positions: Tensor) -> None:
        while (image := self.best_to_remove(positions)) is None or not self.change(image, -1):
            self.recompute()

    def change(self, image: int, sign: int) -> bool:
        """M + sign I(x): rank R updates of M^{-1}, and of every A and B. Or nothing, and False, if
        those of this image have drifted: another one may be the best."""
        vectors = self.candidates[image : image + 1].row_vectors()
        half = self.inverse.whitened(vectors)
        # Rows, (R, k): a product of a column-major matrix with a few columns is 40 times slower.
        W = self.inverse.times_root(half)
        FW = W @ self.base.pool_fisher
        A, B = W @ vectors.T, W @ FW.T
        # M^{-1} went through the same changes as A and B, with roundings of its own.
        of_B = B.norm() + NEGLIGIBLE * abs(self.objective) + torch.finfo(B.dtype).tiny
        drift = max(
            float((self.A[image] - A).norm() / (1 + A.norm())),
            float((self.B[image] - B).norm() / of_B),
        )
        if not self.accepts(drift):
            return False
        self.just_computed = False
        # (1 + sign A)^{-1} = L^{-T} L^{-1}; with L^{-1} W for W, M^{-1} changes by -sign W^T W.
        L = self.base.cholesky(torch.eye(len(A)).to(A) + sign * A)
        half, W, FW = (torch.linalg.solve_triangular(L, x, upper=False) for x in (half, W, FW))
        self.objective -= sign * float((W * FW).sum())
        Z = self.inverse.times(FW) - (sign / 2) * (W @ FW.T) @ W
        both = torch.cat([W, Z]).T.contiguous()
        products = self.A.new_empty(len(self.candidates), len(W), 2 * len(W))
        for part, chunk in self.candidates.chunks():
            products[part] = chunk.times(both)
        size = max(1, CHUNK_BYTES[self.A.device.type] // (8 * self.A[0].numel()))
        parts = (x.split(size) for x in (self.A, self.B, products))
        for one_A, one_B, PQ in zip(*parts, strict=True):
            P, Q = PQ.split(len(W), dim=2)
            one_A.baddbmm_(P, P.mT, alpha=-sign)
            cross = torch.bmm(P, Q.mT)
            one_B.sub_(cross, alpha=sign).sub_(cross.mT, alpha=sign)
        (self.inside.append if sign > 0 else self.inside.remove)(image)
        self.inverse.change(half, sign)
        if len(self.inverse.T) > max(LOW_RANK * self.candidates.width, ROWS_LEAST):
            del self.inverse
            self.inverse = self.base.inverse(self._blocks_inside(), whole=True)
        return True


class _Removal(_Updated):
    """Images that are taken back again, of few rows beside k.

    With X their V_x, one below the other, M_0 = lambda 1 + prior and G = X M_0^{-1} X^T, kept are
    H = (1 + G)^{-1} and B = X M^{-1} F M^{-1} X^T. To take x back raises the objective by
    tr(H_xx^{-1} B_xx). H_xx is 1 - V_x M^{-1} V_x^T without that subtraction, of which lambda over
    the information would be left where nothing else inside resembles x.
    """

    careful = True

    def __init__(self, images: Blocks, base: _Base, inside: list[int]) -> None:
        self.images = images
        self.base = base
        self.inside = inside
        inverse = base.inverse(images[:0], whole=True)
        half = inverse.whitened(images.row_vectors())
        self.X_over_M0 = inverse.times_root(half)
        self.one_plus_G = half @ half.T
        self.one_plus_G.diagonal().add_(1)
        self.recompute()
        self.objective = self.final_objective()

    def recompute(self) -> None:
        """H and B from scratch."""
        rows = self._rows(self.inside)
        L = self.base.cholesky(self.one_plus_G[rows][:, rows])
        X_over_M = torch.cholesky_solve(self.X_over_M0[rows], L)
        self.H, self.B = torch.zeros_like(self.one_plus_G), torch.zeros_like(self.one_plus_G)
        self.H[rows[:, None], rows] = torch.cholesky_inverse(L)
        self.B[rows[:, None], rows] = X_over_M @ self.base.pool_fisher @ X_over_M.T
        self.just_computed = True

    def _rows(self, images: list[int]) -> Tensor:
        R = self.images.rows
        rows = torch.tensor(images)[:, None] * R + torch.arange(R)
        return rows.flatten().to(self.one_plus_G.device)

    def best_to_remove(self, positions: Tensor) -> int | None:
        """As of `_Design`."""
        inside = torch.tensor(self.inside)
        rows = self._rows(self.inside).view(len(inside), -1)
        pairs = rows[:, :, None], rows[:, None]
        return self.least(traces(self.H[pairs], self.B[pairs], 0), inside, positions)

    def remove_best(self, positions: Tensor) -> None:
        while (image := self.best_to_remove(positions)) is None or not self.remove(image):
            self.recompute()

    def remove(self, image: int) -> bool:
        """Rank R updates of H and B; or nothing, and False, if those of this image have drifted."""
        rows, inside = self._rows([image]), self._rows(self.inside)
        H, B = self.H[:, rows], self.B[:, rows]
        product = self.one_plus_G @ H
        product.index_put_((rows,), -torch.eye(len(rows)).to(H), accumulate=True)
        V_over_M = H.T @ self.X_over_M0
        of_B = V_over_M @ self.base.pool_fisher @ V_over_M.T
        smallest = torch.finfo(H.dtype).tiny
        drift = max(
            float(product[inside].norm()),
            float((B[rows] - of_B).norm() / of_B.norm().clamp_min(smallest)),
        )
        if not self.accepts(drift):
            return False
        self.just_computed = False
        P = torch.cholesky_solve(H.T, self.base.cholesky(H[rows])).T
        Q = B - P @ B[rows] / 2
        self.H -= P @ H.T
        PQ = P @ Q.T
        self.B -= PQ + PQ.T
        for matrix in (self.H, self.B):
            matrix[rows] = 0
            matrix[:, rows] = 0
        self.inside.remove(image)
        return True

    def final_objective(self) -> float:
        return self.base.objective(self.images[torch.tensor(self.inside)])


def traces(A: Tensor, B: Tensor, shift: float) -> Tensor:
    """tr((shift + A)^{-1} B) of symmetric matrices, each (N, R, R): (N,); NaN if not definite.

    By eliminating all candidates together, column for column: LAPACK takes one small matrix after
    the other, and three times as long."""

    def columns(matrices: Tensor) -> Tensor:
        return matrices.permute(1, 2, 0).clone(memory_format=torch.contiguous_format)

    size = max(1, CHUNK_BYTES[A.device.type] // (8 * A.shape[1] ** 2))
    parts = zip(A.split(size), B.split(size), strict=True)
    return torch.cat([_traces_of_columns(columns(a), columns(b), shift) for a, b in parts])


def _traces_of_columns(A: Tensor, B: Tensor, shift: float) -> Tensor:
    """The same of matrices (R, R, N), which are overwritten: with shift + A = L D L^T, the trace
    is the sum of (L^{-1} B L^{-T})_jj / D_jj."""
    A.diagonal().add_(shift)
    trace = torch.zeros_like(A[0, 0])
    for j in range(len(A)):
        pivot = torch.where(A[j, j] > 0, A[j, j], torch.nan)
        trace += B[j, j] / pivot
        column = A[j + 1 :, j] / pivot
        rest = B[j + 1 :, j] - column * (B[j, j] / 2)
        A[j + 1 :, j + 1 :].addcmul_(column[:, None], A[j, j + 1 :][None], value=-1)
        B[j + 1 :, j + 1 :].addcmul_(column[:, None], rest[None], value=-1)
        B[j + 1 :, j + 1 :].addcmul_(rest[:, None], column[None], value=-1)
    return trace


def _complete(upper: Tensor) -> None:
    """Makes the matrix symmetric by what is above its diagonal."""
    upper.triu_().add_(upper.triu(1).T)


def halve(symmetric: Tensor, E: int, D: int) -> Tensor:
    """Overwrites S (k, k) by what `quadratic_forms` multiplies with, so that it does half as much.

    Of each pair of blocks of the last layer and of the block of other weights, a triangular matrix
    stands for all: v S v^T = 2 v U v^T with U upper triangular.
    """
    for a in range(E):
        for b in range(a, E):
            block = symmetric[a * D : (a + 1) * D, b * D : (b + 1) * D]
            block.copy_(_upper_half(block + block.T))
    others = symmetric[E * D :, E * D :]
    others.copy_(_upper_half(others))
    return symmetric


def _upper_half(symmetric: Tensor) -> Tensor:
    """Upper triangular U with U + U^T the matrix."""
    half = symmetric.triu()
    half.diagonal().div_(2)
    return half


def _tiles(width: int) -> Iterator[tuple[int, int]]:
    for start in range(0, width, TILE):
        yield start, min(start + TILE, width)


def _times_triangle(rows: Tensor, upper: Tensor) -> Tensor:
    """rows @ upper, of an upper triangular matrix, without most of its zeros."""
    product = torch.empty_like(rows)
    for start, end in _tiles(upper.shape[1]):
        torch.mm(rows[:, :end], upper[:end, start:end], out=product[:, start:end])
    return product


def _add_triangle(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Adds left^T right, known to be symmetric, to the upper triangle of total."""
    for start, end in _tiles(total.shape[1]):
        total[:end, start:end].addmm_(left[:, :end].T, right[:, start:end])
