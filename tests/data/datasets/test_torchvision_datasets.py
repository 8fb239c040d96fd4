from __future__ import annotations

import sys
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from torchvision import datasets as torchvision_datasets

from fm_al.data.datasets.torchvision_datasets import READERS, STORED_AS
from fm_al.data.images import channel_statistics
from fm_al.errors import RunError
from tests.data.datasets import stored
from tests.helpers.configs import built
from tests.helpers.real_data import folder_with

NAMES = sorted(READERS)
DOWNLOADERS = (
    "mnist.download_and_extract_archive",
    "cifar.download_and_extract_archive",
    "svhn.download_url",
)


@pytest.fixture
def no_network(monkeypatch):
    def fail(*arguments: object, **options: object) -> None:
        print("Downloading ...")
        print("0%", file=sys.stderr)
        raise URLError("no network")

    for function in DOWNLOADERS:
        monkeypatch.setattr(f"torchvision.datasets.{function}", fail)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_stored_is_what_is_read(name, tmp_path, monkeypatch):
    stored.write(name, tmp_path, monkeypatch)
    data = built("dataset", name, pad_to=None).load(tmp_path, download=False)
    shape = (28, 28) if "mnist" in name else (3, 32, 32)
    for split, part in (("train", data.train), ("test", data.test)):
        images = stored.images(split, *shape) if len(shape) == 2 else None
        if images is None and name == "svhn":
            images = stored.images(split, *shape)
        elif images is None:
            images = stored.images(split, 3 * 32 * 32).reshape(-1, 3, 32, 32)
        expected = torch.from_numpy(images).view(len(images), -1, *shape[-2:])
        assert torch.equal(part.images, expected)
        assert torch.equal(part.targets, torch.from_numpy(stored.targets(split)).long())


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("mnist", "0 - zero"),
        ("fashion_mnist", "T-shirt/top"),
        ("cifar100", "class 0"),
        ("svhn", "0"),
    ],
)
def test_classes_have_torchvisions_names(name, first, tmp_path, monkeypatch):
    stored.write(name, tmp_path, monkeypatch)
    names = built("dataset", name).load(tmp_path, download=False).class_names
    assert names[0] == first
    assert len(names) == (100 if name == "cifar100" else 10)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("download", [False, True])
def test_without_network_one_line_says_what_is_missing_where_and_what_to_run(
    name, download, tmp_path, no_network, capfd
):
    with pytest.raises(RunError) as raised:
        built("dataset", name).load(tmp_path / "data", download=download)
    message = str(raised.value)
    assert "\n" not in message
    assert f"{tmp_path / 'data' / STORED_AS[name][0]} is not there" in message
    assert f"`fm-al-data {name} data_dir={tmp_path / 'data'}`" in message
    assert "FM_AL_DATA_DIR" in message
    assert ("no network" in message) == download
    assert capfd.readouterr() == ("", "")


def test_a_data_set_that_is_there_is_not_downloaded(tmp_path, monkeypatch, no_network):
    stored.write("svhn", tmp_path, monkeypatch)
    assert len(built("dataset", "svhn").load(tmp_path, download=True).test) == 20


def test_a_data_set_that_is_missing_is_downloaded_quietly(tmp_path, monkeypatch, capfd):
    def download(url: str, root: Path, filename: str, md5: str) -> None:
        print("Downloading ...")
        if not (Path(root) / filename).exists():
            stored.write("svhn", Path(root), monkeypatch)

    monkeypatch.setattr("torchvision.datasets.svhn.download_url", download)
    data = built("dataset", "svhn").load(tmp_path / "data", download=True)
    assert len(data.train) == 30
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("download", [False, True])
def test_a_torn_file_is_named_damaged_and_to_be_deleted(
    tmp_path, monkeypatch, no_network, download
):
    stored.write("mnist", tmp_path, monkeypatch)
    file = tmp_path / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:1000])
    folder = file.parent
    with pytest.raises(RunError) as raised:
        built("dataset", "mnist").load(tmp_path, download=download)
    assert f"{folder} is damaged or incomplete" in str(raised.value)
    assert f"delete {folder}, then run `fm-al-data mnist" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_half_download_of_cifar_is_named_damaged(tmp_path, monkeypatch, no_network):
    stored.write("cifar10", tmp_path, monkeypatch)
    (tmp_path / "cifar-10-batches-py" / "data_batch_3").unlink()
    with pytest.raises(RunError, match=r"cifar-10-batches-py is damaged or incomplete"):
        built("dataset", "cifar10").load(tmp_path, download=False)


@pytest.mark.parametrize(
    ("name", "reader"),
    [("mnist", torchvision_datasets.MNIST), ("fashion_mnist", torchvision_datasets.FashionMNIST)],
)
def test_real_images_are_padded_and_have_the_configured_statistics(name, reader):
    data_dir = folder_with(STORED_AS[name][0])
    dataset = built("dataset", name)
    data = dataset.load(data_dir, download=False)
    assert data.train.images.shape == (60_000, 1, 32, 32)
    assert data.test.images.shape == (10_000, 1, 32, 32)
    plain = reader(data_dir, train=False)
    assert torch.equal(data.test.images[:, 0, 2:30, 2:30], plain.data)
    assert torch.equal(data.test.targets, plain.targets)
    mean, std = channel_statistics(data.train.images[:, :, 2:30, 2:30])
    np.testing.assert_allclose(mean, dataset.mean, atol=3e-4)
    np.testing.assert_allclose(std, dataset.std, atol=3e-4)
