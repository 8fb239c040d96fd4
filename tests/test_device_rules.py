"""Code under CUDA's rules about devices, on a machine without a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fm_al.fisher import select_bait, select_fishermask
from fm_al.fisher.jacobian import diagonal_fisher
from fm_al.strategies.bait import BAIT
from fm_al.strategies.base import Strategy
from fm_al.strategies.fishermask import FisherMask
from tests.gpu.test_strategies import resnet_query
from tests.helpers.configs import built, names
from tests.helpers.made_records import without_times
from tests.helpers.moved import moved_network, moved_query
from tests.helpers.pretended_device import CPU, CUDA, MixedDevices, PretendedCuda
from tests.strategies.test_contract import POOLS, generator
from tests.test_experiment import ran


@pytest.fixture
def cuda() -> Iterator[PretendedCuda]:
    with PretendedCuda() as pretended:
        yield pretended


def gpu(*shape: int) -> Tensor:
    return torch.ones(shape, device="cuda")


def cpu(*shape: int) -> Tensor:
    return torch.ones(shape)


MISTAKES: dict[str, Callable[[], object]] = {
    "sum": lambda: gpu(3) + cpu(3),
    "in_place": lambda: cpu(3).add_(gpu(3)),
    "number_on_the_gpu": lambda: cpu(3) * gpu(),
    "into_a_number": lambda: cpu().add_(gpu()),
    "product": lambda: gpu(3, 3) @ cpu(3, 3),
    "joined": lambda: torch.cat([gpu(3), cpu(3)]),
    "out": lambda: torch.add(gpu(3), gpu(3), out=cpu(3)),
    "index": lambda: cpu(3)[torch.zeros(2, dtype=torch.int64, device="cuda")],
    "mask": lambda: cpu(3)[gpu(3) > 0],
    "values": lambda: gpu(3).__setitem__(torch.tensor([0, 1]), cpu(2)),
    "index_select": lambda: gpu(3).index_select(0, torch.tensor([0])),
    "gather": lambda: gpu(3).gather(0, torch.tensor([0])),
    "isin": lambda: torch.isin(gpu(3), cpu(2)),
    "where": lambda: torch.where(gpu(3) > 0, cpu(3), gpu(3)),
    "like_one_of_the_cpu": lambda: gpu(3) + torch.zeros_like(cpu(3)),
    "new_of_one_on_the_cpu": lambda: gpu(3) + cpu(1).new_zeros(3),
    "arange": lambda: gpu(3) + torch.arange(3),
    "linear": lambda: torch.nn.Linear(3, 3)(gpu(2, 3)),
    "loss": lambda: torch.nn.functional.cross_entropy(gpu(2, 3), torch.tensor([0, 1])),
    "generator": lambda: torch.rand(3, device="cuda", generator=torch.Generator()),
    "generator_of_the_gpu": lambda: torch.rand(3, generator=torch.Generator("cuda")),
    "gradient": lambda: torch.autograd.grad(
        (leaf := gpu(3).requires_grad_()).square(), [leaf], grad_outputs=cpu(3)
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_planted_mistake_is_found(cuda: PretendedCuda, mistake: str) -> None:
    with pytest.raises(MixedDevices):
        MISTAKES[mistake]()


ALLOWED: dict[str, Callable[[], Tensor]] = {
    "number": lambda: gpu(3) + torch.tensor(2.0),
    "plain_number": lambda: gpu(3) * 2,
    "index": lambda: gpu(3)[torch.tensor([0, 1])],
    "mask": lambda: gpu(3)[torch.tensor([True, False, True])],
    "list": lambda: gpu(3)[[0, 1]],
    "values": lambda: gpu(3).index_put_((torch.tensor([0]),), torch.tensor(2.0)),
    "copy": lambda: gpu(3).copy_(cpu(3)),
    "moved": lambda: cpu(3).to("cuda") + cpu(3).cuda() + cpu(3).to(gpu()) + cpu(3).to(device=CUDA),
    "like": lambda: gpu(3) + torch.ones_like(gpu(3)) + gpu(1).new_ones(3),
    "as_tensor": lambda: torch.as_tensor([1.0, 2.0], device=CUDA) + gpu(2),
    "one_hot": lambda: torch.nn.functional.one_hot(gpu(3).long()) + gpu(3, 2),
    "view": lambda: gpu(4).view(2, 2).T[0] + gpu(2),
    "double": lambda: gpu(3).double() + gpu(3).long(),
    "module": lambda: torch.nn.Linear(3, 3).to("cuda")(gpu(2, 3)),
    "generator": lambda: torch.empty(3, device="cuda").bernoulli_(
        generator=torch.Generator("cuda")
    ),
}


@pytest.mark.parametrize("what", ALLOWED)
def test_what_cuda_allows_is_allowed_and_stays_on_the_gpu(cuda: PretendedCuda, what: str) -> None:
    assert ALLOWED[what]().device == CUDA


def test_what_is_moved_to_the_cpu_is_a_copy_there(cuda: PretendedCuda) -> None:
    there = gpu(3)
    here = there.cpu()
    here += cpu(3)
    assert (there.device, here.device) == (CUDA, CPU)
    assert there.tolist() == [1, 1, 1]
    with pytest.raises(TypeError):
        there.numpy()
    assert (there.to(torch.float64).device, there.to(CPU).device) == (CUDA, CPU)


@pytest.fixture(params=names("strategy"))
def strategy(request: pytest.FixtureRequest) -> Strategy:
    return built("strategy", request.param)


@pytest.mark.parametrize("on_host", [False, True])
@pytest.mark.parametrize("pool", ["ordinary", "one_labelled", "equal_images"])
def test_strategies_mix_no_devices_and_pick_as_on_the_cpu(
    strategy: Strategy, pool: str, on_host: bool
) -> None:
    expected = strategy.select(POOLS[pool](), 7, generator(3)).tolist()
    on_cpu = POOLS[pool]()
    with PretendedCuda():
        query = moved_query(on_cpu, torch.device("cuda"), on_host)
        assert query.device == CUDA
        picks = strategy.select(query, 7, generator(3))
        assert query.logits.device == query.embeddings.device == CUDA
    assert picks.tolist() == expected


FISHER = {
    "bait": [
        {"oversampling": 0.5},
        {"oversampling": 2.0, "weighting": "uniform"},
        {"pool_fisher": "pool", "labelled_weight": "mean", "temperature": 1.0},
        {"pool_fisher": "class_balanced", "labelled_fisher": False},
        {"pool_fisher": "identity", "max_candidates": 20},
        {"regularization_scale": "absolute", "regularization": 1.0},
        {"regularization": 1e-9},  # loses digits, and computes again with care
        {"approximation": "top_classes", "top_classes": 2, "oversampling": 0.5},
        {"approximation": "binary", "oversampling": 0.5},
        {"approximation": "blocks", "oversampling": 0.5},
        {"approximation": "auto", "memory_limit_gib": 0.01},
    ],
    "fishermask": [
        {"oversampling": 0.5, "mask": "dispersed", "fraction": 0.01},
        {"mask": "relative", "whole_last_layer": False},
        {"mask": "random", "fraction": 0.01, "record_mask": True},
        {"jacobians": "host", "oversampling": 0.5},
        {"jacobian_precision": "float16", "max_candidates": 20},
        {"jacobians": "host", "jacobian_precision": "float16", "mask_sample": "first"},
        {"approximation": "top_classes", "top_classes": 2, "oversampling": 0.5},
        {"approximation": "binary", "oversampling": 0.5},
    ],
}
CASES = [(name, options) for name, many in FISHER.items() for options in many]


@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_every_way_of_fisher_selection(name: str, options: dict[str, object]) -> None:
    strategy = built("strategy", name, **options)
    on_cpu = resnet_query(images=60, labelled=8)
    expected = strategy.select(on_cpu, 7, generator(3)).tolist()
    with PretendedCuda():
        query = moved_query(on_cpu, torch.device("cuda"))
        assert strategy.select(query, 7, generator(3)).tolist() == expected


def test_the_library_takes_tensors_of_the_gpu() -> None:
    query = resnet_query(images=60, labelled=8)
    images = query.images(torch.arange(60))
    labelled = query.labelled.tolist()
    bait = select_bait(query.embeddings, query.logits, labelled, 5).tolist()
    mask = select_fishermask(query.model, images, labelled, 5, batch_size=16).tolist()
    with PretendedCuda():
        there = moved_query(query, torch.device("cuda"))
        picks = select_bait(there.embeddings, there.logits, labelled, 5)
        assert (picks.device, picks.tolist()) == (CUDA, bait)
        for batches in (images, images.to("cuda")):
            picks = select_fishermask(there.model, batches, labelled, 5, batch_size=16)
            assert (picks.device, picks.tolist()) == (CUDA, mask)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ["strategy=random", "backbone=mlp", "trainer=standard"],
        ["strategy=fishermask", "backbone=cnn", "backbone.widths=[4,8]", "trainer.reset=weights"],
        ["strategy=bait", "backbone=cnn", "backbone.widths=[4,8]", "trainer.reset=none"],
        ["strategy=badge", "dataset.crop_padding=1", "dataset.horizontal_flip=true"],
        ["strategy=margin", "strategy.augment=true", "trainer.class_balanced=true"],
        ["strategy=coreset", "device.pool=host", "dataset.crop_padding=1", "features=pca"],
    ],
    ids=lambda options: options[0],
)
def test_a_whole_run_mixes_no_devices(compose, options: list[str]) -> None:
    """Its records are those of the CPU but for rounding: optimizers take another path on a GPU."""
    both = ["budget.total=20", "device.precision=fp32", "device.scoring_batch_size=128", *options]
    rounds, _ = without_times(ran(compose, "experiment_name=cpu", *both))
    with PretendedCuda():
        there, _ = without_times(ran(compose, "experiment_name=gpu", "device=cuda", *both))
    assert [record["labelled"] for record in there] == [10, 20]
    for ours, theirs in zip(there, rounds, strict=True):
        assert ours["accuracy"] == pytest.approx(theirs["accuracy"], abs=0.1)


def test_squared_gradients_on_a_gpu_are_those_on_the_cpu() -> None:
    """A GPU squares many images together, a CPU one after the other."""
    query = resnet_query(images=30)
    images = query._pool.images(torch.arange(30))
    rows = torch.randn(30, 3, query.classes, generator=generator())
    of_cpu = diagonal_fisher(query.model, [(images, rows)])
    with PretendedCuda():
        network = moved_network(query.model, CUDA)
        of_gpu = diagonal_fisher(network, [(images.to(CUDA), rows.to(CUDA))])
        found = {name: squares.cpu() for name, squares in of_gpu.items()}
    for name, squares in of_cpu.items():
        torch.testing.assert_close(found[name], squares, rtol=1e-4, atol=1e-7)


PER_PICK = 9  # times that a pick makes the CPU wait for the GPU
PER_PICK_OF_A_DESIGN = 4  # the same of BAIT and FisherMask, per addition or removal


@pytest.mark.parametrize("oversampling", [0.0, 1.0])
def test_a_pick_makes_the_cpu_wait_a_few_times(strategy: Strategy, oversampling: float) -> None:
    design = isinstance(strategy, BAIT | FisherMask)
    if oversampling and not design:
        pytest.skip("picks nothing that it removes again")
    if oversampling:
        strategy = replace(strategy, oversampling=oversampling)
    on_cpu = resnet_query(images=60, labelled=8)
    waits = []
    for n in (5, 15):
        with PretendedCuda() as cuda:
            query = moved_query(on_cpu, torch.device("cuda"))
            assert len(query.logits)
            before = cuda.synchronisations.total()
            strategy.select(query, n, generator())
            waits.append(cuda.synchronisations.total() - before)
    most = PER_PICK_OF_A_DESIGN * (1 + 2 * oversampling) if design else PER_PICK
    assert (waits[1] - waits[0]) / 10 <= most, waits


@pytest.mark.parametrize("augment", [False, True])
def test_a_batch_of_training_does_not_make_the_cpu_wait(augment: bool) -> None:
    """An epoch does, a few times, whatever its batches."""
    on_cpu = resnet_query(images=60, labelled=48)
    waits = []
    for batch_size in (24, 4):
        with PretendedCuda() as cuda:
            query = moved_query(on_cpu, torch.device("cuda"))
            trainer = built("trainer", "paper", batch_size=batch_size, max_epochs=1)
            trainer = replace(trainer, augment=augment, batch_norm="running")
            cuda.synchronisations.clear()
            trainer.fit(query.model, query._pool, None, 0, 0, lambda epoch, accuracy: None)
            waits.append(cuda.synchronisations.total())
    assert waits[0] == waits[1] < 10, waits
