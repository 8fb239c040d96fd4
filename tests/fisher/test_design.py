"""The fast selection picks what explicit inverses pick."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fm_al.errors import RunError
from fm_al.fisher import design
from fm_al.fisher.design import (
    Blocks,
    contrasts,
    fisher_factors,
    fisher_sum,
    halve,
    information_scale,
    largest_eigenvalue,
    select,
    traces,
)
from tests import oracle

WEIGHTINGS = ("fisher", "uniform")


@dataclass(frozen=True)
class Problem:
    """A pool: logits (N, C), embeddings (N, D), Jacobian at other weights (N, C, q)."""

    logits: Tensor
    embeddings: Tensor
    jacobian: Tensor
    weighting: str = "fisher"

    @classmethod
    def random(
        cls,
        images: int,
        classes: int,
        dimensions: int,
        others: int,
        seed: int = 0,
        logit_scale: float = 2.0,
        weighting: str = "fisher",
    ) -> Problem:
        generator = torch.Generator().manual_seed(seed)
        return cls(
            torch.randn(images, classes, generator=generator) * logit_scale,
            torch.randn(images, dimensions, generator=generator).relu(),
            torch.randn(images, classes, others, generator=generator),
            weighting,
        )

    def of(self, images: Tensor) -> Problem:
        return Problem(
            self.logits[images], self.embeddings[images], self.jacobian[images], self.weighting
        )

    @property
    def blocks(self) -> Blocks:
        factors = fisher_factors(self.logits, self.weighting)
        dense = torch.bmm(factors, self.jacobian.double()).float()
        last = factors @ contrasts(self.logits.shape[1])
        return Blocks.of_last_layer(last, self.embeddings, dense)

    def informations(self) -> list[np.ndarray]:
        """I(x) over all C D + q weights; the gradients at the others as rounded in the blocks."""
        dense = self.blocks.dense.double().numpy()
        factors = fisher_factors(self.logits, self.weighting).double().numpy()
        informations = []
        for logits, h, R, G in zip(
            self.logits.double().numpy(),
            self.embeddings.double().numpy(),
            factors,
            dense,
            strict=True,
        ):
            last = oracle.last_layer_jacobian(h, len(logits))
            V = np.concatenate([R @ last, G], axis=1)
            information = V.T @ V
            # The last layer's part has no use for R: R^T R is what the oracle says.
            D = last.shape[1]
            expected = oracle.information(last, logits, self.weighting)
            np.testing.assert_allclose(information[:D, :D], expected, atol=1e-12)
            informations.append(information)
        return informations


def assert_same_picks(
    problem: Problem,
    n: int,
    labelled: int,
    regularization: float,
    oversampling: float,
    same_picks: bool = True,
    objective: float = 1e-8,
) -> None:
    """Among all images after the labelled ones, with F of all of them; or picks as good."""
    blocks, informations = problem.blocks, problem.informations()
    k = len(informations[0])
    scale = n / (labelled + n)
    pool_fisher = sum(informations) / len(informations)
    prior = sum(informations[:labelled], np.zeros((k, k))) / (labelled + n)
    arguments = pool_fisher, prior, scale, regularization
    expected = oracle.optimal_design(n, informations[labelled:], *arguments, oversampling)

    fast_prior = fisher_sum([blocks[:labelled]], blocks.width, torch.device("cpu")) / (labelled + n)
    selection = select(
        blocks[labelled:], n, blocks.fisher(), fast_prior, scale, regularization, oversampling
    )
    if same_picks:
        assert selection.picks.tolist() == expected
    exact = oracle.design_objective(expected, informations[labelled:], *arguments)
    assert selection.objective == pytest.approx(exact, rel=objective)


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.tuples(st.integers(2, 5), st.integers(0, 4), st.integers(0, 4)),
    images=st.integers(1, 9),
    labelled=st.integers(0, 3),
    logit_scale=st.sampled_from([0.0, 1.0, 5.0, 1e5]),
    weighting=st.sampled_from(WEIGHTINGS),
    regularization=st.sampled_from([1e-3, 1.0, 30.0]),
    oversampling=st.sampled_from([0, 0.5, 1]),
    seed=st.integers(0, 99),
    data=st.data(),
)
def test_picks_are_those_of_explicit_inverses(
    sizes, images, labelled, logit_scale, weighting, regularization, oversampling, seed, data
) -> None:
    classes, dimensions, others = sizes
    if dimensions + others == 0:
        dimensions = 1
    problem = Problem.random(
        images + labelled, classes, dimensions, others, seed, logit_scale, weighting
    )
    if data.draw(st.booleans(), label="with duplicates"):
        twice = torch.arange(images + labelled) // 2
        problem = problem.of(twice)
    n = data.draw(st.integers(1, images), label="n")
    # Explicit inverses, in float64, don't tell candidates apart that add next to nothing.
    largest = max(np.trace(information) for information in problem.informations()[labelled:])
    same_picks = largest == 0 or largest > 1e-9 * regularization
    assert_same_picks(problem, n, labelled, regularization, oversampling, same_picks)


@pytest.mark.parametrize("classes", [2, 3, 8, 20])
@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_picks_are_those_of_explicit_inverses_for_many_classes(
    classes: int, weighting: str
) -> None:
    assert_same_picks(Problem.random(8, classes, 2, 3, weighting=weighting), 2, 2, 1.0, 1)


def nasty(kind: str, images: int, sizes: tuple[int, int, int], seed: int) -> Problem:
    """Pools whose M is ill conditioned, or whose candidates are hard to tell apart."""
    scale = {"saturated": 27.6, "one-hot": 1e5}.get(kind, 2.0)
    problem = Problem.random(images, *sizes, seed, scale)
    position = torch.arange(images)
    if kind == "sure, less sure and unsure":
        logits = problem.logits * torch.tensor([1.0, 10.0, 20.0])[position % 3, None]
        return replace(problem, logits=logits)
    if kind == "duplicates":
        return problem.of(position // 2)
    if kind == "near duplicates":
        noise = torch.randn(images, 1, generator=torch.Generator().manual_seed(seed))
        pairs = problem.of(position // 2)
        return replace(pairs, embeddings=pairs.embeddings * (1 + 1e-5 * noise))
    if kind == "embeddings of zero":
        shown = (position % 2)[:, None].float()
        jacobian = problem.jacobian * (position % 4 > 0)[:, None, None]
        return replace(problem, embeddings=problem.embeddings * shown, jacobian=jacobian)
    return problem


NASTY = (
    "plain",
    "saturated",
    "one-hot",
    "sure, less sure and unsure",
    "duplicates",
    "near duplicates",
    "embeddings of zero",
)


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
    monkeypatch.setattr(design, "REMOVAL_ROWS", rows)
    monkeypatch.setattr(design, "LOW_RANK", low_rank)
    for seed in range(3):
        problem = nasty(kind, 10, (3, 4, 4), seed)
        regularization = 1e-6 * information_scale(problem.blocks.fisher())
        assert_same_picks(problem, 3, 2, regularization, 1.0)


def test_all_of_the_pool_and_one_image() -> None:
    problem = Problem.random(8, 3, 3, 4)
    assert_same_picks(problem, 8, 0, 1.0, 1)
    assert_same_picks(problem, 1, 0, 1.0, 0)
    assert_same_picks(problem.of(torch.tensor([3])), 1, 0, 1.0, 1)


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
    monkeypatch.setattr(design, "TILE", tile)
    monkeypatch.setitem(design.CHUNK_BYTES, "cpu", chunk_bytes)
    monkeypatch.setattr(design, "SQUARES_LEAST", 1)
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
    images = 0
    for part, chunk in blocks.chunks():
        torch.testing.assert_close(chunk.times(matrix), V[part] @ matrix)
        torch.testing.assert_close(chunk.grams(), V[part] @ V[part].mT)
        torch.testing.assert_close(chunk.row_vectors(), V[part])
        sizes = blocks.factors.shape[2], blocks.embeddings.shape[1]
        torch.testing.assert_close(
            chunk.quadratic_forms(halve(symmetric.clone(), *sizes)),
            V[part] @ symmetric @ V[part].mT,
        )
        images += len(chunk.factors)
    assert images == 11


@pytest.mark.parametrize("size", [1, 2, 9])
@pytest.mark.parametrize("sign", [1, -1])
def test_traces_are_those_of_inverses(
    size: int, sign: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(design.CHUNK_BYTES, "cpu", 7 * 8 * size**2)
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


def test_picks_do_not_depend_on_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = Problem.random(60, 4, 6, 9).blocks
    blocks = blocks[torch.arange(60) // 3]
    picks = []
    for chunk_bytes, tile in product((1, 1000, 10**6), (2, 256)):
        monkeypatch.setitem(design.CHUNK_BYTES, "cpu", chunk_bytes)
        monkeypatch.setattr(design, "TILE", tile)
        monkeypatch.setattr(design, "SQUARES_LEAST", tile)
        picks.append(select(blocks, 25, blocks.fisher(), oversampling=1).picks.tolist())
    assert all(other == picks[0] for other in picks)


def test_equal_images_are_picked_from_the_lowest_on() -> None:
    problem = Problem.random(3, 4, 5, 6)
    one = problem.of(torch.zeros(10, dtype=torch.int64)).blocks
    assert select(one, 4, one.fisher()).picks.tolist() == [0, 1, 2, 3]
    pairs = problem.of(torch.tensor([2, 1, 0, 0, 1, 2])).blocks
    picks = select(pairs, 3, pairs.fisher()).picks.tolist()
    assert sorted(picks) == [0, 1, 2]


def test_images_without_information_are_picked_from_the_lowest_on() -> None:
    problem = Problem.random(6, 3, 4, 0, logit_scale=1e8)
    assert select(problem.blocks, 3, problem.blocks.fisher()).picks.tolist() == [0, 1, 2]


def test_the_identity_in_the_pool_fishers_place() -> None:
    problem = Problem.random(15, 3, 4, 3)
    blocks, informations = problem.blocks, problem.informations()
    k = len(informations[0])
    expected = oracle.optimal_design(4, informations, np.eye(k), np.zeros((k, k)), 1.0, 0.5)
    identity = torch.eye(blocks.width, dtype=torch.float64)
    assert select(blocks, 4, identity, regularization=0.5).picks.tolist() == expected


def test_no_worse_than_a_thousand_random_batches() -> None:
    problem = Problem.random(60, 4, 5, 6)
    blocks, informations = problem.blocks, problem.informations()
    zeros = np.zeros_like(informations[0])
    others = sum(informations) / len(informations), zeros, 1.0, 1.0
    selection = select(blocks, 6, blocks.fisher())
    greedy = oracle.design_objective(selection.picks.tolist(), informations, *others)
    assert selection.objective == pytest.approx(greedy, rel=1e-10)
    generator = np.random.default_rng(0)
    rows = blocks.row_vectors().view(60, -1, blocks.width)
    V = (rows.mT @ rows).numpy()
    batches = [generator.choice(60, 6, replace=False).tolist() for _ in range(1000)]
    M = np.eye(blocks.width) + np.array([sum(V[batch]) for batch in batches])
    at_random = np.trace(np.linalg.inv(M) @ blocks.fisher().numpy(), axis1=1, axis2=2)
    assert greedy <= at_random.min()


def drift(forward: design._Design) -> float:
    """The largest relative error of A, B and M^{-1}, beside those computed from scratch."""
    fresh = design._Design(forward.candidates, forward.base, list(forward.inside))

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
    forward = design._Design(blocks, design._Base(blocks.fisher(), None, regularization))
    for _ in range(2000):
        forward.add_best()
    assert drift(forward) < 1e-9


@pytest.mark.parametrize("rho", [1e-2, 1e-6])
def test_drift_is_small_after_a_thousand_picks_and_as_many_removals(rho: float) -> None:
    blocks = Problem.random(1200, 3, 6, 5).blocks
    fisher = blocks.fisher()
    base = design._Base(fisher, None, rho * information_scale(fisher))
    everything = list(range(1000))
    backward = design._Design(blocks[:1000], base, list(everything))
    while len(backward.inside) > 20:
        backward.remove_best(torch.tensor(everything))
    assert drift(backward) < 1e-7


@pytest.mark.parametrize("rho", [1e-2, 1e-6])
def test_drift_of_what_the_rows_of_the_picks_keep_is_small(rho: float) -> None:
    """Of 240 rows of 300 coordinates, half of which are twice the same."""
    problem = Problem.random(120, 3, 25, 250)
    blocks = problem.of(torch.arange(120) // 2).blocks
    fisher = blocks.fisher()
    base = design._Base(fisher, None, rho * information_scale(fisher))
    positions = torch.arange(120)
    backward = design._Removal(blocks, base, positions.tolist())
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
    selection = select(blocks, 20, fisher, regularization=regularization, oversampling=0.5)
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
    undisturbed = select(blocks, 20, blocks.fisher()).picks.tolist()
    recomputed = []
    recompute = design._Design.recompute

    def counted(self: design._Design) -> None:
        recomputed.append(len(self.inside))
        recompute(self)

    monkeypatch.setattr(design._Design, "recompute", counted)
    forward = design._Design(blocks, design._Base(blocks.fisher(), None, 1.0))
    for _ in range(10):
        forward.add_best()
    forward.A *= 1 + 1e-6
    for _ in range(10):
        forward.add_best()
    assert recomputed == [0, 10]
    assert drift(forward) < 1e-12
    assert forward.inside == undisturbed


def ill_conditioned() -> Blocks:
    """Gradients of 100 in a few directions common to all, and of 5 in the others."""
    generator = torch.Generator().manual_seed(0)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator)

    factors = fisher_factors(2 * normal(400, 4))
    jacobian = 100 * (normal(400, 4, 6) @ normal(6, 40)) + 5 * normal(400, 4, 40)
    return Blocks.of_dense(torch.bmm(factors, jacobian.double()).float())


def picks_of(forward: design._Design, n: int) -> list[int]:
    for _ in range(n):
        forward.add_best()
    return forward.inside


def test_float64_picks_what_explicit_inverses_pick_of_ill_conditioned_gradients() -> None:
    blocks = ill_conditioned()
    V = blocks.dense.double()
    no_prior = torch.zeros(40, 40, dtype=torch.float64)
    expected = oracle.textbook_design(12, V, blocks.fisher(), no_prior, 1.0, 1.0)
    assert select(blocks, 12, blocks.fisher()).picks.tolist() == expected


@pytest.mark.parametrize("name", ["inverse", "A", "B", "products"])
def test_float32_would_pick_others(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has to be in float64: rounding it alone, after every step, changes the picks."""
    blocks = ill_conditioned()
    base = design._Base(blocks.fisher(), None, 1.0)
    exact = picks_of(design._Design(blocks, base), 60)

    class Rounded(design._Design):
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

    times = design._Chunk.times
    if name == "products":
        monkeypatch.setattr(design._Chunk, "times", lambda *both: times(*both).float().double())
    monkeypatch.setattr(design._Updated, "tolerated", np.inf)
    assert picks_of(Rounded(blocks, base), 60) != exact


