"""Strategies with approximate information: FisherMask by explicit inverses, all on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from fm_al.errors import ConfigError, RunError
from fm_al.strategies.bait import BAIT
from fm_al.strategies.base import Query, Strategy
from fm_al.strategies.fishermask import FisherMask
from fm_al.strategies.fishermask_entropy import FisherMaskEntropy
from tests import oracle
from tests import oracle_approximations as approximate
from tests.helpers.moved import moved_query
from tests.helpers.pretended_device import PretendedCuda
from tests.helpers.synthetic import network_query
from tests.oracle import Array

OPTIONS: dict[str, Any] = {
    "regularization": 0.1,
    "pool_fisher": "pool",
    "temperature": 0.7,
    "fraction": 0.6,
    "record_mask": True,
}
OF_BAIT = ("top_classes", "blocks", "binary", "auto")


def query(classes: int = 4) -> Query:
    generator = torch.Generator().manual_seed(5)
    images = torch.randint(256, (30, 1, 5, 5), dtype=torch.uint8, generator=generator)
    return network_query(images, [25, 2, 9], classes, embedding_scale=2, logit_scale=4)


def selected(classes: int = 4, **options: Any) -> tuple[list[int], dict[str, Any]]:
    asked = query(classes)
    picks = FisherMask(**OPTIONS | options).select(asked, 6, torch.Generator().manual_seed(3))
    return picks.tolist(), asked.recorded


def binary_row(jacobian: Array, embedding: Array, p: Array, T: float) -> Array:
    """The row of an image: sqrt(p (1 - p)) / T times h, and the gradient of its log odds.

    jacobian: Of the logits at the other weights, (C, q).
    """
    top = int(np.argmax(p))
    others = sum(p[j] * jacobian[j] for j in range(len(p)) if j != top)
    gradient = jacobian[top] - others / (p.sum() - p[top])
    deviation = np.sqrt(approximate.variance(p, top)) / T
    return deviation * np.concatenate([embedding, gradient])


def expected_picks(mask: dict[str, list[int]], approximation: str, top_classes: int) -> list[int]:
    """Among all unlabelled images; the last layer is whole."""
    asked, T = query(), OPTIONS["temperature"]
    everything = asked.images(torch.arange(30))
    jacobians = oracle.jacobian(asked.model, everything)
    columns = {
        name: jacobians[name].reshape(30, 4, -1)[:, :, positions]
        for name, positions in mask.items()
    }
    dense = np.concatenate([c for n, c in columns.items() if not n.startswith("head")], axis=2)
    whole = np.concatenate(list(columns.values()), axis=2)
    with torch.no_grad():
        embeddings = asked.model.double().embed(everything.double())
        logits = asked.model.head(embeddings).numpy()
    h = np.concatenate([embeddings.numpy(), np.ones((30, 1))], axis=1)
    informations = []
    for x in range(30):
        p = approximate.softmax(logits[x] / T)
        if approximation == "binary":
            row = binary_row(dense[x], h[x], p, T)
            informations.append(np.outer(row, row))
        else:
            top = np.argsort(-logits[x])[:top_classes]
            informations.append(oracle.information(whole[x][top], logits[x][top], temperature=T))
    F = np.mean(informations, axis=0)
    k = dense.shape[2] + h.shape[1] * (1 if approximation == "binary" else 3)
    scale = 6 / 9
    candidates = asked.unlabelled.tolist()
    picks = oracle.float64_design(
        6,
        [informations[x] for x in candidates],
        F,
        scale * sum(informations[x] for x in asked.labelled.tolist()),
        scale,
        OPTIONS["regularization"] * np.trace(F) / k,
    )
    return [candidates[x] for x in picks]


@pytest.mark.parametrize("top_classes", [2, 3])
def test_top_classes_pick_what_explicit_inverses_pick(top_classes: int) -> None:
    picks, recorded = selected(approximation="top_classes", top_classes=top_classes)
    assert recorded["approximation"] == "top_classes"
    mask = recorded["mask"]["positions"]
    assert picks == expected_picks(mask, "top_classes", top_classes)


def test_binary_picks_what_explicit_inverses_pick() -> None:
    picks, recorded = selected(approximation="binary")
    assert picks == expected_picks(recorded["mask"]["positions"], "binary", 0)


@pytest.mark.parametrize("weighting", ["fisher", "uniform"])
def test_all_classes_are_exact(weighting: str) -> None:
    exact, recorded = selected(weighting=weighting, oversampling=1.0)
    for top_classes in (4, 9):
        options = {"weighting": weighting, "oversampling": 1.0, "top_classes": top_classes}
        picks, of_top = selected(approximation="top_classes", **options)
        assert picks == exact
        assert of_top["objective"] == pytest.approx(recorded["objective"], rel=1e-5)


@pytest.mark.parametrize("jacobians", ["device", "host"])
def test_binary_of_two_classes_is_exact_outside_the_last_layer(jacobians: str) -> None:
    """In the last layer h stands for (e_1 - e_2) ⊗ h, so the blocks' relative size differs."""
    options = {"whole_last_layer": False, "fraction": 0.3, "mask": "random", "jacobians": jacobians}
    exact, recorded = selected(classes=2, **options)
    assert not recorded["mask"]["whole_last_layer"]
    picks, of_binary = selected(classes=2, approximation="binary", **options)
    assert picks == exact
    assert of_binary["objective"] == pytest.approx(recorded["objective"], rel=1e-5)


