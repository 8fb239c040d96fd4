"""dataset=features: what it reads, what it refuses, and runs on it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from fm_al.data.base import Dataset, ImageData
from fm_al.errors import ConfigError, RunError
from fm_al.randomness import generator_for
from tests.helpers.command_line import QUICK, fm_al
from tests.helpers.configs import built

N_TRAIN, N_TEST, D = 40, 20, 5


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Features of three classes."""
    return write(tmp_path / "features")


def write(root: Path, dtype: type = np.float32, classes: int = 3) -> Path:
    root.mkdir()
    draw = np.random.default_rng(0)
    for split, n in (("train", N_TRAIN), ("test", N_TEST)):
        labels = np.arange(n) % classes
        np.save(root / f"{split}.npy", (draw.normal(size=(n, D)) + labels[:, None]).astype(dtype))
        np.save(root / f"{split}_labels.npy", labels)
    return root


def dataset(root: Path, **options: object) -> Dataset:
    return built("dataset", "features", root=str(root), **options)


def loaded(root: Path) -> ImageData:
    return dataset(root).load(root, download=False)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_features_are_images_of_one_pixel_in_a_memory_map(tmp_path: Path, dtype: type) -> None:
    root = write(tmp_path / "features", dtype)
    data = loaded(root)
    stored = np.load(root / "train.npy")
    assert data.train.images.shape == (N_TRAIN, D, 1, 1)
    assert data.train.images.numpy().dtype == dtype
    assert np.array_equal(data.train.images[:, :, 0, 0].numpy(), stored)
    assert data.train.targets.tolist() == [i % 3 for i in range(N_TRAIN)]
    assert data.class_names == ("0", "1", "2")
    data.train.images[0] = 7  # a copy of that page, never the file
    assert np.array_equal(np.load(root / "train.npy"), stored)


def test_the_whole_of_it_is_not_copied(folder: Path) -> None:
    data = loaded(folder)
    whole = built("imbalance", "none").subset(data, generator_for(0, "subset"))
    assert whole.train.images.data_ptr() == data.train.images.data_ptr()
    assert torch.equal(whole.train.targets, data.train.targets)


def test_names_come_from_classes_txt(folder: Path) -> None:
    (folder / "classes.txt").write_text("ant\nbee\ncat\ndog\n")
    assert loaded(folder).class_names == ("ant", "bee", "cat", "dog")
    assert loaded(folder).class_counts()[0] == [14, 13, 13, 0]


def test_the_content_is_of_every_value_label_and_name(folder: Path) -> None:
    contents = [loaded(folder).content]

    def changed(change: Callable[[], object]) -> None:
        change()
        contents.append(loaded(folder).content)

    def with_value(name: str, position: tuple[int, ...], value: float) -> None:
        array = np.load(folder / f"{name}.npy")
        array[position] = value
        np.save(folder / f"{name}.npy", array)

    changed(lambda: with_value("train", (39, 4), 1))
    changed(lambda: with_value("test", (0, 0), 1))
    changed(lambda: with_value("train_labels", (1,), 0))
    changed(lambda: with_value("test_labels", (1,), 0))
    changed(lambda: (folder / "classes.txt").write_text("a\nb\nc\n"))
    changed(lambda: (folder / "classes.txt").write_text("a\nb\nd\n"))
    assert len(set(contents)) == len(contents)
    stored = dataset(folder).stored(folder)
    assert stored is not None
    assert (stored.content, stored.class_names) == (contents[-1], ("a", "b", "d"))
    assert stored.pool == [15, 12, 13]


def save(name: str, array: object) -> Callable[[Path], object]:
    return lambda root: np.save(root / f"{name}.npy", np.array(array))


