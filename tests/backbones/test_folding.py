"""Batch norms are folded where the network's results stay what they were, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from fm_al.backbones.base import Backbone
from fm_al.backbones.folding import Folded, foldable, folded, folding
from fm_al.backbones.torchvision import Torchvision
from fm_al.errors import RunError
from tests.helpers.configs import names

NAMES = names("backbone")
Build = Callable[..., Backbone]


def spread(network: nn.Module) -> nn.Module:
    """The network with batch norms as training leaves them, in eval mode."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean):
                nn.init.normal_(tensor, generator=generator)
            nn.init.uniform_(module.running_var, 0.5, 2, generator=generator)
    return network.eval()


def random_images(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2))


def assert_only_rounding_differs(network: nn.Module, images: Tensor, pairs: int) -> None:
    """And that the network is as it was afterwards."""
    network.double()
    state = {name: value.clone() for name, value in network.state_dict().items()}
    attributes = {module: set(vars(module)) for module in network.modules()}
    with torch.no_grad():
        expected = network(images.double())
        assert len(foldable(network, images[:1].double())) == pairs
        with folded(network, images[:1].double()):
            calls = sum("forward" in vars(module) for module in network.modules())
            outputs = network(images.double())
        assert torch.equal(network(images.double()), expected)
    assert calls == 2 * pairs
    torch.testing.assert_close(outputs, expected)
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert attributes == {module: set(vars(module)) for module in network.modules()}
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in attributes)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_batch_norm_of_the_backbones(build: Build, name: str) -> None:
    network = spread(build(name))
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    assert_only_rounding_differs(network, random_images(3, 3, 32, 32), norms)


@pytest.mark.parametrize(
    ("name", "pairs"),
    [
        ("mobilenet_v3_small", 34),
        ("shufflenet_v2_x0_5", 56),
        ("googlenet", 57),
        ("densenet121", 59),  # of 121: the others come before their convolution
        ("convnext_tiny", 0),
    ],
)
def test_torchvision_s_networks(name: str, pairs: int) -> None:
    assert name in models.list_models(module=models)
    network = spread(Torchvision(3, 4, (64, 64), name, None, None))
    assert_only_rounding_differs(network, random_images(2, 3, 64, 64), pairs)


CONVOLUTIONS: dict[str, Callable[[], nn.Conv2d]] = {
    "bias": lambda: nn.Conv2d(4, 6, 3, padding=1),
    "groups": lambda: nn.Conv2d(4, 6, 3, groups=2, bias=False),
    "stride and dilation": lambda: nn.Conv2d(4, 6, (3, 2), stride=(2, 1), dilation=(1, 2)),
    "same": lambda: nn.Conv2d(4, 6, (4, 3), padding="same", bias=False),
    "circular": lambda: nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular"),
}
NORMS: dict[str, Callable[[], nn.BatchNorm2d]] = {
    "affine": lambda: nn.BatchNorm2d(6),
    "not affine": lambda: nn.BatchNorm2d(6, affine=False, eps=0.1),
}


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("convolution", CONVOLUTIONS)
def test_options_of_the_layers(convolution: str, norm: str) -> None:
    network = nn.Sequential(CONVOLUTIONS[convolution](), NORMS[norm](), nn.ReLU(inplace=True))
    network[1].running_mean.normal_(generator=torch.Generator().manual_seed(0))
    network[1].running_var.uniform_(0.1, 3)
    assert_only_rounding_differs(network.eval(), random_images(3, 4, 7, 9), 1)


def test_float32_predictions_are_the_float64_ones_to_its_rounding(build: Build) -> None:
    network, images = spread(build("resnet18_quarter")), random_images(8, 3, 32, 32)
    with torch.no_grad():
        with folded(network, images[:1]):
            outputs = network(images)
        plain, exact = network(images), network.double()(images.double())
    error, rounding = ((each.double() - exact).abs().max() for each in (outputs, plain))
    assert error < 2 * rounding


@pytest.mark.parametrize("gamma", [0.0, -1.0, 1e-30, float("nan"), float("inf")])
def test_nasty_weights_of_a_norm(gamma: float) -> None:
    network = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3)).eval()
    with torch.no_grad():
        network[1].weight[1] = gamma
    images = random_images(2, 2, 4, 4)
    with torch.no_grad():
        expected = network(images)
        with folded(network, images[:1]):
            outputs = network(images)
    assert torch.equal(outputs.isfinite(), expected.isfinite())
    torch.testing.assert_close(outputs[:, ::2], expected[:, ::2])
    if gamma <= 0:
        torch.testing.assert_close(outputs, expected)


