"""Features of a network of torch.hub, such as DINOv2."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from fm_al.errors import ConfigError, RunError
from fm_al.features.networks import NetworkExtractor, Preparation

SIDE = 224  # pixels


@dataclass(frozen=True, kw_only=True)
class Hub(NetworkExtractor):
    """A network whose output is the feature vector, from a repository with a `hubconf.py`.

    The repository's code is downloaded and run. Images are resized to a square of 224 pixels, or
    `resize_to`, and normalised with ImageNet's mean and deviation.

    Args:
        repo: `owner/name` or `owner/name:branch` on GitHub, or a folder.
        model: A function of its `hubconf.py` that makes the network with its weights.
    """

    repo: Annotated[str, Field(min_length=1)]
    model: Annotated[str, Field(min_length=1)]

    @cached_property
    def network(self) -> nn.Module:
        source = "local" if Path(self.repo).is_dir() else "github"
        try:
            network = torch.hub.load(
                self.repo, self.model, source=source, trust_repo=True, verbose=False
            )
        except Exception as error:  # of the network, or of the repository's own code
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise RunError(
                f"features.repo={self.repo} features.model={self.model}: can't be loaded ({reason})"
            ) from error
        if not isinstance(network, nn.Module):
            raise ConfigError(
                f"features.model={self.model}: makes an object of {type(network)}; it should make "
                "a network"
            )
        return network.eval()

    def prepare(self, images: Tensor) -> Tensor:
        return Preparation(self.resize_to or SIDE)(images)
