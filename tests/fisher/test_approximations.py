"""Queries with approximate information pick what dense matrices of that information pick."""

from __future__ import annotations

import logging
import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fm_al.errors import ConfigError, RunError
from fm_al.fisher import DesignOptions, FisherMaskOptions, approximations, select_bait
from fm_al.fisher.options import OptionNames
from fm_al.fisher.pool import ScoredPool
from fm_al.fisher.selection import PoolSelection, bait_selection
from tests import oracle_approximations as oracle

APPROXIMATIONS = ("top_classes", "blocks", "binary")
NAMES = OptionNames("strategy.", "device.scoring_batch_size")
PLAIN: dict[str, Any] = {
    "regularization": 0.1,
    "regularization_scale": "information",
    "pool_fisher": "pool",
    "temperature": 1.0,
}
KINDS = (
    "plain",
    "saturated",
    "duplicates",
    "constant features",
    "features of zero",
    "a class never seen",
    "sure and unsure",
)


def pool_of(
    kind: str = "plain",
    images: int = 9,
    classes: int = 4,
    dimensions: int = 3,
    labelled: int = 2,
    seed: int = 0,
    bias: bool = False,
) -> ScoredPool:
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(images, dimensions, generator=generator)
    logits = 2 * torch.randn(images, classes, generator=generator)
    if kind == "saturated":
        logits = logits * 15
    if kind == "duplicates":
        embeddings, logits = (x[torch.arange(images) // 2] for x in (embeddings, logits))
    if kind == "constant features":
        embeddings = torch.ones_like(embeddings)
    if kind == "features of zero":
        embeddings = embeddings * (torch.arange(images) % 2)[:, None]
    if kind == "a class never seen":
        logits[:, -1] = -1e4
    if kind == "sure and unsure":
        logits = logits * torch.tensor([1.0, 10.0, 1e5])[torch.arange(images) % 3, None]
    known = torch.arange(labelled)
    return ScoredPool(embeddings, logits, bias, known, torch.arange(labelled, images))


def selected(pool: ScoredPool, n: int, **options: Any) -> PoolSelection:
    generator = torch.Generator().manual_seed(0)
    return bait_selection(pool, n, generator, DesignOptions(**PLAIN | options), NAMES)


def expected(pool: ScoredPool, n: int, kind: str, exactly: bool = True, **options: Any):
    arrays = pool.embeddings.double().numpy(), pool.logits.double().numpy()
    return oracle.bait(
        kind,
        *arrays,
        pool.labelled.tolist(),
        n,
        bias=pool.head_bias,
        exactly=exactly,
        **PLAIN | options,
    )


@settings(max_examples=60, deadline=None)
@given(
    approximation=st.sampled_from(("blocks", "binary")),
    kind=st.sampled_from(KINDS),
    classes=st.integers(2, 4),
    dimensions=st.integers(1, 3),
    images=st.integers(1, 7),
    labelled=st.integers(0, 3),
    bias=st.booleans(),
    seed=st.integers(0, 99),
    options=st.fixed_dictionaries(
        {
            "regularization": st.sampled_from([1e-4, 0.01, 3.0]),
            "pool_fisher": st.sampled_from(
                ["pool", "class_balanced", "soft_class_balanced", "identity"]
            ),
            "labelled_weight": st.sampled_from(["each", "mean"]),
            "labelled_fisher": st.booleans(),
            "oversampling": st.sampled_from([0.0, 0.5, 1.0]),
            "temperature": st.sampled_from([0.5, 1.0, 4.0]),
        }
    ),
    data=st.data(),
)
def test_picks_are_those_of_dense_matrices(
    approximation, kind, classes, dimensions, images, labelled, bias, seed, options, data
) -> None:
    pool = pool_of(kind, images + labelled, classes, dimensions, labelled, seed, bias)
    n = data.draw(st.integers(1, images), label="n")
    everything = [
        oracle.information(approximation, h, z, options["temperature"])
        for h, z in zip(pool.embeddings.double().numpy(), pool.logits.numpy(), strict=True)
    ]
    if max(np.trace(one) for one in everything) < 1e-30:
        options |= {"regularization_scale": "absolute"}
    answer = expected(pool, n, approximation, **options)
    selection = selected(pool, n, approximation=approximation, **options)
    assert selection.picks.tolist() == answer.picks
    assert selection.report["lambda"] == pytest.approx(answer.regularization, rel=1e-9)
    assert selection.report["objective"] == pytest.approx(answer.objective, rel=1e-7)
    assert selection.report["approximation"] == approximation


@pytest.mark.parametrize("approximation", APPROXIMATIONS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"oversampling": 1.0},
        {"pool_fisher": "soft_class_balanced", "labelled_weight": "mean", "temperature": 0.5},
        {"pool_fisher": "class_balanced", "labelled_fisher": False},
        {"pool_fisher": "identity"},
        {"regularization_scale": "absolute", "regularization": 2.0},
    ],
    ids=str,
)
def test_every_option_works_with_every_approximation(
    approximation: str, options: dict[str, Any]
) -> None:
    pool = pool_of(images=14, classes=4, labelled=4, bias=True)
    answer = expected(pool, 4, approximation, exactly=False, top_classes=3, **options)
    selection = selected(pool, 4, approximation=approximation, top_classes=3, **options)
    assert selection.picks.tolist() == answer.picks
    assert selection.report["objective"] == pytest.approx(answer.objective, rel=1e-9)
    assert selection.report["lambda"] == pytest.approx(answer.regularization, rel=1e-12)


