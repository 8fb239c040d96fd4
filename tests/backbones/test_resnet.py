from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

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
