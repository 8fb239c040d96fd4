"""scikit-learn's handwritten digits: 1,797 images of 8 x 8, part of that package."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from fm_al.data.base import Dataset, ImageData, Split


@dataclass(frozen=True, kw_only=True)
class Digits(Dataset):
    """Values 0 to 16 are scaled to 0 to 255. The test set is one stratified draw of 500 images,
    the same for every seed: `train_test_split(test_size=500, random_state=0)`."""

    def read(self, data_dir: Path, download: bool) -> ImageData:
        pixels, classes = load_digits(return_X_y=True)
        images = torch.from_numpy(np.rint(pixels * (255 / 16)).astype(np.uint8)).view(-1, 1, 8, 8)
        everything = Split(images, torch.from_numpy(classes).long())
        train, test = train_test_split(
            np.arange(len(classes)), test_size=500, stratify=classes, random_state=0
        )
        return ImageData(
            train=everything[torch.from_numpy(np.sort(train))],
            test=everything[torch.from_numpy(np.sort(test))],
            class_names=tuple(str(digit) for digit in range(10)),
        )
