from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fm_al.data import decoding
from fm_al.data.base import ImageData
from fm_al.data.class_folders import ClassFolders
from fm_al.data.datasets import image_folder
from fm_al.data.datasets.image_folder import ImageFolder
from fm_al.errors import ConfigError, RunError
from tests.helpers.real_data import folder_with

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
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the files decoded so far."""
    sizes: list[int] = []
    decode = image_folder.decoded

    def counted(content: bytes, *options: int) -> np.ndarray:
        sizes.append(len(content))
        return decode(content, *options)

    monkeypatch.setattr(image_folder, "decoded", counted)
    return sizes


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


@pytest.mark.parametrize("change", ["changed", "added", "removed", "renamed"])
def test_a_changed_folder_is_read_again(load, root, decoded, change):
    before = load()
    file = root / "train" / "bee" / "1.png"
    if change == "changed":
        save(file, seed=99)
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
    assert before.content != after.content


def test_names_and_times_that_change_no_image_change_nothing(load, root, decoded):
    before = load()
    os.utime(root / "train" / "bee" / "1.png", ns=(0, 0))
    (root / "train" / "bee" / "3.png").rename(root / "train" / "bee" / "4.png")
    decoded.clear()
    assert load().content == before.content
    assert decoded == []


def test_folders_of_equal_names_sizes_and_times_are_told_apart(tmp_path):
    """As archives and rsync make them: they keep times, and uncompressed formats sizes."""
    roots = [tmp_path / "first", tmp_path / "second"]
    for seed, root in enumerate(roots):
        for split in ("train", "test"):
            for number, name in enumerate(("ant", "bee")):
                save(root / split / name / "0.bmp", 10 * seed + number)
                os.utime(root / split / name / "0.bmp", ns=(0, 0))
    first, second = (
        ImageFolder(root=str(root), size=6).load(tmp_path / "data", download=False)
        for root in roots
    )
    assert first.content != second.content
    for root, data in zip(roots, (first, second), strict=True):
        expected = Image.open(root / "train" / "ant" / "0.bmp").resize((6, 6), 2)
        assert np.array_equal(data.train.images[0].permute(1, 2, 0), np.array(expected))
    for dataset, data in ((str(roots[0]), first), (str(roots[1]), second)):
        again = ImageFolder(root=dataset, size=6)
        assert equal(again.load(tmp_path / "data", download=False), data)
        assert again.stored(tmp_path / "data").content == data.content


def test_an_image_that_changes_between_hashing_and_decoding_is_noticed(load, root, monkeypatch):
    hashing = ClassFolders.digests

    def hashed(folders: ClassFolders):
        digests = hashing(folders)
        save(root / "train" / "bee" / "1.png", seed=99)
        return digests

    monkeypatch.setattr(ClassFolders, "digests", hashed)
    with pytest.raises(RunError, match=r"train/bee/1\.png has changed while it was read"):
        load()


def test_what_other_decoding_or_another_version_cached_is_not_read(load, decoded, monkeypatch):
    content = load().content
    monkeypatch.setattr(decoding, "DECODING", decoding.DECODING + 1)
    decoded.clear()
    assert load().content == content, "of the pixels, which are the same"
    assert len(decoded) == 10
    monkeypatch.setattr(decoding.PIL, "__version__", "0")
    decoded.clear()
    load()
    assert len(decoded) == 10


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
@pytest.mark.parametrize("damage", ["torn", "empty", "gone", "other", "flipped"])
def test_a_damaged_cache_is_read_again(load, tmp_path, decoded, suffix, damage):
    first = load()
    (file,) = (tmp_path / "data" / "image_folder-cache").glob(f"*{suffix}")
    if damage == "gone":
        file.unlink()
    elif damage == "other" and suffix == ".npy":
        np.save(file, np.zeros((3, 3, 4, 4), np.uint8))
    elif damage == "other":
        file.write_text("[1, 2]")
    elif damage == "flipped":
        content = bytearray(file.read_bytes())
        content[-20] ^= 1
        file.write_bytes(content)
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


@pytest.mark.slow
def test_processes_that_fill_the_cache_at_once_all_get_the_images(load, root, tmp_path):
    script = (
        "import sys; from pathlib import Path; "
        "from fm_al.data.datasets.image_folder import ImageFolder; "
        "print(ImageFolder(root=sys.argv[1], size=4).load(Path(sys.argv[2]), False).content)"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(root), str(tmp_path / "data")],
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    printed = {process.communicate()[0].strip() for process in started}
    assert printed == {load().content}
    assert len([*(tmp_path / "data" / "image_folder-cache").iterdir()]) == 2


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
        (_remove_test, r"test is not a folder; images should be in <root>/train/<class>/"),
        (_keep_one_class, r"train has 1 folders of images; .* two at least"),
        (_add_class_to_test, r"class owl is in test but not in train"),
        (_empty_class, r"class owl has no images in train"),
        (_empty_class_of_test, r"class bee has no images in test"),
    ],
)
def test_a_folder_laid_out_otherwise_is_refused_in_one_line(load, root, spoil, message):
    spoil(root)
    with pytest.raises(ConfigError, match=rf"^dataset\.root={root}: .*{message}") as raised:
        load()
    assert "\n" not in str(raised.value)


def damage(root: Path) -> None:
    torn = root / "train" / "bee" / "2.png"
    torn.write_bytes(torn.read_bytes()[:60])
    (root / "train" / "ant" / "0.png").write_bytes(b"")
    (root / "test" / "ant" / "0.png").write_text("a text")
    (root / "train" / "bee" / "4.png").symlink_to("nowhere.png")


def test_a_link_that_leads_to_itself_is_named(load, root):
    (root / "train" / "bee" / "4.png").symlink_to("4.png")
    with pytest.raises(
        RunError, match=r"train/bee/4\.png \(a link to 4\.png, which does not exist\)"
    ):
        load()


def test_all_unreadable_images_are_named_at_once(load, root, tmp_path):
    damage(root)
    for _ in range(2):
        with pytest.raises(
            RunError,
            match=rf"^dataset\.root={root}: 4 images can't be read: train/ant/0\.png \(empty\); "
            r"train/bee/2\.png \(.*truncated.*\); "
            r"train/bee/4\.png \(a link to nowhere\.png, which does not exist\); "
            r"test/ant/0\.png \(not an image, or .*\); repair or remove them$",
        ) as raised:
            load()
        assert "\n" not in str(raised.value)
    with pytest.raises(RunError, match="4 images can't be read"):
        ImageFolder(root=str(root), size=4).stored(tmp_path / "data")
    for number in range(11):
        (root / "train" / "bee" / f"9{number}.png").write_text("a text")
    with pytest.raises(RunError, match=r"15 images .*train/bee/95\.png \([^;]*\); and 5 more; rep"):
        load()


def test_damage_is_remembered_until_the_files_change(load, root, decoded):
    damage(root)
    with pytest.raises(RunError):
        load()
    assert len(decoded) == 10, "all but the broken link"
    decoded.clear()
    with pytest.raises(RunError):
        load()
    assert decoded == []
    for path in ("train/bee/2.png", "train/ant/0.png", "test/ant/0.png"):
        save(root / path, seed=1)
    with pytest.raises(RunError, match=r": 1 image can't be read: train/bee/4\.png .* remove it$"):
        load()
    (root / "train" / "bee" / "4.png").unlink()
    assert len(load().train) == 7


def test_files_that_are_left_out_are_counted_by_class_and_kind(load, root, caplog):
    bee = root / "train" / "bee"
    for name in ("a.heic", "b.HEIC", "c.txt", "README", ".hidden", "Thumbs.db"):
        (bee / name).write_text("not read")
    for name in ("x.png", "deeper/y.png", ".hidden"):
        (bee / "nested.png" / name).parent.mkdir(parents=True, exist_ok=True)
        (bee / "nested.png" / name).write_text("not read")
    os.mkfifo(bee / "fifo.png")
    (bee / "link to it.png").symlink_to("fifo.png")
    (root / "test" / "ant" / "empty").mkdir()
    save(root / "test" / "loose.png", seed=0)
    assert load().train.counts(2) == [3, 4]
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith(f"dataset.root={root}: 10 files are left out, 2 ")
    assert "train/bee: " in said
    of_bee = said.split("train/bee: ")[1].split(";")[0]
    assert sorted(of_bee.split(", ")) == [
        "1 .db", "1 .txt", "1 without extension", "2 .heic", "2 in nested folders",
        "2 pipes or devices",
    ]  # fmt: skip
    assert "test: 1 .png outside the folders of classes" in said
    assert "directly in the folder of a class" in said
    for number in range(20):
        for split in ("train", "test"):
            save(root / split / f"c{number}" / "0.png", seed=number)
            (root / split / f"c{number}" / "0.svg").write_text("")
    caplog.clear()
    load()
    said = caplog.records[0].getMessage()
    assert "50 files are left out, 40 .svg, " in said
    assert "; and 32 more)" in said


def test_a_class_of_files_that_are_not_read_says_what_is_there(load, root):
    (root / "train" / "owl").mkdir()
    (root / "train" / "owl" / "0.heic").write_text("not read")
    with pytest.raises(ConfigError, match=r"owl has no images in train, but 1 \.heic; add .*\.png"):
        load()


def test_identical_files_are_said_once(load, root, caplog):
    load()
    assert caplog.records == []
    shutil.copy(root / "train" / "ant" / "1.png", root / "test" / "ant" / "8.png")
    shutil.copy(root / "train" / "ant" / "1.png", root / "test" / "ant" / "9.png")
    shutil.copy(root / "train" / "ant" / "0.png", root / "train" / "bee" / "9.png")
    shutil.copy(root / "train" / "ant" / "2.png", root / "train" / "ant" / "9.png")
    load()
    (said,) = [record.getMessage() for record in caplog.records]
    assert said == (
        f"dataset.root={root}: 2 files of test are also in train (test/ant/8.png is "
        "train/ant/1.png) and 1 file is in more than one class (train/bee/9.png is train/ant/0.png)"
    )


def test_names_with_control_characters_stay_on_their_line(load, root):
    (root / "train" / "bee" / "a\n\x1b[2J.png").write_text("no image")
    with pytest.raises(RunError, match=r"'train/bee/a\\n\\x1b\[2J\.png' \(not an image") as raised:
        load()
    assert str(raised.value).isprintable()


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
