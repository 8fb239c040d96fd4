"""The contract of a start: how the first images are chosen."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from fm_al.data.pool import Pool


class Start(ABC):
    """Choose the images that are labelled before the first round.

    The choice depends on the pool, the seed and the start's own options alone, so that all
    strategies of a seed start from the same images.

    Attributes:
        uses_classes: Whether it reads the classes of images that nobody has labelled: an oracle
            setting, which the run's records and the report say.
    """

    uses_classes: ClassVar[bool] = False

    @property
    def reads_features(self) -> bool:
        """Whether it reads the pool's fixed features; see `Strategy.reads_features`."""
        return False

    def check(self, n: int) -> None:  # noqa: B027 - most choose any number
        """Raise ConfigError if it cannot choose n images. Called before anything is loaded."""

    @abstractmethod
    def choose(self, pool: Pool, n: int, generator: torch.Generator) -> Tensor:
        """Choose the images.

        Args:
            pool: Nothing is labelled yet.
            n: How many images to choose.
            generator: A seeded CPU generator.

        Returns:
            Distinct indices, int64 (n,), in the order of labelling.

        Raises:
            ConfigError: If the pool does not allow it.
        """
