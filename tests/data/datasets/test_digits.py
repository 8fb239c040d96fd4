from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from fm_al.data.datasets import digits
from fm_al.data.datasets.digits import Digits


@pytest.mark.parametrize("file", [digits.FILE, "nowhere"])
def test_pixels_and_classes_are_scikit_learns(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digits, "FILE", file)
    for ours, theirs in zip(digits.pixels_and_classes(), load_digits(return_X_y=True), strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


def test_the_splits_are_scikit_learns() -> None:
    data = Digits().load(Path("nowhere"), download=False)
    assert data.class_names == tuple("0123456789")
    pixels, classes = load_digits(return_X_y=True)
    images = torch.from_numpy((pixels * 255 / 16).round()).to(torch.uint8).view(-1, 1, 8, 8)
    drawn = train_test_split(
        np.arange(len(classes)), test_size=500, stratify=classes, random_state=0
    )
    for split, positions in zip((data.train, data.test), drawn, strict=True):
        positions.sort()
        assert torch.equal(split.images, images[positions])
        assert torch.equal(split.targets, torch.from_numpy(classes[positions]).long())
    assert data.test.counts(10) == [50, 51, 49, 51, 50, 51, 50, 50, 48, 50]
