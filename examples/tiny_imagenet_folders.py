"""Arranges Tiny ImageNet, as it is distributed, for `dataset=tiny_imagenet`.

    python examples/tiny_imagenet_folders.py data/tiny-imagenet-200 data/tiny-imagenet

The first folder is the unpacked archive tiny-imagenet-200.zip. The second gets links to its images:
the 100,000 training images become the pool, the 10,000 validation images, which lie in one folder
beside a table of their classes, the test set. The archive's test images have no labels.
"""

from __future__ import annotations

import argparse
import csv
import os
from pathlib import Path


def link(image: Path, folder: Path) -> None:
    """Link to an image from the folder of its class, relative to it."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / image.name).is_symlink():
        (folder / image.name).symlink_to(os.path.relpath(image, folder))


def main() -> None:
    """Link every labelled image."""
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("there", type=Path, help="the folder as it is distributed")
    arguments.add_argument("made", type=Path, help="the folder to make")
    there, made = vars(arguments.parse_args()).values()
    for image in sorted(there.glob("train/*/images/*")):
        link(image, made / "train" / image.parts[-3])
    with (there / "val" / "val_annotations.txt").open(newline="") as table:
        for name, wordnet_id, *_ in csv.reader(table, delimiter="\t"):
            link(there / "val" / "images" / name, made / "test" / wordnet_id)


if __name__ == "__main__":
    main()
