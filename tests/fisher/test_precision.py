"""Float64 suffices: small lambdas, drift over thousands of picks, ill-conditioned pools."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from fm_al.errors import RunError
from fm_al.fisher import criterion, removal
from fm_al.fisher.blocks import Blocks, Chunk
from fm_al.fisher.candidate_scores import CandidateScores
from fm_al.fisher.criterion import Criterion
from fm_al.fisher.design import greedy_design
from fm_al.fisher.eigenvalues import information_scale
from fm_al.fisher.precision import DriftControl
from fm_al.fisher.removal import Removal
from tests import oracle
from tests.fisher.problems import (
    NASTY,
    Problem,
    assert_same_picks,
    ill_conditioned,
    nasty,
)

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("kind", NASTY)
@pytest.mark.parametrize("rho", [1e-2, 1e-4, 1e-6])
@pytest.mark.parametrize("oversampling", [0.0, 1.0])
def test_picks_at_small_lambda_are_the_exact_ones(
    kind: str, rho: float, oversampling: float
) -> None:
    """Of more rows than coordinates as well as of less, tiny n included."""
    for seed in range(8):
        generator = np.random.default_rng(seed)
        classes, dimensions, others, images, labelled = generator.integers(
            [2, 1, 0, 4, 0], [5, 4, 5, 11, 4]
        ).tolist()
        problem = nasty(kind, images + labelled, (classes, dimensions, others), seed)
        fisher = problem.blocks.fisher()
        if float(fisher.trace()) == 0:
            continue
        n = int(generator.integers(1, images + 1 if oversampling == 0 else images // 2 + 1))
        regularization = rho * information_scale(fisher)
        assert_same_picks(problem, n, labelled, regularization, oversampling)


@pytest.mark.parametrize("rows", [0, 2048])
@pytest.mark.parametrize("low_rank", [0.0, 0.5])
@pytest.mark.parametrize("kind", NASTY[3:])
def test_picks_at_small_lambda_whichever_way_is_taken(
    kind: str, low_rank: float, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Backward by the rows of the picks or not, forward by a low rank or not."""
    monkeypatch.setattr(removal, "REMOVAL_ROWS", rows)
    monkeypatch.setattr(criterion, "LOW_RANK", low_rank)
    for seed in range(3):
        problem = nasty(kind, 10, (3, 4, 4), seed)
        regularization = 1e-6 * information_scale(problem.blocks.fisher())
        assert_same_picks(problem, 3, 2, regularization, 1.0)


def drift(forward: CandidateScores) -> float:
    """The largest relative error of A, B and M^{-1}, beside those computed from scratch."""
    fresh = CandidateScores(forward.candidates, forward.criterion, list(forward.inside))

    def error(kept: Tensor, computed: Tensor) -> float:
        matrices = kept.reshape(-1, kept.shape[-2] * kept.shape[-1])
        expected = computed.reshape(matrices.shape)
        return float(((matrices - expected).norm(dim=1) / expected.norm(dim=1)).max())

    inverses = [
        one.inverse.times(torch.eye(forward.candidates.width, dtype=torch.float64))
        for one in (forward, fresh)
    ]
    return max(error(forward.A, fresh.A), error(forward.B, fresh.B), error(*inverses))


@pytest.mark.parametrize("regularization", [1.0, 1e-4])
def test_drift_is_small_after_thousands_of_picks(regularization: float) -> None:
    blocks = Problem.random(2500, 3, 6, 5).blocks
    forward = CandidateScores(blocks, Criterion(blocks.fisher(), None, regularization))
    for _ in range(2000):
        forward.add_best()
    assert drift(forward) < 1e-9


@pytest.mark.parametrize("rho", [1e-2, 1e-6])
def test_drift_is_small_after_a_thousand_picks_and_as_many_removals(rho: float) -> None:
    blocks = Problem.random(1200, 3, 6, 5).blocks
    fisher = blocks.fisher()
    objective = Criterion(fisher, None, rho * information_scale(fisher))
    everything = list(range(1000))
    backward = CandidateScores(blocks[:1000], objective, list(everything))
    while len(backward.inside) > 20:
        backward.remove_best(torch.tensor(everything))
    assert drift(backward) < 1e-7


