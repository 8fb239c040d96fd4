"""The contract of a query strategy, and the query that it reads."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from fm_al.backbones.base import Backbone
from fm_al.backbones.folding import folded
from fm_al.data.pool import Pool
from fm_al.device import mixed_precision
from fm_al.errors import DIVERGED, ConfigError, RunError
from fm_al.strategies.chunks import MANY_ROWS, most_rows, product_chunks, row_chunks

FLOAT = 4  # bytes of a float32


@dataclass(frozen=True)
class QuerySizes:
    """What the memory of a query depends on.

    Attributes:
        images: N, the images of the pool. With `max_candidates`, the candidates and the labelled.
        embedding: D, the numbers of an embedding.
        classes: C.
        image_shape: Channels, height and width.
        features: The numbers of an image's fixed features; 0 without features.
    """

    images: int
    embedding: int
    classes: int
    image_shape: tuple[int, ...]
    features: int = 0

    @property
    def embeddings(self) -> dict[str, int]:
        """Bytes of `Query.embeddings`, and of checking them."""
        chunk = 2 * FLOAT * most_rows(self.images) * self.embedding
        return {
            f"embeddings, {self.images:,} x {self.embedding:,}": FLOAT
            * self.images
            * self.embedding,
            "some rows of them": chunk,
        }

    @property
    def fixed_features(self) -> dict[str, int]:
        """Bytes of `Query.features`."""
        name = f"features, {self.images:,} x {self.features:,}"
        return {name: FLOAT * self.images * self.features}

    @property
    def logits(self) -> dict[str, int]:
        """Bytes of `Query.logits`."""
        return {f"logits, {self.images:,} x {self.classes:,}": FLOAT * self.images * self.classes}

    @property
    def scores(self) -> dict[str, int]:
        """Bytes of `Query.scores`, beside the embeddings, and of ranking them."""
        logits = self.logits if self.images < MANY_ROWS else {}
        in_chunk = 4 * FLOAT * most_rows(self.images) * self.classes
        return logits | {"probabilities, some rows at a time": in_chunk} | self.vectors(10)

    def vectors(self, count: int) -> dict[str, int]:
        """Bytes of so many float32 numbers for every image."""
        return {f"{count} numbers for every image": count * FLOAT * self.images}


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

    @property
    def reads_features(self) -> bool:
        """Whether it reads `Query.features`. Then a configuration without features is refused
        before anything is loaded. See `FeatureOptions`."""
        return False

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

    def memory(self, sizes: QuerySizes, n: int) -> dict[str, int]:
        """State the most memory that `select` needs at a time on the query's device.

        It is compared with what the device has left before every query. Not counted are the network
        with its work on a batch, and the images. By default it is what a query can compute; a
        strategy that needs more, or does not read all of it, says so here.

        Args:
            sizes: Of the pool and the network's outputs.
            n: How many images are to be picked.

        Returns:
            Bytes by purpose.
        """
        probabilities = FLOAT * sizes.images * sizes.classes
        return sizes.embeddings | sizes.logits | {"probabilities": probabilities}

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
        revealed: Indices of the images whose classes `reveal` has given, int64 on the device, in
            that order.
    """

    def __init__(
        self,
        model: Backbone,
        pool: Pool,
        batch_size: int,
        autocast: torch.dtype | None = None,
        budget: int | None = None,
    ) -> None:
        """Make the query of a round.

        Args:
            model: The network; it ends in eval mode.
            pool: The images, and which are labelled.
            batch_size: Images per batch when the pool is scored.
            autocast: The dtype of mixed precision; None is full precision.
            budget: How many images the round labels, the most that `reveal` tells of; None is all.
        """
        self.model = model.eval()
        self._pool = pool
        self.batch_size = batch_size
        self.autocast = autocast
        self.recorded: dict[str, Any] = {}
        self.revealed = torch.empty(0, dtype=torch.int64, device=pool.device)
        self._budget = len(pool) if budget is None else budget
        self._parent: tuple[Query, Tensor] | None = None

    def among(self, candidates: Tensor) -> Query:
        """Query a pool of these unlabelled images and all labelled ones alone.

        Its images are numbered anew, in the same order. Outputs that have been computed here are
        handed on; nothing else is computed of the other images. What it records and reveals is
        recorded and revealed here.

        Args:
            candidates: Indices of unlabelled images.
        """
        pool, kept = self._pool.among(candidates)
        query = Query(self.model, pool, self.batch_size, self.autocast, self._budget)
        query.recorded = self.recorded
        query._parent = self, kept
        for name in ("embeddings", "logits", "probabilities"):
            if name in vars(self):
                setattr(query, name, getattr(self, name)[kept])
        return query

    def pool_indices(self, indices: Tensor) -> Tensor:
        """Indices into the whole pool of images of this query; see `among`."""
        if self._parent is None:
            return indices
        parent, kept = self._parent
        return parent.pool_indices(kept[indices.to(self.device)])

    @property
    def sizes(self) -> QuerySizes:
        """What the memory of this query depends on."""
        features = self._pool.features
        return QuerySizes(
            len(self._pool),
            self.model.head.in_features,
            self.classes,
            self._pool.image_shape,
            0 if features is None else features.shape[1],
        )

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

    @property
    def revealed_targets(self) -> Tensor:
        """Classes of the revealed images, int64 on the device, in the order of revealing."""
        return self._pool.hidden_targets(self.revealed)

    def reveal(self, indices: Tensor) -> Tensor:
        """Ask for the classes of unlabelled images before the round ends.

        They are labelled at the price of this round's budget: they must be among the n picks, and
        the record lists them first, in this order. `labelled` and `unlabelled` stay what they are.

        Args:
            indices: Distinct unlabelled images that are not revealed yet, int64 (m,).

        Returns:
            Their classes, int64 (m,) on the device.

        Raises:
            ValueError: For any other images, or more than the round labels.
        """
        indices = indices.to(self.device)
        asked = torch.cat([self.revealed, indices])
        if len(asked) > self._budget:
            raise ValueError(f"reveal: {len(asked)} images; the round labels {self._budget}")
        if len(asked.unique()) < len(asked) or not self._pool.are_unlabelled(indices):
            raise ValueError("reveal: images must be unlabelled, distinct and not revealed before")
        if self._parent is not None:
            parent, kept = self._parent
            parent.reveal(kept[indices])  # checks the round's budget, which several may share
        self.revealed = asked
        return self._pool.hidden_targets(indices)

    def images(self, indices: Tensor) -> Tensor:
        """Normalised images of the pool, float32 (len(indices), channels, height, width)."""
        return self._pool.images(indices)

    @cached_property
    def features(self) -> Tensor:
        """Fixed features of all the pool, float32 (N, D) on the device; see the group `features`.

        They depend on the data set alone, not on the model. Not to be changed in place.

        Raises:
            ConfigError: If the configuration has none.
        """
        if self._pool.features is None:
            raise ConfigError(
                "features=none: the strategy reads query.features; choose what they are, such as "
                "features=pca"
            )
        return self._pool.features.to(self.device)

    @cached_property
    def embeddings(self) -> Tensor:
        """embed(x) of all the pool, (N, D). Raises RunError if one is not finite."""
        everything = torch.arange(len(self._pool), device=self.device)
        embeddings = torch.empty(
            len(everything), self.model.head.in_features, device=self.device, dtype=torch.float32
        )
        with (
            torch.no_grad(),
            mixed_precision(self.device, self.autocast),
            folded(self.model, self.images(everything[:1]), self.model.embed),
        ):
            rows = iter(embeddings.split(self.batch_size))
            for _, images in self._pool.batches(everything, self.batch_size):
                next(rows).copy_(self.model.embed(images))
        return _finite("embeddings", embeddings)

    @cached_property
    def logits(self) -> Tensor:
        """head(embed(x)) of all the pool, (N, C). Raises RunError if one is not finite."""
        with torch.no_grad():
            return _finite("logits", self.model.head(self.embeddings))

    @cached_property
    def probabilities(self) -> Tensor:
        """The softmax of the logits, (N, C)."""
        return self.logits.softmax(dim=1)

    def scores(self, score: Callable[[Tensor], Tensor]) -> Tensor:
        """Compute a number for every image from its probabilities, some images at a time.

        Neither `probabilities` nor, of a large pool, `logits` are kept.

        Args:
            score: Maps probabilities, float32 (rows, C), to numbers, (rows,).

        Returns:
            (N,).

        Raises:
            RunError: If a logit is not finite.
        """
        scores = []
        for many in product_chunks(len(self._pool)):
            for rows in row_chunks(len(logits := self._some_logits(many))):
                scores.append(score(logits[rows].softmax(dim=1)))
        return torch.cat(scores)

    def take(self, name: Literal["embeddings", "logits"]) -> Tensor:
        """Hand over an output for the strategy to overwrite; it is computed anew if read again."""
        outputs: Tensor = getattr(self, name)
        del vars(self)[name]
        return outputs

    def _some_logits(self, rows: slice) -> Tensor:
        if "logits" in vars(self) or rows == slice(0, len(self._pool)):
            return self.logits[rows]
        with torch.no_grad():
            return _finite("logits", self.model.head(self.embeddings[rows]))

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
    parts = [outputs[rows].isfinite().all() for rows in row_chunks(len(outputs))]
    if not bool(torch.stack(parts).all()):
        raise RunError(
            f"the network's {name} of the pool are not finite: its training diverged; {DIVERGED}"
        )
    return outputs
