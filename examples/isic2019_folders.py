"""Arranges the training images of ISIC 2019, as they are distributed, for `dataset=isic2019`.

    python examples/isic2019_folders.py data/isic-2019 data/isic2019

The first folder holds the images, ISIC_2019_Training_Input/, and the tables
ISIC_2019_Training_GroundTruth.csv and ISIC_2019_Training_Metadata.csv. The second gets links to the
images. A fifth of the lesions is the
test set, drawn by a digest of their names. All images of a lesion are on the same side, since a
network recognises a lesion that it was trained on.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import os
from pathlib import Path


def rows(table: Path) -> list[dict[str, str]]:
    """Read a table with a head."""
    with table.open(newline="") as lines:
        return list(csv.DictReader(lines))


def split(lesion: str) -> str:
    """The side that a lesion is on, the same on every machine."""
    digest = hashlib.sha256(lesion.encode()).digest()
    return "test" if int.from_bytes(digest[:8], "big") % 5 == 0 else "train"


def main() -> None:
    """Link every image from the folder of its diagnosis."""
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("there", type=Path, help="the folder as it is distributed")
    arguments.add_argument("made", type=Path, help="the folder to make")
    there, made = vars(arguments.parse_args()).values()
    metadata = rows(there / "ISIC_2019_Training_Metadata.csv")
    lesions = {row["image"]: row["lesion_id"] for row in metadata}
    for row in rows(there / "ISIC_2019_Training_GroundTruth.csv"):
        name = row.pop("image")
        (diagnosis,) = (column for column, value in row.items() if float(value) == 1)
        image = there / "ISIC_2019_Training_Input" / f"{name}.jpg"
        folder = made / split(lesions.get(name) or name) / diagnosis
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / image.name).is_symlink():
            (folder / image.name).symlink_to(os.path.relpath(image, folder))


if __name__ == "__main__":
    main()
