from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from fm_al.backbones.base import Backbone
from fm_al.randomness import generator_for, global_generator_of
from tests.helpers.configs import built


@pytest.fixture
def build() -> Callable[..., Backbone]:
    """Builds a file of conf/backbone as a run does, with weights drawn from a seed."""

    def drawn(
        name: str, channels: int = 3, side: int = 32, classes: int = 4, seed: int = 0
    ) -> Backbone:
        with global_generator_of(generator_for(seed, "weights"), torch.device("cpu")):
            return built(
                "backbone", name, channels=channels, classes=classes, image_size=(side, side)
            )

    return drawn
