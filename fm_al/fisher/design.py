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
is a test), and F, which they are products of. A and B are what is left of their first values after
as many subtractions as there are picks, M is as ill conditioned as the largest eigenvalue of the
picks' information over lambda, and the best candidates' scores differ by little.
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
DRIFT = 1e-7  # of A and B, relatively, above which they are computed anew
LOST = 1e-3  # of them when just computed, above which M is too ill conditioned
SINGULAR = 1e-8  # what must be left of M, relatively, when an image is taken back
NEGLIGIBLE = 1e-12  # of the objective, what scores may differ by for no reason
TILE = 256  # columns at a time of a triangular product
CHUNK_BYTES = {"cpu": 2**23, "cuda": 2**28}  # of what is computed for some candidates at a time
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

    def row_vectors(self, image: int) -> Tensor:
        """V_x of one image: (R, k) float64."""
        ((_, one),) = self[image : image + 1].chunks()
        last = (one.factors[0][:, :, None] * one.embeddings[0]).flatten(1)
        return one.scales[0] * torch.cat([last, one.dense[0]], dim=1)


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
        # By its transpose: a BLAS takes a few long rows faster than a few columns.
        dense = (matrix[E * D :].T @ self.dense.flatten(0, 1).T).T
        return product.add_(dense.view_as(product)).mul_(self.scales)

    def quadratic_forms(self, matrix: Tensor) -> Tensor:
        """V_x matrix V_x^T of each image, (n, R, R), of a symmetric matrix (k, k)."""
        n, D = self.embeddings.shape
        E, q = self.factors.shape[2], self.dense.shape[2]
        last = matrix[: E * D, : E * D].view(E, D, E, D)
        mixed = matrix[: E * D, E * D :].view(E, D, q)
        # V_x matrix V_x^T = E_x inner E_x^T + half + half^T
        inner = matrix.new_empty(n, E, E)
        for a in range(E):
            for b in range(a, E):
                triangle = _upper_half(last[a, :, b] + last[b, :, a])
                products = _times_triangle(self.embeddings, triangle)
                inner[:, a, b] = (products * self.embeddings).sum(dim=1)
                inner[:, b, a] = inner[:, a, b]
        half = _times_triangle(self.dense.flatten(0, 1), _upper_half(matrix[E * D :, E * D :]))
        half = half.view_as(self.dense)
        for e in range(E):
            half.addcmul_(self.factors[:, :, e, None], (self.embeddings @ mixed[e])[:, None])
        forms = torch.bmm(half, self.dense.mT)
        forms = forms + forms.mT
        forms += torch.bmm(torch.bmm(self.factors, inner), self.factors.mT)
        return forms.mul_(self.scales.square())

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
    return {
        f"{candidates:,} candidates' two {rows} x {rows} matrices": 16 * candidates * rows**2,
        f"six {width:,} x {width:,} matrices": 6 * 8 * width**2,
        f"{chunk:,} candidates in float64": 4 * 8 * chunk * _numbers(rows, dimensions, dense_width),
    }


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
            "of every image, so there is no scale for lambda; set regularization_scale=absolute"
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
    n are left; where lambda is a millionth of the information or less, taking back runs out of
    digits. Of scores that are equal to a millionth the lowest position's goes first. Raises
    RunError where M is singular or something is not finite, ValueError for what can't be.
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
    candidates = candidates.scaled(math.sqrt(scale))
    base = _Base(pool_fisher, prior, regularization)
    forward = _Design(candidates, base)
    for _ in range(min(n + math.floor(oversampling * n + 0.5), len(candidates))):
        forward.add(forward.best_to_add())
    if len(forward.inside) == n:
        return Selection(torch.tensor(forward.inside), forward.computed_objective())
    picked = torch.tensor(sorted(forward.inside))
    order = forward.inside
    del forward
    backward = _Design(candidates[picked], base, inside=list(range(len(picked))))
    while len(backward.inside) > n:
        backward.remove(backward.best_to_remove())
    kept = {int(picked[position]) for position in backward.inside}
    picks = torch.tensor([x for x in order if x in kept])
    return Selection(picks, backward.computed_objective())


@dataclass(frozen=True)
class _Base:
    """F, and M without picks."""

    pool_fisher: Tensor
    prior: Tensor | None
    regularization: float

    def information(self) -> Tensor:
        """lambda 1 + prior, (k, k)."""
        if self.prior is None:
            information = torch.zeros_like(self.pool_fisher)
        else:
            information = self.prior.clone()
        information.diagonal().add_(self.regularization)
        return information


