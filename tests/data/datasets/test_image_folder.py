from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fm_al.data.base import ImageData
from fm_al.data.datasets.image_folder import ImageFolder
from fm_al.errors import ConfigError, RunError
from tests.data.real_data import folder_with

LAYOUT = {"train": {"bee": 4, "ant": 3}, "test": {"ant": 2, "bee": 1}}


def save(path: Path, seed: int, height: int = 6, width: int = 9, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    seed = 0
    for split, classes in LAYOUT.items():
        for name, count in classes.items():
            for number in reversed(range(count)):
                save(tmp_path / "images" / split / name / f"{number}.png", seed := seed + 1)
    return tmp_path / "images"


@pytest.fixture
def load(root: Path, tmp_path: Path) -> Callable[..., ImageData]:
    def loaded(**options: object) -> ImageData:
        dataset = ImageFolder(**{"root": str(root), "size": 4, **options})
        return dataset.load(tmp_path / "data", download=False)

    return loaded


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files decoded so far."""
    names: list[str] = []
    decode = ImageFolder._image

    def counted(self: ImageFolder, path: Path) -> np.ndarray:
        names.append(path.name)
        return decode(self, path)

    monkeypatch.setattr(ImageFolder, "_image", counted)
    return names


def equal(first: ImageData, second: ImageData) -> bool:
    return all(
        torch.equal(getattr(first, split).images, getattr(second, split).images)
        and torch.equal(getattr(first, split).targets, getattr(second, split).targets)
        for split in ("train", "test")
    )


@pytest.mark.parametrize(("channels", "mode"), [(3, "RGB"), (1, "L")])
def test_images_are_resized_and_ordered_by_class_and_name(load, root, channels, mode):
    data = load(channels=channels)
    assert data.class_names == ("ant", "bee")
    assert data.train.targets.tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert data.test.targets.tolist() == [0, 0, 1]
    paths = [root / "train" / "ant" / f"{i}.png" for i in range(3)]
    paths += [root / "train" / "bee" / f"{i}.png" for i in range(4)]
    for path, image in zip(paths, data.train.images, strict=True):
        resized = Image.open(path).convert(mode).resize((4, 4), Image.Resampling.BILINEAR)
        expected = torch.from_numpy(np.array(resized)).view(4, 4, channels).permute(2, 0, 1)
        assert torch.equal(image, expected)


def test_images_of_the_right_size_are_left_as_they_are(load, root):
    for path in root.rglob("*.png"):
        save(path, seed=1, height=4, width=4)
    pixels = np.random.default_rng(1).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    assert torch.equal(load().test.images[2], torch.from_numpy(pixels).permute(2, 0, 1))


def test_palettes_grey_and_transparent_images_become_the_configured_channels(load, root):
    for number, mode in enumerate(("P", "L", "LA", "RGBA", "1")):
        save(root / "train" / "ant" / f"mode {mode}.png", number, mode=mode)
    assert load().train.counts(2) == [8, 4]


def test_files_that_are_no_images_are_not_read(load, root):
    (root / "train" / "ant" / "notes.txt").write_text("notes")
    (root / "train" / "ant" / ".hidden.png").write_text("not an image")
    (root / ".git").mkdir()
    (root / "train" / ".ipynb_checkpoints").mkdir()
    assert load().train.counts(2) == [3, 4]


def test_a_second_load_decodes_nothing_and_gives_the_same(load, decoded):
    first = load()
    assert len(decoded) == 10
    second = load()
    assert len(decoded) == 10
    assert equal(first, second)
    assert first.content == second.content


def test_another_size_or_number_of_channels_has_a_cache_of_its_own(load, decoded):
    load()
    load(size=5)
    load(channels=1)
    assert len(decoded) == 30
    load()
    assert len(decoded) == 30


@pytest.mark.parametrize("change", ["changed", "touched", "added", "removed", "renamed"])
def test_a_changed_folder_is_read_again(load, root, decoded, change):
    before = load()
    file = root / "train" / "bee" / "1.png"
    if change == "changed":
        save(file, seed=99)
    elif change == "touched":
        os.utime(file, ns=(0, 0))
    elif change == "added":
        save(file.with_name("7.png"), seed=99)
    elif change == "removed":
        file.unlink()
    else:
        file.rename(file.with_name("9.png"))
    decoded.clear()
    after = load()
    expected = {"added": 11, "removed": 9}.get(change, 10)
    assert len(decoded) == len(after.train) + len(after.test) == expected
    assert (before.content == after.content) == (change == "touched")


def test_content_depends_on_images_and_class_names_and_not_on_the_place(load, root, tmp_path):
    content = load().content
    copied = tmp_path / "elsewhere"
    shutil.copytree(root, copied, copy_function=shutil.copyfile)
    assert load(root=str(copied)).content == content
    assert load(root=str(copied), size=5).content != content
    for split in ("train", "test"):
        (copied / split / "bee").rename(copied / split / "wasp")
    assert load(root=str(copied)).content != content


@pytest.mark.parametrize("suffix", [".npy", ".json"])
@pytest.mark.parametrize("damage", ["torn", "empty", "gone", "other"])
def test_a_damaged_cache_is_read_again(load, tmp_path, decoded, suffix, damage):
    first = load()
    (file,) = (tmp_path / "data" / "image_folder-cache").glob(f"*{suffix}")
    if damage == "gone":
        file.unlink()
    elif damage == "other" and suffix == ".npy":
        np.save(file, np.zeros((3, 3, 4, 4), np.uint8))
    elif damage == "other":
        file.write_text("[1, 2]")
    else:
        file.write_bytes(file.read_bytes()[: 20 if damage == "torn" else 0])
    decoded.clear()
    again = load()
    assert len(decoded) == 10
    assert equal(first, again)
    assert again.content == first.content
    decoded.clear()
    load()
    assert decoded == []


def test_a_pickled_cache_is_never_unpickled(load, tmp_path, decoded):
    load()
    (file,) = (tmp_path / "data" / "image_folder-cache").glob("*.npy")
    np.save(file, np.array([{"a": 1}], dtype=object))
    decoded.clear()
    load()
    assert len(decoded) == 10


def test_only_finished_files_are_left_in_the_cache(load, tmp_path):
    load()
    names = sorted(p.suffix for p in (tmp_path / "data" / "image_folder-cache").iterdir())
    assert names == [".json", ".npy"]


def test_where_the_cache_cannot_be_written_images_are_read_all_the_same(load, tmp_path, caplog):
    (tmp_path / "data").write_text("a file where the folder should be")
    assert len(load().train) == 7
    assert "can't be kept" in caplog.text


def _remove_root(root: Path) -> None:
    shutil.rmtree(root)


def _remove_test(root: Path) -> None:
    shutil.rmtree(root / "test")


def _keep_one_class(root: Path) -> None:
    shutil.rmtree(root / "train" / "bee")


def _add_class_to_test(root: Path) -> None:
    save(root / "test" / "owl" / "0.png", seed=0)


def _empty_class(root: Path) -> None:
    (root / "train" / "owl").mkdir()


def _empty_class_of_test(root: Path) -> None:
    (root / "test" / "bee" / "0.png").unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_remove_root, r"images is not a folder"),
        (_remove_test, r"test is not a folder; images should be at <root>/train/<class>/"),
        (_keep_one_class, r"train has 1 folders of images; .* two at least"),
        (_add_class_to_test, r"class owl is in test and not in train"),
        (_empty_class, r"class owl has no images in train"),
        (_empty_class_of_test, r"class bee has no images in test"),
    ],
)
def test_a_folder_laid_out_otherwise_is_refused_in_one_line(load, root, spoil, message):
    spoil(root)
    with pytest.raises(ConfigError, match=rf"^dataset\.root={root}: .*{message}") as raised:
        load()
    assert "\n" not in str(raised.value)


def test_an_unreadable_image_is_named(load, root):
    file = root / "train" / "bee" / "2.png"
    file.write_bytes(file.read_bytes()[:60])
    with pytest.raises(RunError, match=rf"^{file} can't be read as an image") as raised:
        load()
    assert "\n" not in str(raised.value)


def test_images_with_more_than_eight_bits_are_refused_rather_than_clipped(load, root):
    file = root / "train" / "bee" / "2.png"
    Image.fromarray(np.full((4, 4), 40_000, dtype=np.uint16)).save(file)
    with pytest.raises(RunError, match=r"2\.png .* more than 8 bits"):
        load()


def test_real_photographs_in_jpeg(tmp_path):
    photographs = folder_with("cifar10-jpeg/test/truck") / "cifar10-jpeg" / "train"
    root = tmp_path / "cifar10-jpeg"
    for name in ("airplane", "automobile"):
        for number, file in enumerate(sorted((photographs / name).iterdir())[:40]):
            folder = root / ("train" if number % 5 else "test") / name
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, folder)
    data = ImageFolder(root=str(root)).load(tmp_path / "data", download=False)
    assert data.class_names == ("airplane", "automobile")
    assert data.train.counts(2) == [32, 32]
    assert data.test.counts(2) == [8, 8]
    first = sorted((root / "train" / "airplane").iterdir())[0]
    pixels = np.array(Image.open(first))
    assert torch.equal(data.train.images[0], torch.from_numpy(pixels).permute(2, 0, 1))