def with_row(value: float, row: int) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        matrix = np.load(root / "train.npy")
        matrix[row:, 2] = value
        np.save(root / "train.npy", matrix)

    return change


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "nan": (with_row(np.nan, 7), "train.npy: row 7 has a feature that is nan"),
    "infinite": (with_row(-np.inf, 39), "train.npy: row 39 has a feature that is -inf"),
    "few_labels": (
        save("train_labels", [0, 1]),
        "train_labels.npy has 2 labels, and train.npy has 40 rows",
    ),
    "negative": (
        save("test_labels", [0] * 19 + [-1]),
        "test_labels.npy: row 19 has the label -1; labels should be from 0 to 2",
    ),
    "too_large": (
        lambda root: (root / "classes.txt").write_text("a\nb\n"),
        "train_labels.npy: row 2 has the label 2; labels should be from 0 to 1, as classes.txt has "
        "2 names",
    ),
    "twice": (lambda root: (root / "classes.txt").write_text("a\nb\na\n"), ":3: has a twice"),
    "blank": (lambda root: (root / "classes.txt").write_text("a\n\nb\n"), ":2: has an empty line"),
    "latin": (lambda root: (root / "classes.txt").write_bytes(b"\xe4\n"), "is not UTF-8 text"),
    "float64": (save("train", np.zeros((40, 5))), "train.npy holds float64 of shape (40, 5); it "),
    "integers": (save("test", np.zeros((20, 5), int)), "test.npy holds int64 of shape (20, 5); it"),
    "images": (
        save("train", np.zeros((40, 5, 2), np.float32)),
        "train.npy holds float32 of shape (40, 5, 2); it should hold float16 or float32 of shape",
    ),
    "empty": (save("train", np.zeros((0, 5), np.float32)), "train.npy holds float32 of shape (0,"),
    "float_labels": (save("test_labels", [0.0] * 20), "test_labels.npy holds float64 of shape"),
    "one_hot": (save("test_labels", np.eye(20, 3, dtype=int)), "holds int64 of shape (20, 3)"),
    "one_class": (
        lambda root: [save(f"{s}_labels", [0] * n)(root) for s, n in (("train", 40), ("test", 20))],
        "has 1 class; there should be at least two",
    ),
    "other_width": (
        save("test", np.zeros((20, 6), np.float32)),
        "train.npy has 5 features per image and test.npy has 6",
    ),
    "missing": (lambda root: (root / "test.npy").unlink(), "features/test.npy; the folder should"),
    "cut": (
        lambda root: (root / "train.npy").write_bytes((root / "train.npy").read_bytes()[:300]),
        "train.npy can't be read as an array (",
    ),
    "objects": (
        lambda root: np.save(root / "train.npy", np.array([{}]), allow_pickle=True),
        "train.npy can't be read as an array (",
    ),
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_input_is_named(folder: Path, bad: str) -> None:
    damage, message = BAD[bad]
    damage(folder)
    with pytest.raises(RunError) as raised:
        loaded(folder)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("option", "value"),
    [("crop_padding", 4), ("horizontal_flip", True), ("pad_to", 32), ("mean", [0.5])],
)
def test_options_of_images_are_refused(folder: Path, option: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"^dataset\.{option}=.*: is for images; features are"):
        dataset(folder, **{option: value})


def run(tmp_path: Path, root: Path, *options: str):
    return fm_al(tmp_path, "dataset=features", f"dataset.root={root}", *QUICK, *options)


@pytest.mark.parametrize("backbone", ["linear", "mlp"])
def test_a_run_is_of_this_content(tmp_path: Path, folder: Path, backbone: str) -> None:
    options = ["strategy=margin", f"backbone={backbone}"]
    done = run(tmp_path, folder, *options)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("3 classes, 40 images in the pool and 20 in the test set")
    (provenance,) = tmp_path.rglob("provenance.json")
    assert json.loads(provenance.read_text())["decides"]["dataset_content"]
    assert "finished already" in run(tmp_path, folder, *options).stdout
    with_row(1, 3)(folder)
    assert "differs in dataset_content" in run(tmp_path, folder, *options).stderr


@pytest.mark.parametrize("backbone", ["cnn", "vgg16", "resnet18_quarter", "torchvision"])
def test_a_backbone_for_images_is_refused_before_the_data_are_read(
    tmp_path: Path, backbone: str
) -> None:
    refused = run(tmp_path, tmp_path / "nowhere", f"backbone={backbone}")
    assert refused.returncode == 2
    assert refused.stderr.startswith("fm-al: backbone._target_=fm_al.backbones.")
    assert refused.stderr.endswith(
        "works on images, and the data set has vectors; use backbone=linear or backbone=mlp\n"
    )


def test_a_thousand_classes_with_15_labels_of_few(tmp_path: Path) -> None:
    root = write(tmp_path / "features", np.float16, classes=9)
    (root / "classes.txt").write_text("".join(f"class {number}\n" for number in range(1000)))
    done = run(
        tmp_path, root, "strategy=badge", "budget.initial=15", "budget.per_round=5",
        "budget.total=20", "imbalance=none",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (result,) = tmp_path.rglob("result.json")
    assert len(json.loads(result.read_text())["class_names"]) == 1000
