"""Extractors with a network: torchvision's, torch.hub's and timm's."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision import models

from fm_al.errors import ConfigError, RunError
from fm_al.features.hub import Hub
from fm_al.features.networks import IMAGENET_MEAN, IMAGENET_STD, Preparation
from fm_al.features.timm import Timm
from fm_al.features.torchvision import Torchvision

CPU = torch.device("cpu")


def images(count: int = 3, channels: int = 3, side: int = 20) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = count, channels, side, side
    return torch.randint(256, shape, dtype=torch.uint8, generator=generator)


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return models.resnet18(num_classes=7).eval()


@pytest.fixture
def weights(tmp_path: Path, resnet: nn.Module) -> str:
    torch.save(resnet.state_dict(), tmp_path / "weights.pt")
    return str(tmp_path / "weights.pt")


def test_features_are_the_input_of_the_last_layer(weights: str, resnet: nn.Module) -> None:
    extractor = Torchvision(name="resnet18", weights=weights, resize_to=64)
    features = extractor.fitted(images(), CPU)(images())
    assert features.shape == (3, 512)
    mean, std = (torch.tensor(each).view(-1, 1, 1) for each in (IMAGENET_MEAN, IMAGENET_STD))
    prepared = functional.interpolate(images() / 255, size=(64, 64), mode="bilinear")
    with torch.no_grad():
        logits = resnet((prepared - mean) / std)
        torch.testing.assert_close(resnet.fc(features), logits, rtol=1e-4, atol=1e-5)


def test_images_are_prepared_as_torchvision_does_it_for_the_weights(
    weights: str, resnet: nn.Module
) -> None:
    extractor = Torchvision(name="resnet18", weights=weights)
    grey = images(channels=1)
    features = extractor.fitted(grey, CPU)(grey)
    transform = models.ResNet18_Weights.DEFAULT.transforms()
    with torch.no_grad():
        logits = resnet(torch.stack([transform(each) for each in grey.expand(-1, 3, -1, -1)]))
        torch.testing.assert_close(resnet.fc(features), logits, rtol=1e-4, atol=1e-5)


def test_the_identity_is_of_the_weights(tmp_path: Path, weights: str, resnet: nn.Module) -> None:
    extractor = Torchvision(name="resnet18", weights=weights)
    state = dict(resnet.state_dict())
    state["conv1.weight"] = state["conv1.weight"] * 1.001
    torch.save({"state_dict": state}, tmp_path / "others.pt")
    other = Torchvision(name="resnet18", weights=str(tmp_path / "others.pt"))
    assert extractor.weights_digest != other.weights_digest
    assert extractor.identity()["weights_digest"] == extractor.weights_digest
    state = {name: x for name, x in resnet.state_dict().items() if not name.startswith("fc.")}
    torch.save(state, tmp_path / "headless.pt")
    headless = Torchvision(name="resnet18", weights=str(tmp_path / "headless.pt"))
    assert headless.weights_digest == extractor.weights_digest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda state: state | {"conv1.weight": torch.zeros(64, 1, 7, 7)},
            r"conv1.weight has shape \(64, 1, 7, 7\), the network's has \(64, 3, 7, 7\)$",
        ),
        (
            lambda state: {key: x for key, x in state.items() if key != "bn1.bias"},
            "name=resnet18: it lacks bn1.bias$",
        ),
        (
            lambda state: state | {"layer5.weight": torch.zeros(1)},
            "the network has no layer5.weight$",
        ),
        (lambda state: [1, 2], "holds no state_dict of a network$"),
        (lambda state: {"epoch": 3}, "holds no state_dict of a network$"),
    ],
)
def test_weights_that_do_not_fit_are_named(
    tmp_path: Path, resnet: nn.Module, change, message: str
) -> None:
    path = tmp_path / "weights.pt"
    torch.save(change(dict(resnet.state_dict())), path)
    with pytest.raises(ConfigError, match=rf"^features\.weights={path}: .*{message}"):
        Torchvision(name="resnet18", weights=str(path)).identity()


def test_a_damaged_file_or_unknown_weights_are_named(tmp_path: Path, weights: str) -> None:
    (tmp_path / "cut.pt").write_bytes(Path(weights).read_bytes()[:1000])
    with pytest.raises(RunError, match=r"^features\.weights=.*cut\.pt: can't be read \("):
        Torchvision(name="resnet18", weights=str(tmp_path / "cut.pt")).identity()
    (tmp_path / "text.pt").write_text("weights")
    with pytest.raises(RunError, match=r"^features\.weights=.*text\.pt: can't be read \("):
        Torchvision(name="resnet18", weights=str(tmp_path / "text.pt")).identity()
    with pytest.raises(ConfigError, match=r"no such file, and .* use one of IMAGENET1K_V1, DEF"):
        Torchvision(name="resnet18", weights="nothing").identity()


def test_weights_that_cannot_be_downloaded_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(models, "get_model", no_network)
    with pytest.raises(RunError, match=r"^features\.weights=DEFAULT: could not download .*put h"):
        Torchvision(name="resnet18").identity()


def test_data_that_a_network_cannot_take_are_refused(weights: str) -> None:
    extractor = Torchvision(name="resnet18", weights=weights)
    with pytest.raises(ConfigError, match=r"^features=torchvision: takes images .* has vectors; "):
        extractor.fitted(torch.zeros(2, 5, 1, 1), CPU)
    with pytest.raises(ConfigError, match="the data set has 4 channels; use features=pca"):
        extractor.fitted(images(channels=4), CPU)


def test_sizes_that_a_network_cannot_take_are_refused(tmp_path: Path) -> None:
    """The file has an auxiliary head, which is not read."""
    model = models.inception_v3(init_weights=False)
    torch.save(model.state_dict(), tmp_path / "inception.pt")
    file = str(tmp_path / "inception.pt")
    extractor = Torchvision(name="inception_v3", weights=file, resize_to=48)
    with pytest.raises(ConfigError, match=r"^features\.resize_to=48: the network can't take .*224"):
        extractor.fitted(images(), CPU)


HUBCONF = """
import torch

