"""The scripts of `examples/` that arrange distributed data sets as folders of classes."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from fm_al.data.base import ImageData
from tests.helpers.command_line import ROOT
from tests.helpers.configs import built


def save(path: Path, shade: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), shade, np.uint8)).save(path, "JPEG")


def write(path: Path, rows: list[list[str]], delimiter: str) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)


def arranged(script: str, there: Path, made: Path) -> None:
    """Run a script twice; the second time it finds everything done."""
    for _ in range(2):
        command = [sys.executable, ROOT / "examples" / script, there, made]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def shades(data: ImageData) -> dict[str, list[tuple[str, int]]]:
    """By split, the class and the shade of every image."""
    return {
        name: sorted(
            (data.class_names[number], int(image[0, 0, 0]))
            for image, number in zip(split.images, split.targets.tolist(), strict=True)
        )
        for name, split in (("train", data.train), ("test", data.test))
    }


def test_tiny_imagenet_is_arranged_by_its_folders_and_its_table(tmp_path: Path) -> None:
    there = tmp_path / "tiny-imagenet-200"
    for number, wordnet_id in enumerate(("n01443537", "n02504458")):
        for image in range(3):
            shade = 40 * number + 10 * image
            save(there / "train" / wordnet_id / "images" / f"{wordnet_id}_{image}.JPEG", shade)
        boxes = there / "train" / wordnet_id / f"{wordnet_id}_boxes.txt"
        boxes.write_text(f"{wordnet_id}_0.JPEG\t0\t10\t63\t58\n")
    for image in range(4):
        save(there / "val" / "images" / f"val_{image}.JPEG", 120 + 10 * image)
        save(there / "test" / "images" / f"test_{image}.JPEG", 250)
    of_classes = ["n02504458", "n01443537", "n01443537", "n02504458"]
    table = [[f"val_{i}.JPEG", of_classes[i], "0", "32", "44", "62"] for i in range(4)]
    write(there / "val" / "val_annotations.txt", table, "\t")

    arranged("tiny_imagenet_folders.py", there, tmp_path / "tiny-imagenet")
    dataset = built("dataset", "tiny_imagenet", root=str(tmp_path / "tiny-imagenet"))
    data = dataset.load(tmp_path, download=False)
    assert data.train.images.shape == (6, 3, 64, 64)
    assert shades(data) == {
        "train": [
            *(("n01443537", s) for s in (0, 10, 20)),
            *(("n02504458", s) for s in (40, 50, 60)),
        ],
        "test": [*(("n01443537", s) for s in (130, 140)), *(("n02504458", s) for s in (120, 150))],
    }


def test_isic_2019_is_arranged_by_diagnosis_with_a_lesion_on_one_side(tmp_path: Path) -> None:
    there = tmp_path / "isic-2019"
    names = [f"ISIC_{number:07}" for number in range(120)]
    diagnoses, lesions = ["MEL", "NV"], {}
    truth = [["image", "MEL", "NV", "UNK"]]
    metadata = [["image", "age_approx", "anatom_site_general", "lesion_id", "sex"]]
    for number, name in enumerate(names):
        lesion = number // 4  # of which every third image is without a name
        lesions[name] = "" if number % 3 == 0 else f"BCN_{lesion:07}"
        values = ["1.0" if lesion % 2 == of else "0.0" for of in range(2)]
        save(there / "ISIC_2019_Training_Input" / f"{name}.jpg", 2 * number)
        truth.append([name, *values, "0.0"])
        metadata.append([name, "55.0", "", lesions[name], "female"])
    write(there / "ISIC_2019_Training_GroundTruth.csv", truth, ",")
    write(there / "ISIC_2019_Training_Metadata.csv", metadata, ",")
    (there / "ISIC_2019_Training_Input" / "LICENSE.txt").write_text("CC-BY-NC")

    made = tmp_path / "isic2019"
    arranged("isic2019_folders.py", there, made)
    sides: dict[str, str] = {}
    for path in made.glob("*/*/*"):
        sides[path.stem] = path.parts[-3]
        assert path.parts[-2] == diagnoses[int(path.stem.removeprefix("ISIC_")) // 4 % 2]
    assert sorted(sides) == names
    for lesion in {*lesions.values()} - {""}:
        assert len({sides[name] for name in names if lesions[name] == lesion}) == 1
    assert 0.08 < sum(side == "test" for side in sides.values()) / len(names) < 0.35
    dataset = built("dataset", "isic2019", root=str(made))
    data = dataset.load(tmp_path, download=False)
    assert data.class_names == ("MEL", "NV")
    assert len(data.train) + len(data.test) == len(names)
    found = shades(data)
    assert sorted(shade for side in found.values() for _, shade in side) == list(range(0, 240, 2))
