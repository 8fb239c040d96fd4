from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torchvision.models import resnet as theirs

from fm_al.backbones import resnet
from fm_al.backbones.base import Backbone

Build = Callable[..., Backbone]


@pytest.mark.parametrize(("channels", "expected"), [(3, 700_688), (1, 700_400)])
def test_quarter_resnet_has_the_papers_parameters(
    build: Build, channels: int, expected: int
) -> None:
    model = build("resnet18_quarter", channels)
    assert sum(p.numel() for p in model.parameters()) == expected
    assert model.head.bias is None
    assert model.head.in_features == 128


@pytest.mark.parametrize(
    ("name", "expected", "embedding"),
    [
        ("resnet18", 11_173_962, 512),
        ("resnet34", 21_282_122, 512),
        ("resnet50", 23_520_842, 2048),
    ],
)
def test_parameters_are_those_known_for_cifar10(
    build: Build, name: str, expected: int, embedding: int
) -> None:
    model = build(name, classes=10)
    assert sum(p.numel() for p in model.parameters()) == expected
    assert model.head.in_features == embedding


def test_stages_halve_the_image_three_times(build: Build) -> None:
    model = build("resnet18_quarter").eval()
    batch = torch.zeros(1, 3, 32, 32)
    assert model.stem(batch).shape == (1, 16, 32, 32)
    assert model.blocks(model.stem(batch)).shape == (1, 128, 4, 4)


@pytest.mark.parametrize("name", ["resnet18_quarter", "resnet50"])
def test_blocks_are_torchvisions_to_the_bit(
    name: str, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = build(name, classes=10)
    blocks = {"basic": theirs.BasicBlock, "bottleneck": theirs.Bottleneck}
    monkeypatch.setattr(resnet, "_BLOCKS", blocks)
    expected = build(name, classes=10)
    assert isinstance(expected.blocks[0], theirs.BasicBlock | theirs.Bottleneck)
    batch = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for network in (ours, expected):
        network.train()(batch).logsumexp(1).sum().backward()
    gradients = zip(ours.parameters(), expected.parameters(), strict=True)
    assert all(torch.equal(a.grad, b.grad) for a, b in gradients)
    state = ours.state_dict()
    assert list(state) == list(expected.state_dict())
    assert all(torch.equal(state[key], value) for key, value in expected.state_dict().items())
    assert torch.equal(ours.eval()(batch), expected.eval()(batch))
