from __future__ import annotations

import pytest
import torch

from fm_al.data.images import Images
from fm_al.data.pool import Pool


def pool_of(count: int, horizontal_flip: bool = False) -> Pool:
    stored = torch.arange(count * 4, dtype=torch.uint8).view(count, 1, 2, 2)
    images = Images(stored, torch.zeros(1), torch.ones(1), horizontal_flip=horizontal_flip)
    return Pool(images, torch.arange(count) % 3, classes=3)


def test_a_new_pool_is_unlabelled():
    pool = pool_of(5)
    assert len(pool) == 5
    assert pool.labelled.tolist() == []
    assert pool.unlabelled.tolist() == [0, 1, 2, 3, 4]


def test_labelled_images_stay_in_the_order_of_labelling_and_unlabelled_ones_ascend():
    pool = pool_of(6)
    pool.label(torch.tensor([4, 1]))
    pool.label(torch.tensor([3]))
    assert pool.labelled.tolist() == [4, 1, 3]
    assert pool.unlabelled.tolist() == [0, 2, 5]
    assert pool.targets(pool.labelled).tolist() == [1, 1, 0]


@pytest.mark.parametrize("indices", [[2, 2], [1], [0, 1]])
def test_labelling_twice_is_refused_and_changes_nothing(indices):
    pool = pool_of(4)
    pool.label(torch.tensor([1]))
    with pytest.raises(ValueError, match="distinct"):
        pool.label(torch.tensor(indices))
    assert pool.labelled.tolist() == [1]
    assert pool.unlabelled.tolist() == [0, 2, 3]


@pytest.mark.parametrize("index", [-1, 4])
def test_labelling_an_image_that_is_not_there_is_refused(index):
    pool = pool_of(4)
    with pytest.raises((ValueError, IndexError)):
        pool.label(torch.tensor([index]))
    assert pool.labelled.tolist() == []


def test_the_class_of_an_unlabelled_image_is_not_given_away():
    pool = pool_of(4)
    pool.label(torch.tensor([1]))
    with pytest.raises(ValueError, match="unlabelled"):
        pool.targets(torch.tensor([1, 2]))


def test_training_images_are_augmented_and_images_are_not():
    pool = pool_of(40, horizontal_flip=True)
    indices = torch.arange(40)
    plain = pool.images(indices)
    trained = pool.training_images(indices, torch.Generator().manual_seed(0))
    flipped = (trained == plain.flip(3)).flatten(1).all(1)
    assert (flipped | (trained == plain).flatten(1).all(1)).all()
    assert 0 < int(flipped.sum()) < 40


def test_training_images_of_a_data_set_without_augmentation_use_no_randomness():
    pool = pool_of(3)
    generator = torch.Generator().manual_seed(0)
    state = generator.get_state()
    assert torch.equal(
        pool.training_images(torch.arange(3), generator), pool.images(torch.arange(3))
    )
    assert torch.equal(generator.get_state(), state)


def test_among_some_unlabelled_images_the_labelled_stay_and_all_are_numbered_anew() -> None:
    pool = pool_of(10)
    pool.label(torch.tensor([8, 1, 4]))
    smaller, kept = pool.among(torch.tensor([9, 0, 5]))
    assert kept.tolist() == [0, 1, 4, 5, 8, 9]
    assert kept[smaller.labelled].tolist() == [8, 1, 4]
    assert kept[smaller.unlabelled].tolist() == [0, 5, 9]
    assert smaller.targets(smaller.labelled).tolist() == pool.targets(pool.labelled).tolist()
    assert torch.equal(smaller.images(torch.arange(6)), pool.images(kept))
    assert smaller.image_shape == pool.image_shape == (1, 2, 2)
    with pytest.raises(ValueError, match="unlabelled"):
        smaller.targets(torch.tensor([0]))
    smaller.label(torch.tensor([0]))
    assert pool.labelled.tolist() == [8, 1, 4]


def test_batches_of_a_pool_are_its_images() -> None:
    pool = pool_of(7)
    indices = torch.tensor([6, 2, 3, 0])
    parts = list(pool.batches(indices, 3))
    assert [part.tolist() for part, _ in parts] == [[6, 2, 3], [0]]
    for part, images in parts:
        assert torch.equal(images, pool.images(part))
