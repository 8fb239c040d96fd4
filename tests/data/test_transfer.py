from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fm_al.data.images import Images
from fm_al.data.transfer import batches_to_device, one_ahead


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_a_copy_is_begun_before_the_result_of_the_one_before_is_used(count: int) -> None:
    happened: list[str] = []

    def begin(rows: Tensor) -> Callable[[], Tensor]:
        number = int(rows)
        happened.append(f"begin {number}")
        return lambda: happened.append(f"finish {number}") or rows

    for rows in one_ahead(begin, [torch.tensor(number) for number in range(count)]):
        happened.append(f"use {int(rows)}")
    expected = ["begin 0"] if count else []
    for number in range(count):
        if number + 1 < count:
            expected.append(f"begin {number + 1}")
        expected += [f"finish {number}", f"use {number}"]
    assert happened == expected


def test_on_one_device_a_batch_is_made_when_it_is_asked_for() -> None:
    stored = torch.arange(10)
    batches = batches_to_device(stored, torch.arange(10).split(4), torch.device("cpu"))
    assert next(batches).tolist() == [0, 1, 2, 3]
    stored.zero_()
    assert next(batches).tolist() == [0, 0, 0, 0]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.float32])
@pytest.mark.parametrize("batch_size", [1, 64, 1000])
def test_images_in_main_memory_give_the_bits_of_those_on_the_device(
    dtype: torch.dtype, batch_size: int
) -> None:
    device = torch.device("cuda")
    drawn = torch.randint(256, (900, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    mean, std = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.25, 0.2, 0.3])
    on_host = Images(drawn.to(dtype), mean, std, 2, True, torch.channels_last, device)
    on_device = Images(drawn.to(device, dtype), mean, std, 2, True, torch.channels_last, device)
    indices = torch.randperm(900, generator=torch.Generator().manual_seed(1))
    for where in (torch.device("cpu"), device):
        both = [images.batches(indices.to(where), batch_size) for images in (on_host, on_device)]
        for (part, batch), (same_part, same_batch) in zip(*both, strict=True):
            assert torch.equal(part, same_part)
            assert torch.equal(batch, same_batch)
            batch.zero_()  # its memory may be reused while later batches are under way
    for images in (on_host, on_device):
        assert images.batch(indices).device.type == "cuda"
    draws = [torch.Generator().manual_seed(2) for _ in range(4)]
    assert torch.equal(
        on_host.augmented_batch(indices, draws[0]), on_device.augmented_batch(indices, draws[1])
    )
    once = on_host.augmented(draws[2])
    assert once.stored.device.type == "cpu"
    assert torch.equal(once.batch(indices), on_device.augmented(draws[3]).batch(indices))
