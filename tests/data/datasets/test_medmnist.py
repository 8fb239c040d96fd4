from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fm_al.config import build
from fm_al.data.datasets.medmnist import NAMES, SEVERAL_LABELS, MedMNIST
from fm_al.errors import ConfigError, RunError
from tests.data.datasets import made_medmnist as made
from tests.helpers.configs import node


def medmnist(name: str = "bloodmnist", size: int = 28) -> MedMNIST:
    return build(node("dataset", "medmnist") | {"name": name, "size": size})


@pytest.mark.parametrize("size", [28, 64])
@pytest.mark.parametrize("name", ["bloodmnist", "octmnist"])
def test_what_is_stored_is_what_is_read(name: str, size: int, tmp_path: Path, monkeypatch) -> None:
    made.install(monkeypatch)
    made.write(tmp_path / "medmnist", name, size)
    data = medmnist(name, size).load(tmp_path, download=False)
    expected = made.arrays(name, size)
    assert data.class_names == tuple(made.LABELS[name])
    assert data.content is None
    for split, part in (("train", data.train), ("test", data.test)):
        images = torch.from_numpy(expected[f"{split}_images"])
        channels = images.movedim(-1, 1) if images.ndim == 4 else images[:, None]
        assert torch.equal(part.images, channels)
        assert part.images.is_contiguous()
        assert part.targets.tolist() == expected[f"{split}_labels"][:, 0].tolist()
        assert part.targets.dtype == torch.int64


@pytest.mark.parametrize("network", [False, True])
def test_a_file_that_is_there_is_not_downloaded(network, tmp_path, monkeypatch, capfd) -> None:
    made.install(monkeypatch, network=network)
    path = made.write(tmp_path / "medmnist", "octmnist")
    before = path.stat().st_mtime_ns
    assert len(medmnist("octmnist").load(tmp_path, download=True).test) == 20
    assert path.stat().st_mtime_ns == before
    assert capfd.readouterr() == ("", "")


def test_a_missing_file_is_downloaded_quietly_below_data_dir(tmp_path, monkeypatch, capfd) -> None:
    made.install(monkeypatch, network=True)
    assert len(medmnist(size=64).load(tmp_path / "data", download=True).train) == 30
    assert (tmp_path / "data" / "medmnist" / "bloodmnist_64.npz").is_file()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("download", [False, True])
def test_without_network_one_line_says_what_is_missing_where_and_how_to_get_it(
    download: bool, tmp_path: Path, monkeypatch
) -> None:
    made.install(monkeypatch)
    with pytest.raises(RunError) as raised:
        medmnist(size=64).load(tmp_path, download=download)
    message = str(raised.value)
    assert "\n" not in message
    why = r"its download failed (<urlopen error no network>)" if download else "download=false"
    assert f"{tmp_path / 'medmnist' / 'bloodmnist_64.npz'} is not there and {why}" in message
    command = f"fm-al-data medmnist dataset.name=bloodmnist dataset.size=64 data_dir={tmp_path}"
    assert f"`{command}`" in message
    assert "https://there.example/bloodmnist_64.npz" in message


@pytest.mark.parametrize("size", [28, 64])
@pytest.mark.parametrize("download", [False, True])
@pytest.mark.parametrize("damage", ["cut", "one pixel", "another size"])
def test_a_file_with_another_digest_is_refused(damage, download, size, tmp_path, monkeypatch):
    made.install(monkeypatch)
    path = made.write(tmp_path / "medmnist", "octmnist", size)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:1000])
    elif damage == "one pixel":  # the right images, but for one
        arrays = dict(np.load(path))
        arrays["train_images"][0, 0, 0] ^= 1
        np.savez(path, **arrays)
    else:
        path.write_bytes(made.content("octmnist", 92 - size))
    found = hashlib.md5(path.read_bytes()).hexdigest()
    with pytest.raises(RunError) as raised:
        medmnist("octmnist", size).load(tmp_path, download=download)
    message = str(raised.value)
    assert "\n" not in message
    assert f"{path} is damaged, incomplete or another file (its MD5 is {found}, " in message
    assert f"expects {made.digest('octmnist', size)}) and " in message
    assert ("its download failed (<urlopen error" if download else "download=false") in message
    assert f"delete {path}, then run `fm-al-data medmnist" in message


def test_a_file_with_another_digest_is_downloaded_anew(tmp_path, monkeypatch) -> None:
    made.install(monkeypatch, network=True)
    path = made.write(tmp_path / "medmnist", "octmnist")
    path.write_bytes(path.read_bytes()[:1000])  # as a killed download leaves it
    medmnist("octmnist").load(tmp_path, download=True)
    assert path.read_bytes() == made.content("octmnist", 28)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("chestmnist", "its images have several labels each"),
        ("organmnist3d", "its images are three-dimensional"),
        ("blood", "no such data set"),
    ],
)
def test_a_data_set_that_cannot_be_classified_is_refused_before_anything_is_read(name, why) -> None:
    with pytest.raises(ConfigError, match=rf"dataset\.name={name}: {why}.*use one of bloodmnist"):
        medmnist(name)


def test_every_flat_data_set_with_one_label_is_offered() -> None:
    """`INFO` of medmnist 3.0.2: the names that have a url_224, and their tasks."""
    tasks = {
        "pathmnist": "multi-class",
        "chestmnist": "multi-label, binary-class",
        "dermamnist": "multi-class",
        "octmnist": "multi-class",
        "pneumoniamnist": "binary-class",
        "retinamnist": "ordinal-regression",
        "breastmnist": "binary-class",
        "bloodmnist": "multi-class",
        "tissuemnist": "multi-class",
        "organamnist": "multi-class",
        "organcmnist": "multi-class",
        "organsmnist": "multi-class",
    }
    several = {name for name, task in tasks.items() if "multi-label" in task}
    assert {*SEVERAL_LABELS} == several
    assert sorted(NAMES) == sorted({*tasks} - several)


def test_without_the_package_one_line_says_how_to_install_it(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "medmnist", None)
    with pytest.raises(ConfigError, match=r"needs the package medmnist .*pip install 'fm_al\["):
        medmnist().load(tmp_path, download=True)


def test_a_package_without_larger_images_is_refused(tmp_path: Path, monkeypatch) -> None:
    made.install(monkeypatch, version="2.2.3")
    with pytest.raises(ConfigError, match=r"needs version 3 .* and 2\.2\.3 is installed; install"):
        medmnist().load(tmp_path, download=True)