def flat(scale=1.0):
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten(), torch.nn.Linear(12, 4))

def maps():
    return torch.nn.Conv2d(3, 4, 3)

def text():
    return "no network"

def broken():
    raise KeyError("weights")
"""  # noqa: E501


def test_a_network_of_a_folder_with_a_hubconf(tmp_path: Path) -> None:
    (tmp_path / "hubconf.py").write_text(HUBCONF)

    def hub(model: str) -> Hub:
        return Hub(repo=str(tmp_path), model=model, resize_to=32)

    with torch.random.fork_rng():
        extractor = hub("flat")
        features = extractor.fitted(images(), CPU)(images())
        with torch.no_grad():
            expected = extractor.network(Preparation(32)(images()))
    torch.testing.assert_close(features, expected)
    with pytest.raises(ConfigError, match=r"^features=hub: the network returns \(1, 4, 30, 30\); "):
        hub("maps").fitted(images(), CPU)
    with pytest.raises(ConfigError, match=r"makes an object of <class 'str'>; it should make a n"):
        hub("text").identity()
    with pytest.raises(RunError, match=r"features\.model=broken: can't be loaded \(KeyError: 'we"):
        hub("broken").identity()
    with pytest.raises(RunError, match=r"features\.model=nothing: can't be loaded \(RuntimeError"):
        hub("nothing").identity()


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigError, match=r"^features=timm: needs the package timm .*fm_al\[feat"):
        Timm(model="vit_small_patch14_dinov2.lvd142m").identity()


def test_a_network_of_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a stand-in that has what is used of the package."""
    network = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten())
    described = {"input_size": (3, 24, 24), "interpolation": "bicubic"}
    described |= {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
    data = SimpleNamespace(resolve_model_data_config=lambda model: described)
    made = []

    def create_model(name: str, pretrained: bool, num_classes: int) -> nn.Module:
        made.append((name, pretrained, num_classes))
        if name == "away":
            raise OSError("no route to host")
        return network

    package = SimpleNamespace(
        data=data, create_model=create_model, is_model=lambda name: name != "nothing"
    )
    monkeypatch.setitem(sys.modules, "timm", package)
    monkeypatch.setitem(sys.modules, "timm.data", data)
    features = Timm(model="small.tag").fitted(images(), CPU)(images())
    assert made == [("small.tag", True, 0)]
    preparation = Preparation(24, (0.5,) * 3, (0.25,) * 3, "bicubic")
    torch.testing.assert_close(features, network(preparation(images())))
    with pytest.raises(ConfigError, match=r"^features\.model=nothing: timm has no such model; "):
        Timm(model="nothing").identity()
    with pytest.raises(RunError, match=r"^features\.model=away: its weights can't be downloaded"):
        Timm(model="away").identity()
