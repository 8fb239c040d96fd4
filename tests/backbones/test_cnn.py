from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from sklearn.datasets import load_digits

from fm_al.backbones.base import Backbone
from fm_al.backbones.cnn import CNN
from fm_al.errors import ConfigError


def test_learns_the_digits(build: Callable[..., Backbone]) -> None:
    digits = load_digits()
    pictures = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 8 - 1
    targets = torch.tensor(digits.target)
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(targets), generator=generator)
    train, test = order[:1400], order[1400:]
    model = build("cnn", channels=1, side=8, classes=10)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(5):
        shuffled = train[torch.randperm(len(train), generator=generator)]
        for batch in shuffled.split(64):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(pictures[batch]), targets[batch])
            loss.backward()
            optimizer.step()
    model.eval()
    with torch.no_grad():
        accuracy = (model(pictures[test]).argmax(1) == targets[test]).float().mean().item()
    assert accuracy > 0.95


@pytest.mark.parametrize("side", [1, 3, 4, 7, 8])
def test_as_many_convolutions_as_the_refusal_advises_do_work(side: int) -> None:
    with pytest.raises(ConfigError, match=rf"backbone\.widths=.*are {side} x {side}") as caught:
        CNN(channels=1, classes=2, image_size=(side, side), widths=[4] * 9)
    advised = int(str(caught.value).rpartition("use at most ")[2])
    model = CNN(1, 2, (side, side), widths=[4] * advised).eval()
    assert model(torch.zeros(1, 1, side, side)).shape == (1, 2)
    with pytest.raises(ConfigError):
        CNN(1, 2, (side, side), widths=[4] * (advised + 1))
