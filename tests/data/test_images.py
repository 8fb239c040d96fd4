from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from fm_al.data.images import Images, channel_statistics

MEAN = torch.tensor([0.5, 0.4, 0.3])
STD = torch.tensor([0.25, 0.2, 0.3])


def random_images(count: int, height: int = 7, width: int = 7, channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    shape = (count, channels, height, width)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def as_bytes(batch: Tensor) -> Tensor:
    """The images a normalised batch was made of."""
    return ((batch * STD.view(3, 1, 1) + MEAN.view(3, 1, 1)) * 255).round().to(torch.uint8)


def window_of(image: Tensor, padded: Tensor) -> tuple[int, int] | None:
    """Where in a padded image the image is, if it is there."""
    height, width = image.shape[1:]
    for top in range(padded.shape[1] - height + 1):
        for left in range(padded.shape[2] - width + 1):
            if torch.equal(padded[:, top : top + height, left : left + width], image):
                return top, left
    return None


def test_a_batch_of_all_images_equals_normalising_each_by_itself():
    stored = random_images(20, 5, 8)
    expected = torch.stack(
        [(image / 255 - MEAN.view(3, 1, 1)) / STD.view(3, 1, 1) for image in stored]
    )
    batch = Images(stored, MEAN, STD).batch(torch.arange(20))
    assert batch.dtype == torch.float32
    torch.testing.assert_close(batch, expected, rtol=1e-5, atol=1e-5)


def test_a_batch_follows_the_order_of_its_indices_and_leaves_what_is_stored():
    stored = random_images(10)
    before = stored.clone()
    images = Images(stored, MEAN, STD, crop_padding=2, horizontal_flip=True)
    indices = torch.tensor([7, 0, 7])
    assert torch.equal(as_bytes(images.batch(indices)), stored[indices])
    images.augmented_batch(indices, torch.Generator())
    assert torch.equal(images.stored, before)


@settings(max_examples=30, deadline=None)
@given(
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    padding=st.integers(1, 3),
    flip=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_every_crop_is_a_window_of_the_padded_image(height, width, padding, flip, seed):
    stored = random_images(6, height, width)
    images = Images(stored, MEAN, STD, padding, flip)
    batch = images.augmented_batch(torch.arange(6), torch.Generator().manual_seed(seed))
    for image, original in zip(as_bytes(batch), stored, strict=True):
        padded = functional.pad(original, (padding,) * 4)
        there = window_of(image, padded)
        mirrored = window_of(image.flip(2), padded) if flip else None
        assert there is not None or mirrored is not None


def test_all_crops_occur_equally_often_and_half_of_them_are_mirrored():
    stored = torch.arange(1, 28, dtype=torch.uint8).view(1, 3, 3, 3)
    padded = functional.pad(stored[0], (1, 1, 1, 1))
    images = Images(stored, MEAN, STD, crop_padding=1, horizontal_flip=True)
    count = 3600
    batch = images.augmented_batch(
        torch.zeros(count, dtype=torch.int64), torch.Generator().manual_seed(0)
    )
    kinds, times = as_bytes(batch).unique(dim=0, return_counts=True)
    assert len(kinds) == 18
    places = [window_of(k, padded) or window_of(k.flip(2), padded) for k in kinds]
    assert sorted(places) == sorted([(y, x) for y in range(3) for x in range(3)] * 2)
    assert ((times - count / 18).abs() < 5 * (count / 18) ** 0.5).all()


def test_flips_without_crops_are_the_image_or_its_mirror_image():
    stored = random_images(64)
    images = Images(stored, MEAN, STD, horizontal_flip=True)
    batch = as_bytes(images.augmented_batch(torch.arange(64), torch.Generator().manual_seed(0)))
    same = (batch == stored).flatten(1).all(1)
    mirrored = (batch == stored.flip(3)).flatten(1).all(1)
    assert (same | mirrored).all()
    assert 16 < int(mirrored.sum()) < 48


def test_augmentation_is_a_function_of_the_generator():
    images = Images(random_images(32), MEAN, STD, crop_padding=2, horizontal_flip=True)
    first, again, other = (
        images.augmented_batch(torch.arange(32), torch.Generator().manual_seed(seed))
        for seed in (3, 3, 4)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("method", ["batch", "augmented_batch"])
def test_an_empty_batch_keeps_its_shape(method):
    images = Images(random_images(3), MEAN, STD, crop_padding=1)
    empty = torch.empty(0, dtype=torch.int64)
    arguments = (empty,) if method == "batch" else (empty, torch.Generator())
    assert getattr(images, method)(*arguments).shape == (0, 3, 7, 7)


def test_channels_last_changes_the_layout_and_no_value():
    stored = random_images(4)
    contiguous = Images(stored, MEAN, STD)
    last = Images(stored, MEAN, STD, memory_format=torch.channels_last)
    indices = torch.arange(4)
    assert last.batch(indices).is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(last.batch(indices), contiguous.batch(indices))


@pytest.mark.parametrize(
    ("padding", "flip", "augments"), [(0, False, False), (1, False, True), (0, True, True)]
)
def test_augments_says_whether_training_images_differ(padding, flip, augments):
    assert Images(random_images(1), MEAN, STD, padding, flip).augments is augments


def test_channel_statistics_are_those_of_the_floats():
    stored = random_images(50)
    mean, std = channel_statistics(stored)
    floats = stored.double() / 255
    torch.testing.assert_close(mean, floats.mean((0, 2, 3)).float())
    torch.testing.assert_close(std, floats.std((0, 2, 3), correction=0).float())


def test_a_constant_channel_has_deviation_one_so_that_it_can_be_divided_by():
    mean, std = channel_statistics(torch.full((2, 1, 3, 3), 51, dtype=torch.uint8))
    assert mean.item() == pytest.approx(0.2)
    assert std.item() == 1


def test_images_augmented_once_are_windows_of_themselves_and_stay_so() -> None:
    stored = random_images(40)
    images = Images(stored, MEAN, STD, crop_padding=2, horizontal_flip=True)
    once = images.augmented(torch.Generator().manual_seed(3))
    assert not once.augments
    everything = torch.arange(40)
    expected = images.augmented_batch(everything, torch.Generator().manual_seed(3))
    assert torch.equal(once.batch(everything), expected)
    assert torch.equal(once.batch(torch.tensor([7])), once.batch(torch.tensor([7])))
    assert not torch.equal(once.stored, stored)


@pytest.mark.parametrize("count", [0, 1, 5, 16, 17])
def test_batches_are_the_parts_of_a_batch(count: int) -> None:
    images = Images(random_images(20), MEAN, STD, memory_format=torch.channels_last)
    indices = torch.randperm(20, generator=torch.Generator().manual_seed(0))[:count]
    parts = list(images.batches(indices, 5))
    assert [len(part) for part, _ in parts] == [len(part) for part in indices.split(5) if count]
    for part, batch in parts:
        assert torch.equal(batch, images.batch(part))
        assert batch.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(torch.cat([indices[:0], *(part for part, _ in parts)]), indices)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_floats_are_taken_as_they_are(dtype: torch.dtype) -> None:
    stored = torch.randn(12, 5, 1, 1, generator=torch.Generator().manual_seed(0)).to(dtype)
    before = stored.clone()
    images = Images(stored, torch.full((5,), 0.5), torch.full((5,), 0.25))
    indices = torch.tensor([3, 0, 11])
    batch = images.batch(indices)
    assert batch.dtype == torch.float32
    assert torch.equal(batch, stored[indices].float())
    batch.zero_()
    assert torch.equal(images.stored, before)
    assert torch.equal(images.augmented_batch(indices, torch.Generator()), stored[indices].float())


def test_floats_may_be_a_memory_map(tmp_path: Path) -> None:
    features = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float16)
    np.save(tmp_path / "features.npy", features)
    mapped = np.load(tmp_path / "features.npy", mmap_mode="c")
    images = Images(torch.from_numpy(mapped)[:, :, None, None], torch.zeros(4), torch.ones(4))
    batches = [batch for _, batch in images.batches(torch.arange(9), 4)]
    np.testing.assert_array_equal(torch.cat(batches)[:, :, 0, 0].numpy(), features)


def test_a_view_numbers_its_images_anew_and_so_does_a_view_of_it() -> None:
    images = Images(random_images(20), MEAN, STD, crop_padding=1, horizontal_flip=True)
    among = images.among(torch.tensor([3, 7, 8, 19]))
    assert len(among) == 4
    assert torch.equal(among.batch(torch.tensor([3, 0])), images.batch(torch.tensor([19, 3])))
    again = among.among(torch.tensor([1, 3]))
    assert torch.equal(again.batch(torch.arange(2)), images.batch(torch.tensor([7, 19])))
    drawn = [torch.Generator().manual_seed(0) for _ in range(3)]
    expected = images.augmented_batch(torch.tensor([7, 19]), drawn[0])
    assert torch.equal(again.augmented_batch(torch.arange(2), drawn[1]), expected)
    assert torch.equal(again.augmented(drawn[2]).batch(torch.arange(2)), expected)


def test_augmenting_some_at_a_time_is_augmenting_all(monkeypatch: pytest.MonkeyPatch) -> None:
    images = Images(random_images(40), MEAN, STD, crop_padding=2, horizontal_flip=True)
    expected = images.augmented_batch(torch.arange(40), torch.Generator().manual_seed(3))
    monkeypatch.setattr("fm_al.data.images.CHUNK", 7)
    once = images.augmented(torch.Generator().manual_seed(3))
    assert torch.equal(once.batch(torch.arange(40)), expected)
