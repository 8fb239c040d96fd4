from __future__ import annotations

import pytest
import torch

from fm_al.config import check
from fm_al.data.base import ImageData, Split, Stored
from fm_al.data.imbalance.merged import Merged
from fm_al.errors import ConfigError
from tests.conftest import Compose
from tests.helpers.configs import resolved

NAMES = ("ant", "bee", "cat", "dog", "elk")


def data(names: tuple[str, ...] = NAMES) -> ImageData:
    """Images of their own number, 50 in the pool and 15 in the test set."""

    def split(count: int) -> Split:
        images = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1)
        return Split(images, torch.arange(count) % len(names), images.view(-1, 1).float())

    return ImageData(split(50), split(15), names, content="stored")


def test_the_last_classes_are_one_and_all_images_stay_in_their_order() -> None:
    whole = data()
    merged = Merged(classes=3).subset(whole, torch.Generator())
    assert merged.class_names == ("ant", "bee", "other")
    assert merged.class_counts() == ([10, 10, 30], [3, 3, 9])
    for split, before in ((merged.train, whole.train), (merged.test, whole.test)):
        assert torch.equal(split.targets, before.targets.clamp(max=2))
        assert split.images is before.images, "nothing is copied"
        assert split.features is before.features
    assert whole.train.counts(5) == [10] * 5, "the stored data set is left as it is"
    assert merged.content == "stored"
    assert merged.summary().endswith("ant 10/3, bee 10/3, other 30/9")


def test_two_classes_are_one_against_all_others() -> None:
    kept = Merged(classes=2).counts(NAMES, [1, 2, 3, 4, 5], [5, 4, 3, 2, 1])
    assert (kept.pool, kept.test) == ([1, 14], [5, 10])
    assert kept.members == [[0], [1, 2, 3, 4]]


def test_the_last_class_but_one_merges_with_the_last() -> None:
    merged = Merged(classes=4).subset(data(), torch.Generator())
    assert merged.class_names == ("ant", "bee", "cat", "other")
    assert merged.class_counts()[0] == [10, 10, 10, 20]


def test_the_name_of_the_merged_class_is_its_own() -> None:
    names = ("other", "all other", "dog", "elk")
    merged = Merged(classes=3).subset(data(names), torch.Generator())
    assert merged.class_names == ("other", "all other", "all all other")
    names = ("ant", "bee", "other", "elk")
    assert Merged(classes=3).subset(data(names), torch.Generator()).class_names[-1] == "other"


def test_the_classes_of_a_finished_run_are_known_without_its_images() -> None:
    stored = Stored("digest", NAMES, [10] * 5, [3] * 5)
    assert Merged(classes=3).kept(stored) == ["ant", "bee", "other"]


@pytest.mark.parametrize("classes", [5, 6])
def test_a_number_that_merges_nothing_is_refused(classes: int) -> None:
    with pytest.raises(ConfigError, match=rf"imbalance\.classes={classes}: .* use 2 to 4, or"):
        Merged(classes=classes).counts(NAMES, [9] * 5, [9] * 5)


def test_one_class_is_refused(compose: Compose) -> None:
    config = resolved(compose("imbalance=merged", "imbalance.classes=1"))
    with pytest.raises(ConfigError, match=r"imbalance\.classes=1: should be greater than or equal"):
        check(config)