@pytest.mark.parametrize("approximation", APPROXIMATIONS)
def test_the_eigenvalues_recorded_are_those_of_the_information(approximation: str) -> None:
    pool = pool_of(images=14, classes=4, labelled=4)
    report = selected(pool, 3, approximation=approximation, top_classes=3).report
    arrays = pool.embeddings.double().numpy(), pool.logits.double().numpy()
    F = np.mean([oracle.information(approximation, *x, 1, 3) for x in zip(*arrays, strict=True)], 0)
    eigenvalues = np.linalg.eigvalsh(F)
    k = {"binary": 3, "blocks": 12, "top_classes": 9}[approximation]
    assert report["mean_eigenvalue"] == pytest.approx(eigenvalues.sum() / k, rel=1e-9)
    assert report["largest_eigenvalue"] == pytest.approx(eigenvalues[-1], rel=1e-3)


def test_candidates_are_drawn_and_f_is_the_whole_pools() -> None:
    pool = pool_of(images=30, labelled=4)
    drawn = torch.randperm(26, generator=torch.Generator().manual_seed(0))[:8].sort().values
    candidates = pool.unlabelled[drawn].tolist()
    for approximation in APPROXIMATIONS:
        selection = selected(pool, 3, approximation=approximation, max_candidates=8)
        assert set(selection.picks.tolist()) <= set(candidates)
        assert selection.report["candidates"] == 8
        everything = selected(pool, 3, approximation=approximation).report
        assert selection.report["mean_eigenvalue"] == pytest.approx(everything["mean_eigenvalue"])


def test_a_thousand_classes_and_labels_of_nine() -> None:
    generator = torch.Generator().manual_seed(1)
    embeddings = torch.randn(40, 4, generator=generator)
    logits = torch.randn(40, 1000, generator=generator) * 3
    logits[:, 9:] -= 8  # nine classes are labelled; the others are hardly expected
    labelled = list(range(15))
    pool = ScoredPool(embeddings, logits, False, torch.arange(15), torch.arange(15, 40))
    arrays = embeddings.double().numpy(), logits.double().numpy()
    picks = selected(pool, 6, approximation="blocks").picks.tolist()
    assert picks == oracle.bait_by_classes(*arrays, labelled, 6, PLAIN["regularization"])
    picks = selected(pool, 6, approximation="binary").picks.tolist()
    assert picks == expected(pool, 6, "binary", exactly=False).picks
    for approximation in (*APPROXIMATIONS, "auto"):
        options = DesignOptions(approximation=approximation, memory_limit_gib=1.1)
        assert len(select_bait(embeddings, logits, labelled, 6, options=options).unique()) == 6


@pytest.mark.parametrize("weighting", ["fisher", "uniform"])
@pytest.mark.parametrize("oversampling", [0.0, 1.0])
def test_as_many_top_classes_as_there_are_classes_is_exact(
    weighting: str, oversampling: float
) -> None:
    pool = pool_of(images=40, classes=4, labelled=5, bias=True)
    options = {"weighting": weighting, "oversampling": oversampling}
    exact = selected(pool, 8, **options)
    for top_classes in (4, 5):
        top = selected(pool, 8, approximation="top_classes", top_classes=top_classes, **options)
        assert top.picks.tolist() == exact.picks.tolist()
        for name in ("lambda", "mean_eigenvalue", "objective"):
            assert top.report[name] == pytest.approx(exact.report[name], rel=1e-9)


@pytest.mark.parametrize("oversampling", [0.0, 1.0])
def test_two_classes_are_one_against_the_other(oversampling: float) -> None:
    """In the exact basis h stands for (e_1 - e_2) / sqrt 2 times h: the information is doubled."""
    pool = pool_of(images=40, classes=2, labelled=5, bias=True)
    exact = selected(pool, 8, oversampling=oversampling)
    binary = selected(pool, 8, oversampling=oversampling, approximation="binary")
    assert binary.picks.tolist() == exact.picks.tolist()
    assert binary.report["objective"] == pytest.approx(exact.report["objective"], rel=1e-9)
    assert 2 * binary.report["lambda"] == pytest.approx(exact.report["lambda"], rel=1e-9)


def test_a_sure_image_keeps_the_digits_of_its_information() -> None:
    """1 - p of a probability that rounds to 1 is the sum of the others."""
    pool = pool_of(images=12, classes=3, labelled=3)
    logits = torch.zeros(12, 3)
    logits[:, 0] = 45 + torch.arange(12) % 5
    sure = ScoredPool(pool.embeddings, logits, False, pool.labelled, pool.unlabelled)
    for approximation in ("binary", "blocks"):
        answer = expected(sure, 4, approximation)
        selection = selected(sure, 4, approximation=approximation)
        assert selection.picks.tolist() == answer.picks
        assert selection.report["lambda"] == pytest.approx(answer.regularization, rel=1e-9)


