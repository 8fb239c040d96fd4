from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from fm_al.data.base import ClassCounts, Dataset, ImageData, Imbalance, Split
from fm_al.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Small(Dataset):
    """12 and 6 images of 3 x 4, each filled with its own number, in three classes by turns."""

    def read(self, data_dir: Path, download: bool) -> ImageData:
        return ImageData(numbered(12), numbered(6), ("ant", "bee", "cat"), content="small")


def numbered(count: int) -> Split:
    numbers = torch.arange(1, count + 1, dtype=torch.uint8)
    images = numbers.view(-1, 1, 1, 1).expand(count, 2, 3, 4).contiguous()
    return Split(images, torch.arange(count) % 3)


@dataclass(frozen=True)
class Fixed(Imbalance):
    kept: ClassCounts

    def counts(self, class_names: tuple[str, ...], pool: list[int], test: list[int]) -> ClassCounts:
        assert (class_names, pool, test) == (("ant", "bee", "cat"), [4, 4, 4], [2, 2, 2])
        return self.kept


def load(**options: object) -> ImageData:
    return Small(**options).load(Path(), download=False)


def test_a_split_counts_its_classes_also_those_without_images():
    assert numbered(4).counts(5) == [2, 1, 1, 0, 0]


def test_loading_without_padding_is_reading():
    data = load()
    assert data.train.images.shape == (12, 2, 3, 4)
    assert data.content == "small"


def test_padding_puts_zeros_evenly_around_the_images():
    data = load(pad_to=6)
    for split, count in ((data.train, 12), (data.test, 6)):
        assert split.images.shape == (count, 2, 6, 6)
        assert split.images.dtype == torch.uint8
        assert torch.equal(split.images[:, :, 1:4, 1:5], numbered(count).images)
        assert int(split.images.sum()) == int(numbered(count).images.sum())
    assert data.content == "small"


def test_padding_to_less_than_the_images_is_refused():
    with pytest.raises(
        ConfigError, match=r"dataset\.pad_to=3: the images are 3 x 4; use at least 4"
    ):
        load(pad_to=3)


@pytest.mark.parametrize("option", ["mean", "std"])
def test_statistics_for_another_number_of_channels_are_refused(option):
    with pytest.raises(
        ConfigError, match=rf"dataset\.{option}=\[0\.5\]: the images have 2 channels"
    ):
        load(**{option: [0.5]})


def test_a_subset_selects_and_renumbers_classes_and_keeps_the_stored_order():
    data = Fixed(ClassCounts([2, 0], [4, 1], [1, 2])).subset(load(), torch.Generator())
    assert data.class_names == ("cat", "ant")
    assert data.train.counts(2) == [4, 1]
    assert data.test.counts(2) == [1, 2]
    for split in (data.train, data.test):
        stored = split.images[:, 0, 0, 0].int() - 1
        assert stored.tolist() == sorted(stored.tolist())
        assert torch.equal(torch.tensor([1, -1, 0])[stored % 3], split.targets)
    assert data.content == "small"


def test_a_subset_is_a_function_of_the_generator():
    imbalance = Fixed(ClassCounts([0, 1, 2], [2, 2, 2], [1, 1, 1]))
    drawn = [
        imbalance.subset(load(), torch.Generator().manual_seed(seed))
        .train.images[:, 0, 0, 0]
        .tolist()
        for seed in (0, 0, 1)
    ]
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_subset_is_drawn_uniformly():
    imbalance = Fixed(ClassCounts([0, 1], [1, 1], [1, 1]))
    generator = torch.Generator().manual_seed(0)
    drawn = torch.cat(
        [imbalance.subset(load(), generator).train.images[:, 0, 0, 0] for _ in range(400)]
    )
    times = torch.bincount(drawn.int(), minlength=13)
    assert times.nonzero().squeeze(1).tolist() == [1, 2, 4, 5, 7, 8, 10, 11]
    assert ((times[times > 0] - 100).abs() < 45).all()


def test_a_subset_larger_than_a_class_is_refused():
    with pytest.raises(ConfigError, match="5 images of class 1, which has 4"):
        Fixed(ClassCounts([0, 1], [1, 5], [1, 1])).subset(load(), torch.Generator())


def test_a_data_set_is_summed_up_in_one_line_however_many_classes_it_has():
    assert load().summary() == (
        "3 classes, 12 images in the pool and 6 in the test set: ant 4/2, bee 4/2, cat 4/2"
    )
    many = ImageData(numbered(30), numbered(6), tuple(f"c{number}" for number in range(1000)))
    assert many.summary().endswith("c8 0/0, c9 0/0, and 990 more")
    odd = ImageData(numbered(3), numbered(3), ("a\nb", "\x1b[2J", "größe"))
    assert odd.summary().endswith(r"'a\nb' 1/1, '\x1b[2J' 1/1, größe 1/1")