class Branch(nn.Module):
    """A convolution and a norm, with something between or beside them."""

    def __init__(self, forward: Callable[[nn.Module, nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2)
        self.other = nn.BatchNorm2d(2)
        self.compute = forward

    def forward(self, images: Tensor) -> Tensor:
        return self.compute(self, images)


def beside(self: Branch, images: Tensor) -> Tensor:
    convolved = self.conv(images)
    return self.norm(convolved) + convolved


def gated(self: Branch, images: Tensor) -> Tensor:
    convolved = self.conv(images)
    return self.norm(convolved) * (convolved.detach() > 0)


def viewed(self: Branch, images: Tensor) -> Tensor:
    convolved = self.conv(images)
    first = convolved[:, :1]
    return self.norm(convolved) + first


def changed(self: Branch, images: Tensor) -> Tensor:
    return self.norm(self.conv(images).relu_())


def changed_by_hand(self: Branch, images: Tensor) -> Tensor:
    convolved = self.conv(images)
    convolved[:, 0] = 1
    return self.norm(convolved)


def between(self: Branch, images: Tensor) -> Tensor:
    return self.norm(self.conv(images).relu())


def two_norms(self: Branch, images: Tensor) -> Tensor:
    convolved = self.conv(images)
    return self.norm(convolved) + self.other(convolved)


def conv_twice(self: Branch, images: Tensor) -> Tensor:
    return self.norm(self.conv(self.conv(images)))


def norm_twice(self: Branch, images: Tensor) -> Tensor:
    return self.norm(self.norm(self.conv(images)))


def by_keyword(self: Branch, images: Tensor) -> Tensor:
    return self.norm(input=self.conv(images))


@pytest.mark.parametrize(
    "forward",
    [
        *(beside, gated, viewed, changed, changed_by_hand, between),
        *(two_norms, conv_twice, norm_twice, by_keyword),
    ],
)
def test_whatever_else_depends_on_the_convolution_is_left_alone(
    forward: Callable[[Branch, Tensor], Tensor],
) -> None:
    assert_only_rounding_differs(spread(Branch(forward)), random_images(3, 2, 5, 5), 0)


def test_in_place_changes_of_the_norm_s_output_are_no_matter() -> None:
    network = spread(Branch(lambda self, images: self.norm(self.conv(images)).relu_() + images))
    assert_only_rounding_differs(network, random_images(3, 2, 5, 5), 1)


@pytest.mark.parametrize("module", ["conv", "norm"])
@pytest.mark.parametrize("register", ["register_forward_hook", "register_forward_pre_hook"])
def test_modules_with_hooks_are_left_alone(module: str, register: str) -> None:
    network = spread(Branch(lambda self, images: self.norm(self.conv(images))))
    assert len(foldable(network, random_images(1, 2, 5, 5))) == 1
    getattr(network.get_submodule(module), register)(lambda *_: None)
    assert foldable(network, random_images(1, 2, 5, 5)) == []


class Scaled(nn.Conv2d):
    """Not exactly nn.Conv2d."""

    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


def test_modules_of_other_kinds_and_in_training_mode_are_left_alone() -> None:
    images = random_images(2, 3, 5, 5)
    assert foldable(nn.Sequential(Scaled(3, 3, 1), nn.BatchNorm2d(3)).eval(), images) == []
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
    assert foldable(network, images) == []
    untracked = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, track_running_stats=False))
    assert foldable(untracked.eval(), images) == []


def test_mixed_precision_is_left_alone(build: Build) -> None:
    network, images = spread(build("cnn")), random_images(4, 3, 32, 32)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = network(images)
        with folded(network, images[:1]):
            assert torch.equal(network(images), expected)


def test_what_is_computed_may_be_a_part_of_the_network(build: Build) -> None:
    network, images = spread(build("cnn")), random_images(4, 3, 32, 32)
    with torch.inference_mode():
        expected = network.embed(images)
        with folded(network, images[:1], network.embed):
            torch.testing.assert_close(network.embed(images), expected, rtol=1e-4, atol=1e-4)


class Failing(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        raise ValueError("no luck")


def test_errors_leave_the_network_as_it_was() -> None:
    network = nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)).eval()
    images = random_images(2, 2, 3, 3)
    pairs = [Folded(*pair) for pair in foldable(network, images)]
    network.append(Failing())
    for attempt in (lambda: foldable(network, images), lambda: network(images)):
        with pytest.raises(ValueError, match="no luck"), folding(pairs):
            attempt()
        assert not any("forward" in vars(module) for module in network.modules())
        assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize("skipped", ["conv", "norm"])
def test_a_network_that_treats_images_differently_is_an_error(skipped: str) -> None:
    def forward(self: Branch, images: Tensor) -> Tensor:
        if len(images) == 1:
            return self.norm(self.conv(images))
        return self.norm(images) if skipped == "conv" else self.conv(images)

    network, images = spread(Branch(forward)), random_images(2, 2, 3, 3)
    with (
        pytest.raises(RunError, match="call the same modules for all images"),
        folded(network, images[:1]),
    ):
        network(images)
    assert not any("forward" in vars(module) for module in network.modules())
