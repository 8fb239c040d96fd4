"""The contract of a query strategy, and the query that it reads."""

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
from fm_al.device import mixed_precision
from fm_al.errors import DIVERGED, RunError


class Strategy(ABC):
    """Choose which images to label next.

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
        """Raise ConfigError if the strategy cannot pick n images in one query.

        Called once, with the experiment's largest query, before anything is loaded.
        """

    def check(self, network: Backbone, image: Tensor) -> None:  # noqa: B027 - most take any
        """Raise ConfigError if the strategy cannot work with a network.

        Called once, before training.

        Args:
            network: A new network in eval mode.
            image: A blank image of the data set's size, float32 (1, channels, height, width).
        """

    @abstractmethod
    def select(self, query: Query, n: int, generator: torch.Generator) -> Tensor:
        """Pick the images to label.

        Args:
            query: The model after training, the pool's images and the labels so far.
            n: How many images to pick, from 1 to len(query.unlabelled).
            generator: A seeded CPU generator, the only source of randomness allowed.

        Returns:
            Distinct indices of unlabelled images, int64 (n,), on any device.
        """


class Query:
    """What a strategy may know: the model in eval mode, the pool's images and the labels so far.

    The model's outputs are those of the whole pool: N images, C classes, embeddings of D numbers.
    Each is computed when it is first read, in float32 on the device, and then kept. Images are
    not augmented unless the strategy's `augment` is true.

    Attributes:
        model: The network, in eval mode.
        batch_size: Images per batch when the pool is scored.
        autocast: The dtype of mixed precision for the embeddings; None is full precision.
        recorded: What `record` has kept.
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
        """Where the images and the model's outputs are."""
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
        """embed(x) of all the pool, (N, D). Raises RunError if one is not finite."""
        parts = []
        everything = torch.arange(len(self._pool), device=self.device)
        with (
            torch.no_grad(),
            mixed_precision(self.device, self.autocast),
            folded(self.model, self.images(everything[:1]), self.model.embed),
        ):
            for indices in everything.split(self.batch_size):
                parts.append(self.model.embed(self.images(indices)).float())
        return _finite("embeddings", torch.cat(parts))

    @cached_property
    def logits(self) -> Tensor:
        """head(embed(x)) of all the pool, (N, C). Raises RunError if one is not finite."""
        with torch.no_grad():
            return _finite("logits", self.model.head(self.embeddings))

    @cached_property
    def probabilities(self) -> Tensor:
        """The softmax of the logits, (N, C)."""
        return self.logits.softmax(dim=1)

    def record(self, name: str, value: Any) -> None:
        """Keep a value in this round's record, under `strategy`.

        Raises:
            TypeError: If it cannot be written as JSON.
            ValueError: If it holds a number that is not finite.
        """
        # As the records' readers will find it: keys of mappings are texts, tuples are lists.
        self.recorded |= json.loads(json.dumps({name: value}, allow_nan=False))


def _finite(name: str, outputs: Tensor) -> Tensor:
    """Check outputs before strategies rank them: NaNs have no order."""
    if not bool(outputs.isfinite().all()):
        raise RunError(
            f"the network's {name} of the pool are not finite: its training diverged; {DIVERGED}"
        )
    return outputs
