from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from fm_al.backbones.base import Backbone
from fm_al.randomness import generator_for, global_generator_of

CONF = Path(__file__).parents[2] / "conf" / "backbone"


@pytest.fixture
def build() -> Callable[..., Backbone]:
    """Builds a file of conf/backbone as a run does, with weights drawn from a seed."""

    def built(
        name: str, channels: int = 3, side: int = 32, classes: int = 4, seed: int = 0
    ) -> Backbone:
        backbone = instantiate(
            OmegaConf.load(CONF / f"{name}.yaml"), _partial_=True, _convert_="all"
        )
        with global_generator_of(generator_for(seed, "weights"), torch.device("cpu")):
            return backbone(channels=channels, classes=classes, image_size=(side, side))

    return built
