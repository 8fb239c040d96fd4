"""What holds for every backbone: each file in conf/backbone is built and tried."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import nn

from fm_al.backbones.base import Backbone
from fm_al.randomness import generator_for
from tests.helpers.configs import names

NAMES = names("backbone")
Build = Callable[..., Backbone]


def images(count: int, channels: int = 3, side: int = 32) -> torch.Tensor:
    return torch.randn(count, channels, side, side, generator=generator_for(0, "images"))


def test_conf_has_the_backbones() -> None:
    assert set(NAMES) >= {
        *("linear", "mlp", "cnn", "resnet18_quarter", "resnet18", "resnet34", "resnet50"),
        *("vgg16", "torchvision"),
    }


@pytest.mark.slow
@pytest.mark.parametrize(("channels", "side"), [(3, 32), (1, 32), (1, 8), (1, 28)])
@pytest.mark.parametrize("name", NAMES)
def test_logits_are_the_head_of_the_embedding(
    build: Build, name: str, channels: int, side: int
) -> None:
    if name == "vgg16" and side < 32:
        side = 33  # smaller ones are refused; see test_vgg.py
    model = build(name, channels, side).eval()
    assert isinstance(model, Backbone)
    assert isinstance(model.head, nn.Linear)
    with torch.no_grad():
        batch = images(3, channels, side)
        embeddings, logits = model.embed(batch), model(batch)
        assert embeddings.shape == (3, model.head.in_features)
        assert logits.shape == (3, 4)
        torch.testing.assert_close(logits, model.head(embeddings), rtol=0, atol=0)
        torch.testing.assert_close(model(batch[:1]), logits[:1], rtol=1e-4, atol=1e-5)
        assert (logits[0] - logits[1]).abs().max() > 1e-6, "the logits don't depend on the image"


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_gets_a_finite_gradient(build: Build, name: str) -> None:
    model = build(name)
    torch.nn.functional.cross_entropy(model(images(4)), torch.arange(4)).backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key


@pytest.mark.parametrize("name", NAMES)
def test_every_layer_is_a_plain_one_used_once(build: Build, name: str) -> None:
    model = build(name).eval()
    calls: Counter[str] = Counter()
    layers = [key for key, m in model.named_modules() if list(m.parameters(recurse=False))]
    for key in layers:
        layer = model.get_submodule(key)
        assert type(layer) in (nn.Linear, nn.Conv2d, nn.BatchNorm2d, nn.LayerNorm), key
        layer.register_forward_hook(lambda *_, key=key: calls.update([key]))
    model(images(2))
    assert calls == Counter(layers)


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_a_function_of_the_seed(build: Build, name: str) -> None:
    before = torch.get_rng_state()
    first, again, other = build(name), build(name), build(name, seed=1)
    assert torch.equal(before, torch.get_rng_state())
    for key, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key
    assert not torch.equal(first.head.weight, other.head.weight)


@pytest.mark.parametrize("name", NAMES)
def test_channels_last_gives_the_same_logits(build: Build, name: str) -> None:
    model, batch = build(name).eval(), images(2)
    with torch.no_grad():
        expected = model(batch)
        model.to(memory_format=torch.channels_last)
        logits = model(batch.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