def test_half_precision_keeps_the_picks() -> None:
    for seed in range(5):
        blocks = Problem.random(200, 4, 6, 20, seed).blocks
        tiny = replace(blocks, dense=blocks.dense * 1e-6, factors=blocks.factors * 1e-6).scaled(1e6)
        exact = select(blocks, 20, blocks.fisher()).picks.tolist()
        half = tiny.in_half()
        assert half.dense.dtype == torch.float16
        torch.testing.assert_close(half.fisher(), blocks.fisher(), rtol=1e-2, atol=1e-3)
        assert select(half, 20, half.fisher()).picks.tolist() == exact


@pytest.mark.parametrize("logit_scale", [100.0, 300.0, 1000.0])
def test_images_of_next_to_no_information_are_no_error(logit_scale: float) -> None:
    for seed in range(100):
        blocks = Problem.random(13, 4, 3, 0, seed, logit_scale).blocks
        for regularization in (1e-3, 1.0, 1e6):
            selection = select(blocks, 13, blocks.fisher(), regularization=regularization)
            assert sorted(selection.picks.tolist()) == list(range(13))


def test_half_precision_without_other_weights() -> None:
    blocks = Problem.random(5, 3, 4, 0).blocks
    assert torch.equal(blocks.in_half().fisher(), blocks.fisher())


