"""What holds for every file in conf/imbalance."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fm_al.data.base import ImageData, Imbalance, Split
from tests.helpers.configs import built, names

REQUIRED: dict[str, dict[str, Any]] = {"counts": {"pool": {"c7": 30, 2: 5}}}
CLASSES = 10


def images_of(counts: list[int]) -> Split:
    """Images that hold their own position, with their classes in random order."""
    targets = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    targets = targets[torch.randperm(len(targets), generator=torch.Generator().manual_seed(0))]
    positions = torch.arange(len(targets))
    images = torch.stack([positions // 256, positions % 256], 1).to(torch.uint8)
    return Split(images.view(-1, 2, 1, 1), targets)


@pytest.fixture(scope="module")
def data() -> ImageData:
    names_ = tuple(f"c{number}" for number in range(CLASSES))
    return ImageData(images_of([5100] * CLASSES), images_of([980] + [1010] * 9), names_)


@pytest.fixture(params=names("imbalance"))
def imbalance(request: pytest.FixtureRequest) -> Imbalance:
    return built("imbalance", request.param, **REQUIRED.get(request.param, {}))


def test_counts_are_possible(imbalance, data):
    pool, test = data.train.counts(CLASSES), data.test.counts(CLASSES)
    kept = imbalance.counts(data.class_names, pool, test)
    assert len(set(kept.classes)) == len(kept.classes) == len(kept.pool) == len(kept.test) >= 2
    for counts, available in ((kept.pool, pool), (kept.test, test)):
        for members, count in zip(kept.members, counts, strict=True):
            assert 1 <= count <= sum(available[c] for c in members)
    everyone = [c for members in kept.members for c in members]
    assert len(set(everyone)) == len(everyone)
    assert set(everyone) <= set(range(CLASSES))


def test_the_subset_has_the_counts_and_its_images_their_classes(imbalance, data):
    kept = imbalance.counts(data.class_names, data.train.counts(CLASSES), data.test.counts(CLASSES))
    subset = imbalance.subset(data, torch.Generator().manual_seed(0))
    assert subset.class_names == kept.names(data.class_names)
    assert len(set(subset.class_names)) == len(kept.classes)
    for split, whole, counts in (
        (subset.train, data.train, kept.pool),
        (subset.test, data.test, kept.test),
    ):
        assert split.counts(len(counts)) == counts
        positions = split.images[:, 0, 0, 0].long() * 256 + split.images[:, 1, 0, 0]
        assert len(positions.unique()) == len(positions)
        for original, number in zip(whole.targets[positions].tolist(), split.targets, strict=True):
            assert original in kept.members[number]


def test_the_subset_is_a_function_of_the_seed(imbalance, data):
    first, again = (
        imbalance.subset(data, torch.Generator().manual_seed(5)).train.images for _ in range(2)
    )
    assert torch.equal(first, again)


def test_built_twice_is_equal(imbalance, request):
    name = request.node.callspec.params["imbalance"]
    assert built("imbalance", name, **REQUIRED.get(name, {})) == imbalance
