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
    assert all(1 <= n <= pool[c] for c, n in zip(kept.classes, kept.pool, strict=True))
    assert all(1 <= n <= test[c] for c, n in zip(kept.classes, kept.test, strict=True))


def test_the_subset_has_the_counts_and_its_images_their_classes(imbalance, data):
    kept = imbalance.counts(data.class_names, data.train.counts(CLASSES), data.test.counts(CLASSES))
    subset = imbalance.subset(data, torch.Generator().manual_seed(0))
    assert subset.class_names == tuple(data.class_names[c] for c in kept.classes)
    for split, whole, counts in (
        (subset.train, data.train, kept.pool),
        (subset.test, data.test, kept.test),
    ):
        assert split.counts(len(counts)) == counts
        positions = split.images[:, 0, 0, 0].long() * 256 + split.images[:, 1, 0, 0]
        assert len(positions.unique()) == len(positions)
        assert torch.equal(whole.targets[positions], torch.tensor(kept.classes)[split.targets])


def test_the_subset_is_a_function_of_the_seed(imbalance, data):
    first, again = (
        imbalance.subset(data, torch.Generator().manual_seed(5)).train.images for _ in range(2)
    )
    assert torch.equal(first, again)


def test_built_twice_is_equal(imbalance, request):
    name = request.node.callspec.params["imbalance"]
    assert built("imbalance", name, **REQUIRED.get(name, {})) == imbalance
