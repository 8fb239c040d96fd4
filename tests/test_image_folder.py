"""Runs and sweeps on a folder of images, as a user starts them."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fm_al.data.class_folders import ClassFolders
from fm_al.data.datasets import image_folder
from tests.helpers.command_line import QUICK, fm_al, fm_al_process

SIZE = 8


def fill(root: Path, seed: int, names: tuple[str, ...] = ("cat", "dog")) -> None:
    """Images of equal names, sizes and times whatever the seed."""
    random = np.random.default_rng(seed)
    for split in ("train", "test"):
        for name in names:
            folder = root / split / name
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(20):
                pixels = random.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.bmp")
                os.utime(folder / f"{number}.bmp", ns=(0, 0))


@pytest.fixture
def options(tmp_path: Path) -> list[str]:
    return [
        "dataset=image_folder", f"dataset.root={tmp_path / 'images'}", f"dataset.size={SIZE}",
        "dataset.crop_padding=0", f"data_dir={tmp_path / 'data'}", *QUICK, "budget.total=20",
    ]  # fmt: skip


def content_of_the_run(folder: Path) -> str:
    (provenance,) = folder.rglob("provenance.json")
    return json.loads(provenance.read_text())["decides"]["dataset_content"]


def test_other_images_of_equal_names_sizes_and_times_are_another_run(tmp_path, options) -> None:
    fill(tmp_path / "images", seed=0)
    assert fm_al(tmp_path, *options).returncode == 0
    first = content_of_the_run(tmp_path)
    fill(tmp_path / "images", seed=1)
    other = fm_al(tmp_path, *options)
    assert other.returncode == 1
    assert "differs in dataset_content" in other.stderr
    assert "(its images, or how they are decoded, have changed since); use another" in other.stderr
    assert fm_al(tmp_path, *options, "output_dir=others").returncode == 0
    assert content_of_the_run(tmp_path / "others") != first
    fill(tmp_path / "images", seed=0)
    assert "finished already" in fm_al(tmp_path, *options).stdout


def test_what_an_earlier_version_cached_is_not_read(tmp_path, options) -> None:
    """It was keyed by names, sizes and times, so it may hold the images of another folder."""
    root = tmp_path / "images"
    fill(root, seed=0)
    files = [
        (f"{split}/{name}/{file}", (root / split / name / file).stat().st_size, 0)
        for split in ("train", "test")
        for name in ("cat", "dog")
        for file in sorted(path.name for path in (root / split / name).iterdir())
    ]
    key = hashlib.sha256(json.dumps([1, SIZE, 3, files]).encode()).hexdigest()
    cache = tmp_path / "data" / "image_folder-cache"
    cache.mkdir(parents=True)
    np.save(cache / f"{key}.npy", np.zeros((80, 3, SIZE, SIZE), np.uint8))
    (cache / f"{key}.json").write_text(json.dumps({"content": "of another folder"}))
    assert fm_al(tmp_path, *options).returncode == 0
    assert content_of_the_run(tmp_path) != "of another folder"
    assert len([*cache.iterdir()]) == 4


def test_a_sweep_decodes_damaged_images_once_to_fail_thrice(tmp_path, options, monkeypatch) -> None:
    fill(tmp_path / "images", seed=0)
    for number in (3, 4):
        (tmp_path / "images" / "train" / "dog" / f"{number}.bmp").write_bytes(b"BM")
    decoded, decode = [], image_folder.decoded

    def counted(*arguments):
        decoded.append(arguments)
        return decode(*arguments)

    monkeypatch.setattr(image_folder, "decoded", counted)
    ended = fm_al(tmp_path, "-m", *options, "seed=0,1,2")
    assert ended.returncode == 1
    assert ended.stdout.count(": 2 images can't be read: train/dog/3.bmp (") == 3
    assert "fm-al: 3 of 3 runs failed: " in ended.stderr
    assert len(decoded) == 80


def test_planning_a_finished_sweep_hashes_the_folder_once(tmp_path, options, monkeypatch) -> None:
    fill(tmp_path / "images", seed=0)
    assert fm_al(tmp_path, "-m", *options, "seed=0,1,2").returncode == 0
    hashed, hashing = [], ClassFolders.digests

    def counted(folders: ClassFolders):
        hashed.append(folders)
        return hashing(folders)

    monkeypatch.setattr(ClassFolders, "digests", counted)
    again = fm_al(tmp_path, "-m", *options, "seed=0,1,2")
    assert "3 of 3 runs are finished" in again.stdout
    assert len(hashed) == 1


def test_numbers_that_are_names_keep_the_classes_of_those_names(tmp_path, options) -> None:
    fill(tmp_path / "images", seed=0, names=tuple(str(number) for number in range(1, 13)))
    counts = ["imbalance=counts", "imbalance.pool={2: 10, 12: 20}"]
    ended = fm_al(tmp_path, *options, *counts)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith(
        "2 classes, 30 images in the pool and 40 in the test set: 12 20/20, 2 10/20\n"
    )
    refused = fm_al(tmp_path, *options, "imbalance=counts", "imbalance.pool={0: 10, 12: 20}")
    assert refused.returncode == 2
    assert refused.stderr.startswith("fm-al: imbalance.pool: no class '0'; ")
    assert refused.stderr.count("\n") == 1


def _as_before_digests(text: str, **values: object) -> str:
    record = json.loads(text) | values
    del record["digest"]
    return json.dumps(record) + "\n"


def test_a_finished_run_of_other_classes_than_its_numbers_name_is_not_taken_for_it(
    tmp_path, options
) -> None:
    fill(tmp_path / "images", seed=0, names=tuple(str(number) for number in range(1, 13)))
    counts = ["imbalance=counts", "imbalance.pool={2: 20, 3: 20}"]
    assert fm_al(tmp_path, *options, *counts).returncode == 0
    assert "finished already" in fm_al(tmp_path, *options, *counts).stdout
    (path,) = tmp_path.rglob("result.json")
    rounds = path.with_name("rounds.jsonl")
    rounds.write_text("".join(map(_as_before_digests, rounds.read_text().splitlines())))
    path.write_text(_as_before_digests(path.read_text(), class_names=["11", "12"]))
    for sweep in ([], ["-m"]):
        refused = fm_al(tmp_path, *sweep, *options, *counts)
        assert refused.returncode == 1
        assert 'holds a run of the classes ["11", "12"], and the configuration' in refused.stderr
        assert 'now names ["2", "3"]; use another' in refused.stderr


@pytest.mark.slow
def test_warnings_are_one_line_each_before_the_first_round(tmp_path, options) -> None:
    fill(tmp_path / "images", seed=0)
    train = tmp_path / "images" / "train"
    (train / "dog" / "no-extension").write_text("")
    (train / "cat" / "0.bmp").write_bytes((train / "dog" / "0.bmp").read_bytes())
    ended = fm_al_process(tmp_path, *options)
    assert ended.returncode == 0
    left_out, twice = ended.stderr.splitlines()
    assert ": 1 file is left out, 1 without extension (train/dog: 1 without extens" in left_out
    assert ": 1 file is in more than one class (train/dog/0.bmp is train/cat/0.bmp)" in twice
