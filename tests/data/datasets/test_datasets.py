"""What holds for every file in conf/dataset that is of images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fm_al.data.base import Dataset, ImageData
from tests.data.datasets import made_medmnist, stored
from tests.helpers.configs import built, names, node


@pytest.fixture(params=[name for name in names("dataset") if name != "features"])
def dataset(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch) -> Dataset:
    """The data set as configured; what it reads is made up and lies in `tmp_path`."""
    if "root" in node("dataset", request.param):
        return built("dataset", request.param, root=str(_folder(tmp_path / "images")))
    if request.param == "medmnist":
        made_medmnist.install(monkeypatch)
        made_medmnist.write(tmp_path / "medmnist", "bloodmnist")
    elif request.param != "digits":
        stored.write(request.param, tmp_path, monkeypatch)
    return built("dataset", request.param)


def _folder(root: Path) -> Path:
    for split in ("train", "test"):
        for name in ("ant", "bee"):
            (root / split / name).mkdir(parents=True)
            Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(root / split / name / "0.png")
    return root


@pytest.fixture
def data(dataset: Dataset, tmp_path: Path) -> ImageData:
    return dataset.load(tmp_path, download=False)


def test_images_are_bytes_with_channels_first_and_targets_their_classes(data):
    for split in (data.train, data.test):
        assert split.images.dtype == torch.uint8
        assert split.images.ndim == 4
        assert split.images.shape[1] in (1, 3)
        assert split.images.is_contiguous()
        assert split.targets.dtype == torch.int64
        assert split.targets.shape == (len(split.images),)
        assert len(data.class_names) >= 2
        assert 0 <= int(split.targets.min()) <= int(split.targets.max()) < len(data.class_names)
    assert data.train.images.shape[1:] == data.test.images.shape[1:]


def test_the_networks_get_images_of_the_size_that_the_configuration_says(dataset, data):
    side = getattr(dataset, "size", 8 if type(dataset).__name__ == "Digits" else 32)
    expected = side if dataset.pad_to is None else dataset.pad_to
    assert data.train.images.shape[2:] == (expected, expected)


def test_loading_again_gives_the_same(dataset, data, tmp_path):
    again = dataset.load(tmp_path, download=False)
    assert torch.equal(again.train.images, data.train.images)
    assert torch.equal(again.test.targets, data.test.targets)
    assert again.content == data.content
