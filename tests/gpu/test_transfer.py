"""Images that are kept in main memory and sent to the GPU."""

from __future__ import annotations

import pytest
import torch

from fm_al.data.images import Images
from tests.helpers.gpu import CPU, GPU, on_gpu

pytestmark = on_gpu


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.float32])
@pytest.mark.parametrize("batch_size", [1, 64, 1000])
def test_images_in_main_memory_give_the_bits_of_those_on_the_device(
    dtype: torch.dtype, batch_size: int
) -> None:
    drawn = torch.randint(256, (900, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    mean, std = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.25, 0.2, 0.3])
    on_host = Images(drawn.to(dtype), mean, std, 2, True, torch.channels_last, GPU)
    on_device = Images(drawn.to(GPU, dtype), mean, std, 2, True, torch.channels_last, GPU)
    indices = torch.randperm(900, generator=torch.Generator().manual_seed(1))
    for where in (CPU, GPU):
        both = [images.batches(indices.to(where), batch_size) for images in (on_host, on_device)]
        for (part, batch), (same_part, same_batch) in zip(*both, strict=True):
            assert torch.equal(part, same_part)
            assert torch.equal(batch, same_batch)
            batch.zero_()  # its memory may be reused while later batches are under way
    for images in (on_host, on_device):
        assert images.batch(indices).device.type == GPU.type
    draws = [torch.Generator().manual_seed(2) for _ in range(4)]
    assert torch.equal(
        on_host.augmented_batch(indices, draws[0]), on_device.augmented_batch(indices, draws[1])
    )
    once = on_host.augmented(draws[2])
    assert once.stored.device.type == "cpu"
    assert torch.equal(once.batch(indices), on_device.augmented(draws[3]).batch(indices))
