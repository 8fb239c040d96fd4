"""The contract of a query strategy, and the query that it is given."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from fm_al.backbones.base import Backbone
from fm_al.backbones.folding import folded
from fm_al.data.pool import Pool
from fm_al.errors import DIVERGED, RunError


class Strategy(ABC):
    """Chooses which images to label next.

    A strategy is one file in `fm_al/strategies/` and one in `conf/strategy/`. It implements
    `select`. Its options are the fields of a frozen, keyword-only dataclass, each with its type and
    its range:

        @dataclass(frozen=True, kw_only=True)
        class KMeans(Strategy):
            iterations: Annotated[int, Field(ge=0)] = 100

    An ordinary class whose `__init__` names its options works too.

    `select` must return the same picks for the same generator state, must leave the model as it
    was, and must never fill a batch with random picks. What it cannot do is an error.

    Attributes:
        augment: Whether the query shows the images as training sees them: cropped and flipped, once
            per round. A strategy that offers the choice has `augment: bool = False` among its
            fields. The FisherMask authors' code scores augmented images.
    """

    augment = False

    def check_query(self, n: int) -> None:  # noqa: B027 - most pick any number
        """Raises ConfigError where the strategy can't pick n images in a query, the experiment's
        largest. Called before anything is loaded."""

    def check(self, network: Backbone, image: Tensor) -> None:  # noqa: B027 - most take any
        """Raises ConfigError where the strategy can't work with such a network, in eval mode, on
        images like this one, (1, channels, height, width). Called before anything is trained."""

    @abstractmethod
    def select(self, query: Query, n: int, generator: torch.Generator) -> Tensor:
        """n distinct indices into the pool, all unlabelled: an int64 tensor of shape (n,), on any
        device. 1 <= n <= len(query.unlabelled). `generator` is a seeded CPU generator."""


class Query:
    """What a strategy may know: the model in eval mode, the pool's images, and the labels so far.

    Outputs of the model are computed for the whole pool (N images, C classes, embeddings of D
    numbers) when first asked for, in float32 on the device, and shared; without augmentation,
    unless the strategy asks for it.
    """

    def __init__(
        self, model: Backbone, pool: Pool, batch_size: int, autocast: torch.dtype | None = None
    ) -> None:
        self.model = model.eval()
        self._pool = pool
        self.batch_size = batch_size
        self.autocast = autocast
        self.recorded: dict[str, Any] = {}

    @property
    def device(self) -> torch.device:
        return self._pool.device

    @property
    def classes(self) -> int:
        """C, the number of classes."""
        return self._pool.classes

    @property
    def labelled(self) -> Tensor:
        """Indices of the labelled images, int64 on the device, in the order of labelling."""
        return self._pool.labelled.clone()

    @property
    def labelled_targets(self) -> Tensor:
        """Classes of the labelled images, int64 on the device, in the same order."""
        return self._pool.targets(self._pool.labelled)

    @property
    def unlabelled(self) -> Tensor:
        """Indices of the unlabelled images, int64 on the device, ascending."""
        return self._pool.unlabelled

    def images(self, indices: Tensor) -> Tensor:
        """Normalised images of the pool, float32 (len(indices), channels, height, width)."""
        return self._pool.images(indices)

    @cached_property
    def embeddings(self) -> Tensor:
        """embed(x) of every image of the pool, (N, D). Raises RunError if one is not finite."""
        parts = []
        everything = torch.arange(len(self._pool), device=self.device)
        with (
            torch.no_grad(),
            torch.autocast(self.device.type, self.autocast, enabled=self.autocast is not None),
            folded(self.model, self.images(everything[:1]), self.model.embed),
        ):
            for indices in everything.split(self.batch_size):
                parts.append(self.model.embed(self.images(indices)).float())
        return _finite("embeddings", torch.cat(parts))

    @cached_property
    def logits(self) -> Tensor:
        """head(embed(x)) of every image of the pool, (N, C). Raises RunError likewise."""
        with torch.no_grad():
            return _finite("logits", self.model.head(self.embeddings))

    @cached_property
    def probabilities(self) -> Tensor:
        """softmax of the logits, (N, C)."""
        return self.logits.softmax(dim=1)

    def record(self, name: str, value: Any) -> None:
        """Keeps a JSON-serialisable value in this round's record, under `strategy`.

        Raises TypeError or ValueError for any other."""
        json.dumps({name: value}, allow_nan=False)
        self.recorded[name] = value


def _finite(name: str, outputs: Tensor) -> Tensor:
    """Strategies rank outputs, and there is no order among what is not a number."""
    if not bool(outputs.isfinite().all()):
        raise RunError(
            f"the network's {name} of the pool are not finite: its training diverged; {DIVERGED}"
        )
    return outputs
