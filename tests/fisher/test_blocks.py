"""Blocks and the products with them are those of the matrices that they stand for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fm_al.fisher import chunks, triangles
from fm_al.fisher.blocks import Blocks, halve
from fm_al.fisher.design import greedy_design
from fm_al.fisher.factors import contrasts, fisher_factors
from fm_al.fisher.traces import traces
from tests import oracle
from tests.fisher.problems import (
    WEIGHTINGS,
    Problem,
)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0, 1e3, 1e6])
@pytest.mark.parametrize("classes", [2, 3, 10, 20])
def test_factors_hold_the_information_of_the_logits(
    classes: int, scale: float, weighting: str
) -> None:
    logits = torch.randn(20, classes, generator=torch.Generator().manual_seed(1)) * scale
    factors = fisher_factors(logits, weighting)
    assert factors.shape == (20, classes - 1, classes)
    for one, R in zip(logits.double().numpy(), factors.numpy(), strict=True):
        expected = oracle.information(np.eye(classes), one, weighting)
        np.testing.assert_allclose(R.T @ R, expected, atol=1e-13, rtol=1e-9)
    assert factors.sum(dim=2).abs().max() < 1e-12


def test_factors_of_a_rare_class_keep_their_digits() -> None:
    """p (1 - p) of a probability of 1e-12 is not lost in 1 - p, whichever class it is."""
    for position in range(3):
        logits = torch.zeros(1, 3, dtype=torch.float64)
        logits[0, position] = np.log(2e-12)
        R = fisher_factors(logits)[0]
        p = logits.softmax(dim=1)[0, position]
        assert float((R.T @ R)[position, position]) == pytest.approx(float(p), rel=1e-9)


def test_contrasts_are_an_orthonormal_basis_of_what_sums_to_zero() -> None:
    for classes in (2, 3, 10):
        basis = contrasts(classes)
        torch.testing.assert_close(basis.T @ basis, torch.eye(classes - 1, dtype=torch.float64))
        torch.testing.assert_close(basis.sum(dim=0), torch.zeros(classes - 1, dtype=torch.float64))


@pytest.mark.parametrize("tile", [1, 3, 256])
@pytest.mark.parametrize("chunk_bytes", [1, 500, 10**6])
@pytest.mark.parametrize("sizes", [(4, 5, 7), (2, 3, 0), (3, 0, 4), (3, 1, 1)])
def test_structured_products_are_those_of_the_whole_matrix(
    sizes: tuple[int, int, int], chunk_bytes: int, tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triangles, "TILE", tile)
    monkeypatch.setitem(chunks.CHUNK_BYTES, "cpu", chunk_bytes)
    monkeypatch.setattr(chunks, "SQUARES_LEAST", 1)
    blocks = Problem.random(11, *sizes).blocks.scaled(0.3)
    V = blocks.row_vectors().view(11, -1, blocks.width)
    assert V.shape == (11, sizes[0] - 1, blocks.width)
    kronecker = (
        torch.stack(
            [
                torch.kron(0.3 * E, h[None].double())
                for E, h in zip(blocks.factors.contiguous(), blocks.embeddings, strict=True)
            ]
        )
        if sizes[1]
        else torch.empty(11, sizes[0] - 1, 0, dtype=torch.float64)
    )
    torch.testing.assert_close(V, torch.cat([kronecker, 0.3 * blocks.dense.double()], dim=2))

    torch.testing.assert_close(blocks.fisher(), (V.mT @ V).mean(dim=0))
    matrix = torch.randn(blocks.width, 5, dtype=torch.float64)
    symmetric = matrix @ matrix.T
    torch.testing.assert_close(blocks.times(matrix), V @ matrix)
    columns, images = blocks.columns(matrix), 0
    for part, chunk in blocks.chunks():
        torch.testing.assert_close(chunk.times(columns), V[part] @ matrix)
        torch.testing.assert_close(chunk.grams(), V[part] @ V[part].mT)
        torch.testing.assert_close(chunk.row_vectors(), V[part])
        sizes = blocks.factors.shape[2], blocks.embeddings.shape[1]
        torch.testing.assert_close(
            chunk.quadratic_forms(halve(symmetric.clone(), *sizes)),
            V[part] @ symmetric @ V[part].mT,
        )
        images += len(chunk.factors)
    assert images == 11


def test_half_precision_keeps_the_picks() -> None:
    for seed in range(5):
        blocks = Problem.random(200, 4, 6, 20, seed).blocks
        tiny = replace(blocks, dense=blocks.dense * 1e-6, factors=blocks.factors * 1e-6).scaled(1e6)
        exact = greedy_design(blocks, 20, blocks.fisher()).picks.tolist()
        half = tiny.in_half()
        assert half.dense.dtype == torch.float16
        torch.testing.assert_close(half.fisher(), blocks.fisher(), rtol=1e-2, atol=1e-3)
        assert greedy_design(half, 20, half.fisher()).picks.tolist() == exact


def test_half_precision_without_other_weights() -> None:
    blocks = Problem.random(5, 3, 4, 0).blocks
    assert torch.equal(blocks.in_half().fisher(), blocks.fisher())


def test_half_precision_of_images_without_gradients() -> None:
    blocks = Blocks.of_dense(torch.zeros(3, 2, 4)).in_half()
    assert blocks.dense.isfinite().all()
    assert blocks.scales.tolist() == [1, 1, 1]


@pytest.mark.parametrize("size", [1, 2, 9])
@pytest.mark.parametrize("sign", [1, -1])
def test_traces_are_those_of_inverses(
    size: int, sign: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(chunks.CHUNK_BYTES, "cpu", 7 * 8 * size**2)
    root = torch.randn(20, size, size, dtype=torch.float64)
    A, B = root @ root.mT, torch.randn_like(root)
    A = A / A.flatten(1).norm(dim=1)[:, None, None] * 0.9
    B = B + B.mT
    before = A.clone(), B.clone()
    expected = (torch.linalg.inv(torch.eye(size) + sign * A) * B).sum(dim=(1, 2))
    torch.testing.assert_close(traces(sign * A, B, 1), expected)
    definite = torch.eye(size) + sign * A
    torch.testing.assert_close(traces(definite, B, 0), expected)
    assert torch.equal(A, before[0])
    assert torch.equal(B, before[1])
    assert traces(-2 * torch.eye(size, dtype=torch.float64)[None], B[:1], 1).isnan().all()
