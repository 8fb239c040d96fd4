"""FisherMask, BAIT and the hybrid pick what autograd per image, explicit sums and inverses pick."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from torch import Tensor, nn

from fm_al.errors import ConfigError, RunError
from fm_al.fisher import memory
from fm_al.fisher.mask import Mask
from fm_al.fisher.network_mask import network_mask
from fm_al.strategies.bait import BAIT
from fm_al.strategies.base import Query
from fm_al.strategies.entropy import Entropy
from fm_al.strategies.fishermask import FisherMask
from fm_al.strategies.fishermask_entropy import FisherMaskEntropy
from fm_al.strategies.optimal_design import pool_network, scored_pool
from tests import oracle
from tests.helpers.command_line import ROOT
from tests.helpers.synthetic import TinyBackbone, network_query

BAIT_OPTIONS: dict[str, Any] = {
    "regularization": 1.0,
    "regularization_scale": "absolute",
    "oversampling": 0.0,
    "weighting": "fisher",
    "pool_fisher": "pool",
    "labelled_fisher": True,
    "labelled_weight": "mean",
    "temperature": 1.0,
    "max_candidates": None,
    "memory_limit_gib": None,
}
OPTIONS: dict[str, Any] = BAIT_OPTIONS | {
    "mask": "standard",
    "fraction": 0.6,
    "mask_images": 1024,
    "mask_sample": "random",
    "whole_last_layer": True,
    "record_mask": True,
    "jacobians": "device",
    "jacobian_precision": "float32",
}
LAST_LAYER = ("head.weight", "head.bias")
REPAIRED = {
    "regularization": 0.01,
    "regularization_scale": "information",
    "pool_fisher": "soft_class_balanced",
    "labelled_weight": "each",
    "temperature": "calibrated",
}


def query(batch_size: int = 16, bias: bool = True, classes: int = 3, seed: int = 5) -> Query:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (30, 1, 5, 5), dtype=torch.uint8, generator=generator)
    images[20] = images[3]
    query = network_query(images, [25, 2, 9], classes, embedding_scale=2, logit_scale=4)
    if not bias:
        query.model.head.bias = None
    query.batch_size = batch_size
    return query


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def mask_of(
    query: Query,
    strategy: FisherMask,
    temperature: float = 1.0,
    chance: torch.Generator | None = None,
) -> Mask:
    pool, network = scored_pool(query), pool_network(query)
    return network_mask(pool, network, temperature, chance or generator(), strategy)


def positions(mask: dict[str, list[int]] | None, parameters: dict[str, Tensor]) -> dict[str, Any]:
    """Of a recorded mask; of the whole last layer without one."""
    if mask is not None:
        return mask
    return {
        name: list(range(weights.numel()))
        for name, weights in parameters.items()
        if name in LAST_LAYER
    }


def expected_picks(
    query: Query,
    n: int,
    options: dict[str, Any],
    mask: dict[str, list[int]] | None = None,
    candidates: list[int] | None = None,
    given: tuple[int, ...] = (),
) -> list[int]:
    everything = query.images(torch.arange(len(query.logits)))
    jacobians = oracle.jacobian(query.model, everything)
    masked = positions(mask, dict(query.model.named_parameters()))
    columns = [
        jacobians[name].reshape(*jacobians[name].shape[:2], -1)[:, :, indices]
        for name, indices in masked.items()
    ]
    with torch.no_grad():
        logits = query.model.double()(everything.double()).numpy()
    query.model.float()
    temperature = expected_temperature(logits[query.labelled.numpy()], options["temperature"])
    informations = [
        oracle.information(jacobian, one, options["weighting"], temperature)
        for jacobian, one in zip(np.concatenate(columns, axis=2), logits, strict=True)
    ]
    k, labelled, batch = len(informations[0]), query.labelled.tolist(), n + len(given)
    pool_fisher = sum(informations) / len(informations)
    if options["pool_fisher"] == "class_balanced":
        predicted = logits.argmax(axis=1)
        means = [
            np.mean([informations[x] for x in np.flatnonzero(predicted == c)], axis=0)
            for c in sorted(set(predicted))
        ]
        pool_fisher = np.mean(means, axis=0)
    if options["pool_fisher"] == "soft_class_balanced":
        exponentials = np.exp((logits - logits.max(axis=1, keepdims=True)) / temperature)
        p = exponentials / exponentials.sum(axis=1, keepdims=True)
        means = [
            sum(share * one for share, one in zip(of_class, informations, strict=True))
            / of_class.sum()
            for of_class in p.T
        ]
        pool_fisher = np.mean(means, axis=0)
    # One class's weights are the others' negative sum: no gradient has a part in their mean.
    whole = mask is None or set(LAST_LAYER) <= {n for n in mask if n in LAST_LAYER}
    seen = k - (len(masked.get("head.bias", ())) > 0) - query.embeddings.shape[1] if whole else k
    regularization = options["regularization"]
    if options["regularization_scale"] == "information":
        regularization *= np.trace(pool_fisher) / seen
    if options["pool_fisher"] == "identity":
        pool_fisher = np.eye(k)
    total = len(labelled) + batch
    prior = np.zeros((k, k))
    if options["labelled_fisher"]:
        prior = sum(informations[x] for x in labelled) / total
        prior = prior * (batch if options["labelled_weight"] == "each" else 1)
    prior = prior + sum((informations[x] for x in given), np.zeros((k, k))) * batch / total
    candidates = candidates or [x for x in query.unlabelled.tolist() if x not in given]
    picks = oracle.float64_design(
        n,
        [informations[x] for x in candidates],
        pool_fisher,
        prior,
        batch / total,
        regularization,
        options["oversampling"],
    )
    return [candidates[x] for x in picks]


def expected_temperature(logits: np.ndarray, temperature: float | str) -> float:
    """The number itself; or by a root finder."""
    if temperature != "calibrated":
        return float(temperature)

    def excess(logarithm: float) -> float:
        exponentials = np.exp((logits - logits.max(axis=1, keepdims=True)) / np.exp(logarithm))
        return float((1 / exponentials.sum(axis=1)).mean() - 0.95)

    return float(np.exp(brentq(excess, -13, 13)))


VARIANTS: list[dict[str, Any]] = [
    {},
    {"regularization": 0.03},
    {"oversampling": 1.0},
    {"weighting": "uniform"},
    {"pool_fisher": "identity"},
    {"labelled_fisher": False},
    {"regularization_scale": "information"},
    {"regularization_scale": "information", "regularization": 0.01, "oversampling": 1.0},
    {"regularization_scale": "information", "pool_fisher": "identity"},
    {"pool_fisher": "class_balanced"},
    {"pool_fisher": "soft_class_balanced"},
    {"pool_fisher": "soft_class_balanced", "temperature": 0.3},
    {"labelled_weight": "each"},
    {"labelled_weight": "each", "labelled_fisher": False},
    {"temperature": 0.3},
    {"temperature": "calibrated"},
    REPAIRED,
]


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
def test_bait_picks_what_explicit_inverses_pick(variant: dict[str, Any], bias: bool) -> None:
    options = BAIT_OPTIONS | variant
    picks = BAIT(**options).select(query(bias=bias), 8, generator())
    assert picks.tolist() == expected_picks(query(bias=bias), 8, options)


@pytest.mark.parametrize(
    "variant",
    [
        *VARIANTS,
        {"mask": "dispersed"},
        {"mask": "relative", "fraction": None},
        {"mask": "random"},
        {"fraction": 1.0},
        {"fraction": None},
        {"whole_last_layer": False, "fraction": 0.3},
        {"whole_last_layer": False, "mask": "random", "oversampling": 0.5},
        {"mask_images": 5},
        {"jacobians": "host"},
        {"jacobian_precision": "float16"},
        {"jacobians": "host", "jacobian_precision": "float16"},
        {"jacobian_precision": "float16", "fraction": 0.25},
    ],
    ids=str,
)
def test_fishermask_picks_what_explicit_inverses_pick(variant: dict[str, Any]) -> None:
    options = OPTIONS | variant
    asked = query()
    picks = FisherMask(**options).select(asked, 8, generator())
    mask = asked.recorded["mask"]["positions"]
    assert {name: len(indices) for name, indices in mask.items()} == asked.recorded["mask_sizes"]
    assert picks.tolist() == expected_picks(query(), 8, options, mask)


@settings(max_examples=15, deadline=None)
@given(
    classes=st.integers(2, 6),
    seed=st.integers(0, 2**32),
    n=st.sampled_from([1, 4, 10]),
    kind=st.sampled_from(["standard", "dispersed", "random"]),
    fraction=st.floats(0.45, 1),
    oversampling=st.sampled_from([0.0, 1.0]),
    repairs=st.sampled_from([{}, REPAIRED]),
)
def test_fishermask_picks_what_explicit_inverses_pick_of_random_pools(
    classes: int,
    seed: int,
    n: int,
    kind: str,
    fraction: float,
    oversampling: float,
    repairs: dict[str, Any],
) -> None:
    options = OPTIONS | {"mask": kind, "fraction": fraction, "oversampling": oversampling} | repairs
    asked = query(classes=classes, seed=seed)
    picks = FisherMask(**options).select(asked, n, generator())
    # At a temperature of 5e-5, say, the network is sure of all but one image, so the others' scores
    # are equal for the oracle, which knows them to 1e-13, and are not for the code.
    assume(asked.recorded.get("temperature", 1) > 0.01)
    mask = asked.recorded["mask"]["positions"]
    assert picks.tolist() == expected_picks(query(classes=classes, seed=seed), n, options, mask)


@pytest.mark.parametrize("kind", ["standard", "dispersed", "relative"])
@pytest.mark.parametrize("images", ["all", "first"])
def test_the_mask_is_that_of_the_diagonal_fisher_information(kind: str, images: str) -> None:
    asked = query()
    fraction = None if kind == "relative" else 0.6
    some = {} if images == "all" else {"mask_sample": "first", "mask_images": 7}
    strategy = FisherMask(**OPTIONS | {"mask": kind, "fraction": fraction} | some)
    mask = mask_of(asked, strategy, 0.5)
    sample = asked.images(torch.arange(30 if images == "all" else 7))
    jacobians = oracle.jacobian(asked.model, sample)
    with torch.no_grad():
        logits = asked.model.double()(sample.double()).numpy()
    fisher = {
        name: sum(
            np.diag(oracle.information(jacobian.reshape(len(jacobian), -1), one, temperature=0.5))
            for jacobian, one in zip(of_images, logits, strict=True)
        ).tolist()
        for name, of_images in jacobians.items()
    }
    chosen = oracle.mask(kind, fisher, list(LAST_LAYER), fraction and str(fraction), True)
    assert {(n, i) for n, indices in mask.positions.items() for i in indices.tolist()} == chosen


def test_a_mask_in_the_record_is_the_mask() -> None:
    asked = query()
    strategy = FisherMask(**OPTIONS)
    strategy.select(asked, 3, generator())
    recorded = Mask.from_json(asked.recorded["mask"])
    assert recorded == mask_of(query(), strategy)
    assert asked.recorded["mask_sizes"] == recorded.sizes
    unasked = query()
    FisherMask(**OPTIONS | {"record_mask": False}).select(unasked, 3, generator())
    assert set(unasked.recorded) == set(asked.recorded) - {"mask"}


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
def test_the_objective_with_the_identity_is_that_of_all_weights(bias: bool) -> None:
    asked = query(bias=bias)
    options = BAIT_OPTIONS | {"pool_fisher": "identity", "regularization": 0.5}
    picks = BAIT(**options).select(asked, 8, generator()).tolist()
    informations = last_layer_informations(asked, bias)
    prior = sum(informations[x] for x in asked.labelled.tolist()) / 11
    identity = np.eye(len(prior))
    objective = oracle.design_objective(picks, informations, identity, prior, 8 / 11, 0.5)
    assert asked.recorded["objective"] == pytest.approx(objective, rel=1e-6)


def last_layer_informations(asked: Query, bias: bool) -> list[np.ndarray]:
    everything = asked.images(torch.arange(30))
    with torch.no_grad():
        embeddings = asked.model.embed(everything).double().numpy()
        logits = asked.model(everything).double().numpy()
    if bias:
        embeddings = np.concatenate([embeddings, np.ones((30, 1))], axis=1)
    return [
        oracle.information(oracle.last_layer_jacobian(h, len(one)), one)
        for h, one in zip(embeddings, logits, strict=True)
    ]


def test_lambda_and_the_eigenvalues_it_compares_with_are_recorded() -> None:
    asked = query(bias=False)
    options = BAIT_OPTIONS | {"regularization": 0.5, "regularization_scale": "information"}
    BAIT(**options).select(asked, 8, generator())
    eigenvalues = np.linalg.eigvalsh(sum(last_layer_informations(asked, bias=False)) / 30)
    mean = eigenvalues.sum() / 12  # of three classes' 6 weights, less what softmax can't see
    assert asked.recorded["lambda"] == pytest.approx(0.5 * mean, rel=1e-6)
    assert asked.recorded["mean_eigenvalue"] == pytest.approx(mean, rel=1e-6)
    assert asked.recorded["largest_eigenvalue"] == pytest.approx(eigenvalues[-1], rel=1e-3)


@pytest.mark.parametrize("labelled_weight", ["mean", "each"])
def test_what_a_labelled_image_weighs(labelled_weight: str) -> None:
    """As published, n_L / (n_L + K) of the labelled images' mean stands beside K / (n_L + K) of
    each of K picks: a labelled image counts like 1 / K of a pick."""
    asked = query()
    options = BAIT_OPTIONS | {"labelled_weight": labelled_weight}
    picks = BAIT(**options).select(asked, 8, generator()).tolist()
    informations = last_layer_informations(asked, bias=True)
    of_labelled = {"mean": 1 / 11, "each": 8 / 11}[labelled_weight]
    prior = sum(informations[x] for x in asked.labelled.tolist()) * of_labelled
    others = informations, sum(informations) / 30, prior, 8 / 11, 1.0
    objective = oracle.design_objective(picks, *others)
    assert asked.recorded["objective"] == pytest.approx(objective, rel=1e-6)


@pytest.mark.slow
def test_the_objective_is_recorded_and_no_worse_than_that_of_random_batches() -> None:
    asked = query()
    picks = BAIT(**BAIT_OPTIONS).select(asked, 8, generator()).tolist()
    informations = last_layer_informations(asked, bias=True)
    prior = sum(informations[x] for x in asked.labelled.tolist()) / 11
    others = informations, sum(informations) / 30, prior, 8 / 11, 1.0
    objective = oracle.design_objective(picks, *others)
    assert asked.recorded["objective"] == pytest.approx(objective, rel=1e-6)
    chance = np.random.default_rng(0)
    unlabelled = asked.unlabelled.numpy()
    batches = [chance.choice(unlabelled, 8, replace=False).tolist() for _ in range(1000)]
    assert objective <= min(oracle.design_objective(batch, *others) for batch in batches)


@pytest.mark.parametrize("oversampling", [0.0, 1.0])
def test_picks_do_not_depend_on_the_batch_size(oversampling: float) -> None:
    options = OPTIONS | {"oversampling": oversampling}
    picks = [
        FisherMask(**options).select(query(batch_size), 12, generator()).tolist()
        for batch_size in (1, 7, 16, 1000)
    ]
    assert all(other == picks[0] for other in picks)


@pytest.mark.parametrize("kind", [BAIT, FisherMask])
def test_fewer_candidates_and_the_whole_pools_information(kind: type) -> None:
    options = (OPTIONS if kind is FisherMask else BAIT_OPTIONS) | {"max_candidates": 12}
    asked = query()
    strategy = kind(**options)
    chance = generator()
    if kind is FisherMask:
        mask_of(query(), strategy, 1.0, chance)
    candidates = query().unlabelled[torch.randperm(27, generator=chance)[:12]].sort().values
    picks = strategy.select(asked, 5, generator())
    mask = asked.recorded["mask"]["positions"] if kind is FisherMask else None
    assert asked.recorded["candidates"] == 12
    assert picks.tolist() == expected_picks(query(), 5, options, mask, candidates.tolist())


def test_fewer_candidates_than_picks_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"^strategy\.max_candidates=5: should be at least 6"):
        BAIT(**BAIT_OPTIONS | {"max_candidates": 5}).select(query(), 6, generator())
    hybrid = FisherMaskEntropy(fishermask=FisherMask(**OPTIONS | {"max_candidates": 2}))
    with pytest.raises(ConfigError, match=r"^strategy\.fishermask\.max_candidates=2: .* least 3"):
        hybrid.select(query(), 6, generator())


@pytest.mark.parametrize("n", [1, 2, 7])
def test_the_hybrid_completes_what_entropy_picks(n: int) -> None:
    asked = query()
    picks = (
        FisherMaskEntropy(fishermask=FisherMask(**OPTIONS)).select(asked, n, generator()).tolist()
    )
    uncertain = Entropy().select(query(), 27, generator())[: n // 2].tolist()
    assert picks[: n // 2] == uncertain
    mask = asked.recorded["mask"]["positions"]
    assert picks[n // 2 :] == expected_picks(
        query(), n - n // 2, OPTIONS, mask, given=tuple(uncertain)
    )


def memory_error(batch_size: int = 16, **options: Any) -> tuple[float, str]:
    """GiB that a query needs, and what it says if the limit is below that."""
    limited = OPTIONS | {"memory_limit_gib": 2**-16} | options
    with pytest.raises(RunError) as error:
        FisherMask(**limited).select(query(batch_size), 5, generator())
    message = str(error.value)
    return float(message.removeprefix("this query needs ").split()[0]), message


def test_too_much_memory_is_an_error_before_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    needed, message = memory_error()
    assert "\n" not in message
    assert "cpu may use (strategy.memory_limit_gib) 1.53e-05 GiB" in message
    assert "gradients of 27 candidates at" in message
    FisherMask(**OPTIONS | {"memory_limit_gib": needed * 1.01}).select(query(), 5, generator())
    assert "diagonal Fisher information of 93 weights" in memory_error(memory_limit_gib=2**-20)[1]
    monkeypatch.setattr(memory, "available_memory", lambda device: 2**14)
    assert "cpu has 1.53e-05 GiB" in memory_error(memory_limit_gib=None)[1]


PEAK = """
import torch
from tests.benchmarks.selection import kilobytes
from tests.helpers.synthetic import given_query
from fm_al.strategies.bait import BAIT