def test_the_mask_is_the_exact_one() -> None:
    masks = [selected(approximation=each)[1]["mask"] for each in (None, "top_classes", "binary")]
    assert masks[0] == masks[1] == masks[2]


def test_the_memory_error_names_the_approximations() -> None:
    with pytest.raises(RunError) as error:
        selected(memory_limit_gib=2**-16)
    message = str(error.value)
    assert "; strategy.approximation=top_classes needs" not in message  # four classes are not more
    assert "strategy.approximation=binary needs" in message
    with pytest.raises(
        RunError, match=r"strategy\.approximation=top_classes needs .*, binary needs"
    ):
        selected(memory_limit_gib=2**-16, top_classes=2)


def test_what_does_not_go_together_is_found_before_training() -> None:
    for strategy in (BAIT, FisherMask):
        with pytest.raises(ConfigError, match=r"^strategy\.weighting=uniform: should be fisher"):
            strategy(approximation="binary", weighting="uniform").check_query(5)
    hybrid = FisherMaskEntropy(fishermask=FisherMask(approximation="binary", weighting="uniform"))
    with pytest.raises(ConfigError, match=r"^strategy\.fishermask\.weighting=uniform"):
        hybrid.check_query(5)
    FisherMask(approximation="top_classes", weighting="uniform").check_query(5)


@pytest.mark.parametrize("oversampling", [0.0, 1.0])
@pytest.mark.parametrize(
    "strategy",
    [
        *(
            partial(BAIT, approximation=each)
            for each in ("top_classes", "blocks", "binary", "auto")
        ),
        *(partial(FisherMask, approximation=each) for each in ("top_classes", "binary")),
    ],
    ids=lambda made: f"{made.func.__name__}-{made.keywords['approximation']}",
)
def test_no_devices_are_mixed_and_picks_are_those_of_the_cpu(
    strategy: Callable[..., Strategy], oversampling: float
) -> None:
    made = strategy(oversampling=oversampling, top_classes=2)
    expected = made.select(query(), 6, torch.Generator().manual_seed(3)).tolist()
    on_cpu = query()
    with PretendedCuda():
        moved = moved_query(on_cpu, torch.device("cuda"))
        picks = made.select(moved, 6, torch.Generator().manual_seed(3))
    assert picks.tolist() == expected
