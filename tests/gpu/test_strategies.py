"""Every strategy on the GPU: its contract, and its picks beside those on the CPU."""

from __future__ import annotations

import pytest
import torch

from fm_al.backbones.resnet import ResNet
from fm_al.data.images import Images
from fm_al.data.pool import Pool
from fm_al.fisher.selection import bait_selection, fishermask_selection
from fm_al.strategies.base import Query, Strategy
from fm_al.strategies.optimal_design import option_names, pool_network, scored_pool
from tests.helpers.configs import built, names
from tests.helpers.gpu import CPU, GPU, on_gpu
from tests.helpers.moved import moved_query, with_scores_of
from tests.strategies.test_contract import POOLS, assert_picks_are_allowed, generator

pytestmark = on_gpu

CLASSES = 4


def resnet_query(images: int = 300, labelled: int = 20) -> Query:
    """Of a small residual network on random images, on the CPU."""
    seeded = generator(1)
    pixels = torch.randint(256, (images, 3, 16, 16), dtype=torch.uint8, generator=seeded)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = ResNet(3, CLASSES, (16, 16), "basic", 8, [1, 1, 1, 1], head_bias=False)
    targets = torch.arange(images) % CLASSES
    mean = torch.full((3,), 0.5)
    features = pixels[:, :, ::4, ::4].flatten(1).float() / 255
    pool = Pool(Images(pixels, mean, mean / 2, 2, True), targets, CLASSES, features)
    pool.label(torch.randperm(images, generator=seeded)[:labelled])
    return Query(network.eval(), pool, batch_size=64)


@pytest.fixture(params=names("strategy"))
def strategy(request: pytest.FixtureRequest) -> Strategy:
    return built("strategy", request.param)


@pytest.mark.parametrize("pool", POOLS)
def test_picks_keep_the_contract(strategy: Strategy, pool: str) -> None:
    on_cpu = POOLS[pool]()
    query = moved_query(on_cpu, GPU)
    picks = strategy.select(query, 7, generator(3))
    assert_picks_are_allowed(picks.to(GPU), 7, query)
    again = strategy.select(moved_query(on_cpu, GPU), 7, generator(3))
    assert again.tolist() == picks.tolist()
    assert {parameter.device.type for parameter in query.model.parameters()} == {GPU.type}


def test_picks_are_those_of_the_cpu_for_equal_scores(
    strategy: Strategy, request: pytest.FixtureRequest
) -> None:
    if "bald" in request.node.name or "drop_query" in request.node.name:
        pytest.skip("masks are drawn on the device: GPUs and CPUs draw differently")
    on_cpu = resnet_query()
    # As sure as a trained network: an untrained one has near ties, which rounding orders.
    torch.no_grad()(on_cpu.model.head.weight.mul_)(10)
    query = with_scores_of(moved_query(on_cpu, GPU), on_cpu)
    picks = strategy.select(query, 20, generator()).tolist()
    of_cpu = strategy.select(on_cpu, 20, generator()).tolist()
    assert picks == of_cpu


@pytest.mark.parametrize("oversampling", [0.0, 0.5])
def test_bait_picks_the_same_in_float64(oversampling: float) -> None:
    on_cpu = resnet_query()
    query = with_scores_of(moved_query(on_cpu, GPU), on_cpu)
    options = built("strategy", "bait", oversampling=oversampling)
    ours, theirs = (
        bait_selection(scored_pool(each), 30, generator(), options, option_names())
        for each in (query, on_cpu)
    )
    assert ours.picks.device.type == GPU.type
    assert ours.picks.tolist() == theirs.picks.tolist()
    assert ours.report == pytest.approx(theirs.report, rel=1e-9)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"oversampling": 0.5},
        {"mask": "dispersed", "fraction": 0.01},
        {"jacobians": "host"},
        {"jacobian_precision": "float16"},
        {"jacobians": "host", "jacobian_precision": "float16", "oversampling": 0.5},
    ],
    ids=str,
)
def test_fishermask_picks_the_same_up_to_the_gradients_rounding(options) -> None:
    """Gradients come from the network in float32, so they differ in their last digits."""
    on_cpu = resnet_query()
    query = with_scores_of(moved_query(on_cpu, GPU), on_cpu)
    fishermask = built("strategy", "fishermask", **options)
    reports, picks = [], []
    for each in (query, on_cpu):
        selection = fishermask_selection(
            scored_pool(each),
            pool_network(each),
            each.labelled[:0],
            30,
            generator(),
            fishermask,
            option_names(),
        )
        picks.append(selection.picks.tolist())
        reports.append(selection.report)
    assert len({*picks[0]} & {*picks[1]}) >= 28
    for name in ("objective", "lambda", "mean_eigenvalue"):
        assert reports[0][name] == pytest.approx(reports[1][name], rel=1e-3), name


def test_scores_are_those_of_the_cpu_up_to_rounding() -> None:
    on_cpu = resnet_query()
    query = moved_query(on_cpu, GPU)
    for name in ("embeddings", "logits", "probabilities"):
        ours, theirs = getattr(query, name), getattr(on_cpu, name)
        assert ours.device.type == GPU.type
        torch.testing.assert_close(ours.to(CPU), theirs, rtol=1e-3, atol=1e-4)


def test_bf16_scores_are_those_of_fp32_within_its_digits() -> None:
    on_cpu = resnet_query()
    query = moved_query(on_cpu, GPU)
    query.autocast = torch.bfloat16
    assert query.logits.dtype == torch.float32
    error = (query.embeddings.to(CPU) - on_cpu.embeddings).norm() / on_cpu.embeddings.norm()
    assert error < 0.03


@pytest.mark.parametrize("approximation", ["top_classes", "binary", "blocks"])
@pytest.mark.parametrize("oversampling", [0.0, 0.5])
def test_approximations_pick_the_same_in_float64(approximation: str, oversampling: float) -> None:
    on_cpu = resnet_query()
    query = with_scores_of(moved_query(on_cpu, GPU), on_cpu)
    options = built(
        "strategy", "bait", approximation=approximation, top_classes=2, oversampling=oversampling
    )
    ours, theirs = (
        bait_selection(scored_pool(each), 30, generator(), options, option_names())
        for each in (query, on_cpu)
    )
    assert ours.picks.tolist() == theirs.picks.tolist()


def test_images_in_main_memory_give_the_same_picks(strategy: Strategy) -> None:
    on_cpu = resnet_query()
    on_device, on_host = (moved_query(on_cpu, GPU, on_host=where) for where in (False, True))
    assert torch.equal(on_device.embeddings, on_host.embeddings)
    picks = strategy.select(on_host, 20, generator())
    assert picks.tolist() == strategy.select(on_device, 20, generator()).tolist()