def test_half_precision_of_images_without_gradients() -> None:
    blocks = Blocks.of_dense(torch.zeros(3, 2, 4)).in_half()
    assert blocks.dense.isfinite().all()
    assert blocks.scales.tolist() == [1, 1, 1]


def test_a_singular_design_is_an_error_that_says_what_to_change() -> None:
    blocks = Blocks.of_dense(torch.tensor([[[1e9, 0.0]], [[0.0, 1e9]], [[1e9, 1e9]]]))
    with pytest.raises(RunError, match=r"raise that") as caught:
        select(blocks, 1, blocks.fisher(), regularization=1e-12, oversampling=2)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("where", ["factors", "embeddings", "dense"])
def test_numbers_that_are_not_finite_are_an_error(where: str, value: float) -> None:
    blocks = Problem.random(6, 3, 4, 5).blocks
    fisher = blocks.fisher()
    getattr(blocks, where)[2].view(-1)[1] = value
    with pytest.raises(RunError, match="finite"):
        select(blocks, 2, fisher)


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


def test_arguments_that_can_not_be() -> None:
    blocks = Problem.random(6, 3, 4, 5).blocks
    fisher = blocks.fisher()
    with pytest.raises(ValueError, match="n=7: there are 6 candidates"):
        select(blocks, 7, fisher)
    with pytest.raises(ValueError, match="n=0"):
        select(blocks, 0, fisher)
    for value in (0, -1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match=f"regularization={value}: should be above 0"):
            select(blocks, 1, fisher, regularization=value)
        with pytest.raises(ValueError, match=f"scale={value}: should be above 0"):
            select(blocks, 1, fisher, scale=value)
    with pytest.raises(ValueError, match="oversampling=-1: should be 0 or above"):
        select(blocks, 1, fisher, oversampling=-1)
    with pytest.raises(ValueError, match=r"pool_fisher is \(2, 2\), the candidates have k=13"):
        select(blocks, 1, torch.eye(2, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"prior is torch\.float32: should be torch\.float64"):
        select(blocks, 1, fisher, prior=torch.eye(blocks.width))
    with pytest.raises(ValueError, match="images or rows differ"):
        Blocks.of_last_layer(blocks.factors, blocks.embeddings, blocks.dense[:, :1])