torch.set_num_threads(1)
images, dimensions, classes = {sizes}
generator = torch.Generator().manual_seed(0)
embeddings = torch.randn(images, dimensions, generator=generator)
logits = embeddings @ torch.randn(dimensions, classes, generator=generator)
query = given_query(embeddings, logits, labelled=range(10))
query.model.head = torch.nn.Linear(dimensions, classes, bias=False)
square = torch.ones(300, 300, dtype=torch.float64)
torch.linalg.cholesky(square @ square + square.diag().diag())  # libraries' own memory
before = kilobytes("VmRSS")
BAIT(**{options}, memory_limit_gib={limit}).select(query, 3, generator)
print(kilobytes("VmHWM") - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peaks of memory are read from /proc")
@pytest.mark.parametrize("sizes", [(4000, 4, 40), (2000, 150, 10)], ids=["classes", "dimensions"])
def test_what_is_reckoned_is_enough(sizes: tuple[int, int, int]) -> None:
    """Many classes make the candidates' small matrices large, many dimensions the k x k ones."""

    def run(limit: float | None) -> subprocess.CompletedProcess[str]:
        options = BAIT_OPTIONS | {"oversampling": 1.0}
        del options["memory_limit_gib"]
        script = PEAK.format(sizes=sizes, limit=limit, options=options)
        command = [sys.executable, "-c", script]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    refused = re.search(r"this query needs ([0-9.e-]+) GiB", run(1e-6).stderr)
    assert refused is not None
    reckoned = float(refused[1]) * 2**20
    peak = int(run(None).stdout)
    assert 0.4 * reckoned < peak < 1.05 * reckoned + 30_000  # kB; 30 MB of libraries' own


@pytest.mark.parametrize(
    ("named", "lower"),
    [
        ("fraction", {"fraction": 0.4}),
        ("max_candidates", {"max_candidates": 6}),
        ("device.scoring_batch_size", {"batch_size": 2}),
        ("jacobian_precision=float16", {"jacobian_precision": "float16"}),
    ],
)
def test_what_the_memory_error_names_lowers_what_is_needed(
    named: str, lower: dict[str, Any]
) -> None:
    needed, message = memory_error()
    assert named in message
    assert memory_error(**lower)[0] < needed


def test_what_a_network_can_not_do_is_found_before_training() -> None:
    network, image = TinyBackbone(classes=3).eval(), torch.zeros(1, 1, 5, 5)
    FisherMask(**OPTIONS).check(network, image)
    small = FisherMask(**OPTIONS | {"fraction": 0.1})
    with pytest.raises(ConfigError, match=r"^strategy\.fraction=0\.1: should be at least 0\.2"):
        small.check(network, image)
    with pytest.raises(ConfigError, match=r"^strategy\.fishermask\.fraction=0\.1: should be at"):
        FisherMaskEntropy(fishermask=small).check(network, image)
    network.norm = nn.Sequential(nn.PReLU(), network.norm).eval()
    with pytest.raises(ConfigError, match=r"norm\.0 \(PReLU\)"):
        FisherMask(**OPTIONS).check(network, image)
    network.norm = nn.BatchNorm2d(6).eval()
    once = network.embed
    network.embed = lambda images: once(images) + once(images)
    with pytest.raises(ConfigError, match=r"convolution \(Conv2d\) is called more than once"):
        FisherMask(**OPTIONS).check(network, image)
    BAIT(**BAIT_OPTIONS).check(network, image)
