"""The scale of the information and its largest eigenvalue."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from fm_al.errors import RunError
from fm_al.fisher.eigenvalues import information_scale, largest_eigenvalue
from tests.fisher.problems import (
    Problem,
)


def test_the_scale_of_information_is_its_mean_eigenvalue() -> None:
    fisher = Problem.random(20, 4, 5, 6).blocks.fisher()
    expected = float(torch.linalg.eigvalsh(fisher).mean())
    assert information_scale(fisher) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_a_pool_that_has_no_scale_is_an_error(value: float) -> None:
    with pytest.raises(RunError, match=f"information is {value}: ") as caught:
        information_scale(value * torch.ones(3, 3, dtype=torch.float64))
    assert "\n" not in str(caught.value)


def test_a_network_that_is_sure_of_all_has_no_scale() -> None:
    certain = Problem.random(6, 3, 4, 0, logit_scale=1e8)
    with pytest.raises(RunError, match="sure of every image"):
        information_scale(certain.blocks.fisher())


def spectrum(kind: str, k: int) -> Tensor:
    """Eigenvalues, (k,) float64."""
    steps = torch.arange(k, dtype=torch.float64)
    return {
        "steep": 10**-steps,
        "slow": 1 / (1 + 0.01 * steps),
        "a close pair": torch.cat([torch.tensor([1.0, 1 - 1e-6]), 0.5 * torch.ones(k - 2)]),
        "many alike": torch.where(steps < k // 2, 1.0, 0.99),
        "identity": torch.ones(k),
        "tiny": 1e-200 / (1 + steps),
        "zero": torch.zeros(k),
    }[kind].double()


@pytest.mark.parametrize("k", [2, 5, 300])
@pytest.mark.parametrize(
    "kind", ["steep", "slow", "a close pair", "many alike", "identity", "tiny", "zero"]
)
def test_the_largest_eigenvalue_is_that_of_lapack(kind: str, k: int) -> None:
    generator = torch.Generator().manual_seed(1)
    values = spectrum(kind, k)
    root = torch.randn(k, k, generator=generator, dtype=torch.float64)
    for basis in (torch.linalg.qr(root).Q, torch.eye(k, dtype=torch.float64).flip(0)):
        matrix = (basis * values) @ basis.T
        expected = float(torch.linalg.eigvalsh(matrix)[-1])
        assert largest_eigenvalue(matrix) == pytest.approx(expected, rel=1e-3, abs=1e-300)


def test_the_largest_eigenvalue_leaves_the_random_state_alone() -> None:
    fisher = Problem.random(20, 4, 5, 6).blocks.fisher()
    state = torch.get_rng_state()
    assert largest_eigenvalue(fisher) == largest_eigenvalue(fisher)
    assert torch.equal(torch.get_rng_state(), state)
