from __future__ import annotations

from pathlib import Path

import torch
from sklearn.datasets import load_digits

from fm_al.data.datasets.digits import Digits


def test_every_digit_is_in_one_of_the_splits_and_the_test_set_is_stratified():
    data = Digits().load(Path("nowhere"), download=False)
    assert data.class_names == tuple("0123456789")
    assert (len(data.train), len(data.test)) == (1297, 500)
    assert min(data.test.counts(10)) >= 48
    assert max(data.test.counts(10)) <= 51
    pixels, classes = load_digits(return_X_y=True)
    scaled = torch.from_numpy((pixels * 255 / 16).round()).to(torch.uint8)
    loaded = torch.cat([data.train.images, data.test.images]).view(-1, 64)
    everything = torch.cat([scaled, torch.from_numpy(classes)[:, None].to(torch.uint8)], 1)
    targets = torch.cat([data.train.targets, data.test.targets])[:, None].to(torch.uint8)
    both = [
        sorted(map(bytes, table.numpy())) for table in (everything, torch.cat([loaded, targets], 1))
    ]
    assert both[0] == both[1]


def test_the_split_never_changes():
    data = Digits().load(Path("nowhere"), download=False)
    assert data.test.counts(10) == [50, 51, 49, 51, 50, 51, 50, 50, 48, 50]
    assert data.test.targets[:12].tolist() == [0, 1, 4, 5, 8, 5, 6, 5, 9, 9, 1, 3]
    assert int(data.test.images.sum()) == 2492007
