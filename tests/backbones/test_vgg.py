from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torchvision.models import vgg, vgg16_bn

from fm_al.backbones.base import Backbone
from fm_al.backbones.vgg import VGG16, _features
from fm_al.errors import ConfigError
from fm_al.randomness import global_generator_of


def test_layers_are_torchvisions_to_the_bit() -> None:
    def drawn(make: Callable[[], nn.Module]) -> nn.Module:
        with global_generator_of(torch.Generator().manual_seed(0), torch.device("cpu")):
            return make()

    ours = drawn(_features)
    theirs = drawn(lambda: vgg.make_layers(vgg.cfgs["D"], batch_norm=True))
    assert str(ours) == str(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_body_is_torchvisions_but_for_the_channels(build: Callable[..., Backbone]) -> None:
    with torch.device("meta"):
        theirs = [tuple(p.shape) for p in vgg16_bn(init_weights=False).features.parameters()]
    ours = build("vgg16", channels=1)
    assert [tuple(p.shape) for p in ours.body.parameters()] == [(64, 1, 3, 3), *theirs[1:]]
    assert ours.head.in_features == 512


def test_images_too_small_are_refused_with_what_would_do() -> None:
    with pytest.raises(ConfigError, match=r"these are 8 x 8; set dataset\.pad_to=32") as caught:
        VGG16(channels=1, classes=10, image_size=(8, 8))
    assert "\n" not in str(caught.value)
