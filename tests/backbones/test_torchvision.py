"""torchvision's models: all of them are built, without memory for their weights."""

from __future__ import annotations

from pathlib import Path
from typing import get_type_hints
from urllib.error import URLError

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode
from torchvision import models

from fm_al.backbones.torchvision import Torchvision
from fm_al.errors import ConfigError, RunError

pytestmark = pytest.mark.slow

NAMES = models.list_models(module=models)
NO_LINEAR_HEAD = {"squeezenet1_0", "squeezenet1_1"}
SIDE = {"inception_v3": 299}


class WeightsOnMeta(TorchFunctionMode):
    """Layers allocate their weights on the meta device. `torch.device("meta")` would put there also
    the tensors that RegNets compute their widths with."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.empty:
            kwargs = {**kwargs, "device": "meta"}
        return func(*args, **kwargs)


def build(
    name: str,
    channels: int = 3,
    side: int = 32,
    weights: str | None = None,
    resize_to: int | None = None,
) -> Torchvision:
    return Torchvision(channels, 4, (side, side), name, weights, resize_to)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_built_or_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    passed = []

    def recorded(*args: object) -> torch.Tensor:
        passed.append(functional_call(*args))
        return passed[-1]

    monkeypatch.setattr(torch.func, "functional_call", recorded)
    side = SIDE.get(name, 224)
    if name in NO_LINEAR_HEAD:
        with WeightsOnMeta(), pytest.raises(ConfigError, match=f"{name}: does not end in a linear"):
            build(name, side=side)
        return
    with WeightsOnMeta():
        model = build(name, side=side)
    assert [embedding.shape for embedding in passed] == [(1, model.head.in_features)]
    last = list(model.body.modules())[-1]
    assert isinstance(last, nn.Identity), "torchvision's own head is still there"


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_auxiliary_heads_are_gone(name: str) -> None:
    with WeightsOnMeta():
        model = build(name, side=SIDE.get(name, 224))
    assert not [key for key, _ in model.named_parameters() if "aux" in key.lower()]
    batch = torch.empty(2, 3, SIDE.get(name, 224), SIDE.get(name, 224), device="meta")
    assert model.to("meta").train()(batch).shape == (2, 4)


@pytest.mark.parametrize(
    ("name", "use"), [("alexnet", 224), ("vit_b_16", 224), ("inception_v3", 224)]
)
def test_images_of_the_wrong_size_are_refused_and_the_advice_works(name: str, use: int) -> None:
    with WeightsOnMeta(), pytest.raises(ConfigError, match=rf"resize_to.*8 x 8.*use {use}$"):
        build(name, side=8)
    with WeightsOnMeta():
        build(name, side=8, resize_to=use)


def test_resizing_repeats_grey_and_interpolates() -> None:
    model = build("mobilenet_v3_small", channels=1, side=8, resize_to=64)
    seen = []
    model.body.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    model.eval()(torch.full((2, 1, 8, 8), 0.5))
    torch.testing.assert_close(seen[0], torch.full((2, 3, 64, 64), 0.5))


def test_other_channels_are_refused() -> None:
    with pytest.raises(ConfigError, match="these have 4"):
        build("resnet18", channels=4)


def test_a_misspelt_name_is_refused_with_close_ones() -> None:
    name = TypeAdapter(get_type_hints(Torchvision.__init__, include_extras=True)["name"])
    assert name.validate_python("resnet50") == "resnet50"
    with pytest.raises(ValidationError, match=r"no such classification model; use .*resnet18"):
        name.validate_python("resnet81")


def test_a_misspelt_weight_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match="null or one of IMAGENET1K_V1, DEFAULT"):
        build("resnet18", weights="IMAGENET1K_V7")


def test_weights_are_the_bodys_and_the_head_is_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    url = models.get_model_weights("shufflenet_v2_x0_5").DEFAULT.url
    pretrained = models.shufflenet_v2_x0_5()
    file = tmp_path / "checkpoints" / Path(url).name
    file.parent.mkdir()
    torch.save(pretrained.state_dict(), file)
    model = build("shufflenet_v2_x0_5", weights="DEFAULT")
    body = model.body.state_dict()
    assert set(body) == {key for key in pretrained.state_dict() if not key.startswith("fc.")}
    assert all(torch.equal(value, pretrained.state_dict()[key]) for key, value in body.items())
    assert model.head.weight.shape == (4, 1024)


@pytest.mark.parametrize("damaged", [False, True])
def test_weights_that_cannot_be_had_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: bool
) -> None:
    def unreachable(*args: object, **kwargs: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    if damaged:
        (tmp_path / "checkpoints").mkdir()
        url = models.get_model_weights("resnet18").DEFAULT.url
        (tmp_path / "checkpoints" / Path(url).name).write_bytes(b"torn")
    with pytest.raises(RunError, match=r"backbone\.weights=DEFAULT: could not") as caught:
        build("resnet18", weights="DEFAULT")
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert damaged or "no route to host" in str(caught.value)
