"""Code under CUDA's rules about devices, on a machine without a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from fm_al.strategies.base import Strategy
from tests.helpers.configs import built, names
from tests.helpers.moved import moved_query
from tests.helpers.pretended_device import CPU, CUDA, MixedDevices, PretendedCuda
from tests.strategies.test_contract import POOLS, generator


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


@pytest.mark.parametrize("pool", ["ordinary", "one_labelled", "equal_images"])
def test_strategies_mix_no_devices_and_pick_as_on_the_cpu(strategy: Strategy, pool: str) -> None:
    expected = strategy.select(POOLS[pool](), 7, generator(3)).tolist()
    on_cpu = POOLS[pool]()
    with PretendedCuda():
        query = moved_query(on_cpu, torch.device("cuda"))
        assert query.device == CUDA
        picks = strategy.select(query, 7, generator(3))
        assert query.logits.device == query.embeddings.device == CUDA
    assert picks.tolist() == expected
