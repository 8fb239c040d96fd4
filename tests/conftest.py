from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

from fm_al.compose.composer import Composer

CONF = Path(__file__).parents[1] / "conf"

Compose = Callable[..., DictConfig]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors are faster so, and results the same on every machine."""
    torch.set_num_threads(1)
    yield
    torch.set_deterministic_debug_mode("default")


@pytest.fixture
def compose(tmp_path: Path) -> Compose:
    """Composes the configuration as the command line would; records go to a folder of the test."""

    def composed(*overrides: str) -> DictConfig:
        places = [f"output_dir={tmp_path / 'outputs'}", "device=cpu", "device.threads=1"]
        return Composer().compose([*places, *overrides])

    return composed