@pytest.mark.parametrize("approximation", APPROXIMATIONS)
def test_a_pool_without_information_has_no_scale(approximation: str) -> None:
    pool = pool_of()
    sure = ScoredPool(pool.embeddings, pool.logits * 1e8, False, pool.labelled, pool.unlabelled)
    with pytest.raises(RunError, match="the network is sure of every image"):
        selected(sure, 2, approximation=approximation)
    absolute = {"regularization_scale": "absolute"}
    assert selected(sure, 2, approximation=approximation, **absolute).picks.tolist() == [2, 3]


@pytest.mark.parametrize("approximation", APPROXIMATIONS)
def test_numbers_that_are_not_finite_are_an_error(approximation: str) -> None:
    pool = pool_of()
    pool.embeddings[4, 1] = torch.nan
    with pytest.raises(RunError, match="finite"):
        selected(pool, 2, approximation=approximation)


def test_the_pools_weights_do_not_depend_on_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = pool_of(images=50, classes=6)
    for kind in ("class_balanced", "soft_class_balanced"):
        options = DesignOptions(pool_fisher=kind)
        weights = approximations_weights(pool, options)
        monkeypatch.setattr("fm_al.fisher.pool_weights.AT_ONCE", 13)
        torch.testing.assert_close(
            approximations_weights(pool, options), weights, rtol=1e-14, atol=0
        )
        monkeypatch.undo()
        arrays = pool.logits.double().numpy(), 2.0
        np.testing.assert_allclose(weights.numpy(), oracle.pool_weights(kind, *arrays), rtol=1e-12)


def approximations_weights(pool: ScoredPool, options: DesignOptions) -> Tensor:
    from fm_al.fisher.pool_weights import pool_weights

    return pool_weights(pool, options, 2.0)


# Memory and auto


def memory_error(**options: Any) -> str:
    pool = pool_of(images=600, classes=30, dimensions=20, labelled=10)
    with pytest.raises(RunError) as error:
        selected(pool, 5, memory_limit_gib=2**-20, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def needs(message: str, name: str) -> float:
    found = re.search(rf"{name}(?: needs)? ([0-9.e-]+) GiB", message)
    assert found is not None, message
    return float(found[1])


def test_the_exact_ways_error_names_the_approximations_and_their_needs() -> None:
    message = memory_error()
    assert "; strategy.approximation=" in message
    exact = needs(message, "this query")
    for name in ("blocks", "binary"):
        assert needs(message, name) < exact
        own = needs(memory_error(approximation=name), "this query")
        assert own == pytest.approx(needs(message, name), rel=1e-2)
    uniform = memory_error(weighting="uniform")
    assert "blocks" not in uniform
    assert "binary" not in uniform


def test_auto_takes_the_first_that_fits(caplog: pytest.LogCaptureFixture) -> None:
    pool = pool_of(images=600, classes=30, dimensions=20, labelled=10)
    message = memory_error(approximation="auto")
    listed = message[message.index("no approximation fits") :]
    order = ["exact", "blocks", "top_classes", "binary"]
    of = {name: needs(listed, name) for name in order}
    with caplog.at_level(logging.WARNING, logger=approximations.__name__):
        for name in order:
            limit = of[name] * 1.01
            first = next(each for each in order if of[each] <= limit)
            caplog.clear()
            selection = selected(pool, 5, approximation="auto", memory_limit_gib=limit)
            assert selection.report["approximation"] == first
            option = None if first == "exact" else first
            assert (
                selection.picks.tolist() == selected(pool, 5, approximation=option).picks.tolist()
            )
            warnings = [record.getMessage() for record in caplog.records]
            assert len(warnings) == (first != "exact")
            if warnings:
                assert warnings[0].startswith(f"strategy.approximation=auto: {first} is used")
                assert "exact would need" in warnings[0]


def test_auto_with_uniform_weights_leaves_out_what_has_none() -> None:
    message = memory_error(approximation="auto", weighting="uniform")
    listed = message[message.index("no approximation fits") :]
    assert re.findall(r"(\w+) [0-9.e-]+ GiB", listed) == ["exact", "top_classes"]


@pytest.mark.parametrize("approximation", ["blocks", "binary"])
def test_uniform_weights_are_refused_where_they_mean_nothing(approximation: str) -> None:
    message = (
        r"^strategy\.weighting=uniform: should be fisher with "
        rf"strategy\.approximation={approximation}"
    )
    with pytest.raises(ConfigError, match=message):
        selected(pool_of(), 2, approximation=approximation, weighting="uniform")


def test_options_of_the_library_out_of_range() -> None:
    h, z = torch.randn(9, 4), torch.randn(9, 3)
    for options, message in (
        (DesignOptions(approximation="some"), "approximation=some: should be 'top_classes'"),
        (DesignOptions(top_classes=1), "top_classes=1: should be greater than or equal to 2"),
    ):
        with pytest.raises(ValueError, match=message):
            select_bait(h, z, [0, 5], 3, options=options)
    assert FisherMaskOptions().approximation is None