class _Design:
    """A set of candidates, M^{-1} with them inside, and every candidate's A and B."""

    def __init__(self, candidates: Blocks, base: _Base, inside: list[int] | None = None) -> None:
        self.candidates = candidates
        self.base = base
        self.inside = inside or []
        self.tolerated = DRIFT
        self.recompute()

    def recompute(self) -> None:
        """M^{-1}, A and B from scratch."""
        information = self.base.information()
        if self.inside:
            inside = [self.candidates[torch.tensor(self.inside)]]
            information += fisher_sum(inside, len(information), information.device)
        factor, info = torch.linalg.cholesky_ex(information)
        del information
        if info.item() or not bool(factor.diagonal().isfinite().all()):
            raise RunError(self._no_solution("M is not positive definite"))
        self.inverse = torch.cholesky_inverse(factor)
        del factor
        images, rows = len(self.candidates), self.candidates.rows
        self.A = self.inverse.new_empty(images, rows, rows)
        self.B = torch.empty_like(self.A)
        weighted = self.inverse @ self.base.pool_fisher @ self.inverse
        for part, chunk in self.candidates.chunks(for_squares=True):
            self.A[part] = chunk.quadratic_forms(self.inverse)
            self.B[part] = chunk.quadratic_forms(weighted)
            if not bool(self.A[part].isfinite().all() and self.B[part].isfinite().all()):
                raise RunError(
                    "selection can't start: the candidates' gradients, the pool's Fisher "
                    "information or the prior are not finite"
                )
        self.objective = self.computed_objective()
        self.just_computed = True

    def computed_objective(self) -> float:
        """tr(M^{-1} F)."""
        return float((self.inverse * self.base.pool_fisher).sum())

    def best_to_add(self) -> int:
        """Of the candidates not inside, the one whose addition lowers the objective most."""
        scores = traces(self.A, self.B, +1)
        scores[self.inside] = -torch.inf
        best = self._finite(scores.max())
        return int((scores >= best - TIE * abs(best)).nonzero()[0])

    def best_to_remove(self) -> int:
        """Of the candidates inside, the one whose removal raises the objective least."""
        inside = torch.tensor(self.inside)
        rises = traces(self.A[inside], self.B[inside], -1)
        least = self._finite(rises.min())
        return int(inside[(rises <= least + TIE * abs(least)).cpu()].min())

    def add(self, image: int) -> None:
        self._change(image, +1)
        self.inside.append(image)

    def remove(self, image: int) -> None:
        self._change(image, -1)
        self.inside.remove(image)

    def _change(self, image: int, sign: int) -> None:
        """M + sign I(x): rank R updates of M^{-1}, and of every A and B."""
        vectors = self.candidates.row_vectors(image)
        # Rows, (R, k): a product of a column-major matrix with a few columns is 40 times slower.
        W = vectors @ self.inverse
        FW = W @ self.base.pool_fisher
        A, B = W @ vectors.T, W @ FW.T
        # M^{-1} went through the same changes as A and B, with roundings of its own.
        of_B = B.norm() + NEGLIGIBLE * abs(self.objective) + torch.finfo(B.dtype).tiny
        drift = max(
            float((self.A[image] - A).norm() / (1 + A.norm())),
            float((self.B[image] - B).norm() / of_B),
        )
        if not drift <= self.tolerated and not self.just_computed:
            self.recompute()
            self._change(image, sign)
            return
        if not drift <= LOST:
            raise RunError(self._no_solution(f"M^-1 is known to {drift:.0e} only"))
        if self.just_computed:
            self.tolerated = max(self.tolerated, 10 * drift)  # computing anew does no better
        self.just_computed = False
        # (1 + sign A)^{-1} = L^{-T} L^{-1}; with L^{-1} W for W, M^{-1} changes by -sign W^T W.
        L, info = torch.linalg.cholesky_ex(torch.eye(len(A)).to(A) + sign * A)
        if info.item() or float(L.diagonal().min()) ** 2 < SINGULAR:
            raise RunError(self._no_solution("M becomes singular"))
        W, FW = (torch.linalg.solve_triangular(L, rows, upper=False) for rows in (W, FW))
        self.objective -= sign * float((W * FW).sum())
        Z = FW @ self.inverse - (sign / 2) * (W @ FW.T) @ W
        both = torch.cat([W, Z]).T.contiguous()
        for part, chunk in self.candidates.chunks():
            P, Q = chunk.times(both).split(len(W), dim=2)
            PQ = torch.bmm(P, Q.mT)
            self.A[part].baddbmm_(P, P.mT, alpha=-sign)
            self.B[part].sub_(PQ + PQ.mT, alpha=sign)
        self.inverse.addmm_(W.T, W, alpha=-sign)

    def _finite(self, score: Tensor) -> float:
        if not math.isfinite(score):
            raise RunError(self._no_solution(f"the best candidate's score is {float(score)}"))
        return float(score)

    def _no_solution(self, what: str) -> str:
        return (
            f"selection stops with {len(self.inside)} images: {what} with "
            f"regularization={self.base.regularization:g}; raise that, or lower oversampling"
        )


def traces(A: Tensor, B: Tensor, sign: int) -> Tensor:
    """tr((1 + sign A)^{-1} B) of symmetric matrices, each (N, R, R): (N,); NaN if not definite.

    By eliminating all candidates together, column for column: LAPACK takes one small matrix after
    the other, and three times as long."""

    def columns(matrices: Tensor) -> Tensor:
        return matrices.permute(1, 2, 0).clone(memory_format=torch.contiguous_format)

    size = max(1, CHUNK_BYTES[A.device.type] // (8 * A.shape[1] ** 2))
    parts = zip(A.split(size), B.split(size), strict=True)
    return torch.cat([_traces_of_columns(columns(a), columns(b), sign) for a, b in parts])


def _traces_of_columns(A: Tensor, B: Tensor, sign: int) -> Tensor:
    """The same of matrices (R, R, N), which are overwritten: with 1 + sign A = L D L^T, the trace
    is the sum of (L^{-1} B L^{-T})_jj / D_jj."""
    A.mul_(sign).diagonal().add_(1)
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