@pytest.mark.parametrize("rho", [1e-2, 1e-6])
def test_drift_of_what_the_rows_of_the_picks_keep_is_small(rho: float) -> None:
    """Of 240 rows of 300 coordinates, half of which are twice the same."""
    problem = Problem.random(120, 3, 25, 250)
    blocks = problem.of(torch.arange(120) // 2).blocks
    fisher = blocks.fisher()
    objective = Criterion(fisher, None, rho * information_scale(fisher))
    positions = torch.arange(120)
    backward = Removal(blocks, objective, positions.tolist())
    while len(backward.inside) > 30:
        backward.remove_best(positions)
    kept = backward.H.clone(), backward.B.clone()
    backward.recompute()
    for one, computed in zip(kept, (backward.H, backward.B), strict=True):
        assert float((one - computed).norm() / computed.norm()) < 1e-7


@pytest.mark.parametrize("regularization", [1e-8, 1e-4, 1e4, 1e8])
@pytest.mark.parametrize("gradients", [1e-6, 1.0, 1e3])
def test_any_regularization_that_leaves_digits_will_do(
    regularization: float, gradients: float
) -> None:
    problem = Problem.random(40, 3, 4, 5)
    problem = replace(
        problem, embeddings=problem.embeddings * gradients, jacobian=problem.jacobian * gradients
    )
    blocks = problem.blocks
    fisher = blocks.fisher()
    selection = greedy_design(blocks, 20, fisher, regularization=regularization, oversampling=0.5)
    V = blocks.row_vectors().view(40, -1, blocks.width)
    objective = oracle.design_objective(
        selection.picks.tolist(),
        list((V.mT @ V).numpy()),
        fisher.numpy(),
        np.zeros((blocks.width, blocks.width)),
        1.0,
        regularization,
    )
    assert selection.objective == pytest.approx(objective, rel=1e-4)


def test_what_has_drifted_is_computed_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = Problem.random(40, 3, 4, 5).blocks
    undisturbed = greedy_design(blocks, 20, blocks.fisher()).picks.tolist()
    recomputed = []
    recompute = CandidateScores.recompute

    def counted(self: CandidateScores) -> None:
        recomputed.append(len(self.inside))
        recompute(self)

    monkeypatch.setattr(CandidateScores, "recompute", counted)
    forward = CandidateScores(blocks, Criterion(blocks.fisher(), None, 1.0))
    for _ in range(10):
        forward.add_best()
    forward.A *= 1 + 1e-6
    for _ in range(10):
        forward.add_best()
    assert recomputed == [0, 10]
    assert drift(forward) < 1e-12
    assert forward.inside == undisturbed


def picks_of(forward: CandidateScores, n: int) -> list[int]:
    for _ in range(n):
        forward.add_best()
    return forward.inside


def test_float64_picks_what_explicit_inverses_pick_of_ill_conditioned_gradients() -> None:
    blocks = ill_conditioned()
    V = blocks.dense.double()
    no_prior = torch.zeros(40, 40, dtype=torch.float64)
    expected = oracle.textbook_design(12, V, blocks.fisher(), no_prior, 1.0, 1.0)
    assert greedy_design(blocks, 12, blocks.fisher()).picks.tolist() == expected


@pytest.mark.parametrize("name", ["inverse", "A", "B", "products"])
def test_float32_would_pick_others(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has to be in float64: rounding it alone, after every step, changes the picks."""
    blocks = ill_conditioned()
    objective = Criterion(blocks.fisher(), None, 1.0)
    exact = picks_of(CandidateScores(blocks, objective), 60)

    class Rounded(CandidateScores):
        def recompute(self) -> None:
            super().recompute()
            self.round()

        def change(self, image: int, sign: int) -> bool:
            changed = super().change(image, sign)
            self.round()
            return changed

        def round(self) -> None:
            if name == "inverse":
                self.inverse.T = self.inverse.T.float().double()
                if self.inverse.root is not None:
                    self.inverse.root = self.inverse.root.float().double()
            elif name != "products":
                setattr(self, name, getattr(self, name).float().double())

    times = Chunk.times
    if name == "products":
        monkeypatch.setattr(Chunk, "times", lambda *both: times(*both).float().double())
    monkeypatch.setattr(DriftControl, "tolerated", np.inf)
    assert picks_of(Rounded(blocks, objective), 60) != exact


@pytest.mark.parametrize("logit_scale", [100.0, 300.0, 1000.0])
def test_images_of_next_to_no_information_are_no_error(logit_scale: float) -> None:
    for seed in range(100):
        blocks = Problem.random(13, 4, 3, 0, seed, logit_scale).blocks
        for regularization in (1e-3, 1.0, 1e6):
            selection = greedy_design(blocks, 13, blocks.fisher(), regularization=regularization)
            assert sorted(selection.picks.tolist()) == list(range(13))


def test_a_singular_design_is_an_error_that_says_what_to_change() -> None:
    blocks = Blocks.of_dense(torch.tensor([[[1e9, 0.0]], [[0.0, 1e9]], [[1e9, 1e9]]]))
    with pytest.raises(RunError, match="raise regularization") as caught:
        greedy_design(blocks, 1, blocks.fisher(), regularization=1e-12, oversampling=2)
    assert "\n" not in str(caught.value)
