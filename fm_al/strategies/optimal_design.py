"""What BAIT and FisherMask share: a query's images as the blocks of a greedy optimal design."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from fm_al.device import GIB, available_memory, float64_device
from fm_al.errors import ConfigError, RunError
from fm_al.fisher.design import (
    CHUNK_BYTES,
    Blocks,
    Weighting,
    contrasts,
    fisher_factors,
    fisher_sum,
    memory_needed,
    select,
)
from fm_al.fisher.jacobian import MaskedGradients
from fm_al.strategies.base import Query

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
PoolFisher = Literal["pool", "identity"]


@dataclass(frozen=True)
class OptimalDesign:
    """Greedy selection by Fisher information, as `fm_al.fisher.design` has it.

    regularization: lambda. oversampling: b; n (1 + b) images are picked, and all but n taken back.
    weighting: of the classes' gradients, by their probability (`fisher`), or none (`uniform`), as
    in the selection of the FisherMask authors' code. pool_fisher: F is the mean over the whole
    pool, or the identity; labelled_fisher: whether what is labelled counts (that code's ablations).
    max_candidates: at most so many, in each round a uniform random subset; F stays the whole
    pool's. memory_limit_gib: for a query; null is what the device has.
    """

    regularization: Positive
    oversampling: NotNegative
    weighting: Weighting
    pool_fisher: PoolFisher
    labelled_fisher: bool
    max_candidates: Count | None
    memory_limit_gib: Positive | None

    def check_query(self, n: int, key: str) -> None:
        """Raises ConfigError for fewer candidates than n. key: where the options stand."""
        if self.max_candidates is not None and self.max_candidates < n:
            raise ConfigError(
                f"{key}.max_candidates={self.max_candidates}: should be at least {n}, the images "
                "to pick in a query; above that there is a choice"
            )

    def select(
        self,
        query: Query,
        n: int,
        generator: torch.Generator,
        images: QueryBlocks,
        given: Tensor | None = None,
    ) -> Tensor:
        """n unlabelled images that are best beside `given`, others of this query's batch.

        Raises ConfigError for fewer candidates than n, and RunError, before it starts, where it
        would need more memory than there is.
        """
        given = query.labelled[:0] if given is None else given
        labelled, batch = query.labelled, n + len(given)
        free = _without(query.unlabelled, given)
        candidates = free
        self.check_query(n, images.key)
        if self.max_candidates is not None and len(free) > self.max_candidates:
            drawn = torch.randperm(len(free), generator=generator)[: self.max_candidates]
            candidates = free[drawn.sort().values.to(free.device)]
        images.check_memory(len(candidates), self.memory_limit_gib)

        # n_L I_L / (n_L + K) and K (sum over the batch) / (n_L + K), of sums and not of means.
        total = len(labelled) + batch
        pool = images.fisher_sum(labelled)
        prior = pool / total if self.labelled_fisher else torch.zeros_like(pool)
        if len(given):
            chosen = images.fisher_sum(given)
            pool += chosen
            prior += chosen.mul_(batch / total)
        blocks = images.kept(candidates)
        left_out = 0.0
        if self.pool_fisher == "identity":
            pool = torch.eye(len(pool), dtype=pool.dtype, device=pool.device)
            left_out = images.left_out / self.regularization
        else:
            pool += fisher_sum([blocks], len(pool), pool.device)
            pool += images.fisher_sum(_without(free, candidates))
            pool /= len(free) + len(given) + len(labelled)
        selection = select(
            blocks, n, pool, prior, batch / total, self.regularization, self.oversampling
        )
        query.record("candidates", len(candidates))
        query.record("objective", selection.objective + left_out)
        return candidates[selection.picks.to(candidates.device)]


class QueryBlocks:
    """Images of a query as blocks.

    last_layer: whether all of its weights count. others: positions of other weights that do, by
    parameter. on_host, dtype: where and how `kept` keeps the gradients at the others. key: where
    the strategy's options stand, and lowers_memory: what to do where a query needs too much, for
    messages.
    """

    def __init__(
        self,
        query: Query,
        weighting: Weighting,
        key: str,
        lowers_memory: str,
        last_layer: bool = True,
        others: Mapping[str, Tensor] | None = None,
        on_host: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.query = query
        self.weighting = weighting
        self.key = key
        self.lowers_memory = lowers_memory
        self.last_layer = last_layer
        self.gradients = MaskedGradients(query.model, others) if others else None
        self.dense_width = sum(map(len, others.values())) if others else 0
        self.dtype = dtype
        self.device = float64_device(query.device)
        self.storage = torch.device("cpu") if on_host else self.device

    @property
    def rows(self) -> int:
        return self.query.classes - 1

    @property
    def left_out(self) -> int:
        """Coordinates of the last layer that no gradient has a part in, see `contrasts`."""
        head = self.query.model.head
        return (head.in_features + (head.bias is not None)) * self.last_layer

    @property
    def width(self) -> int:
        """k, of what `contrasts` leaves of it."""
        return self.dense_width + self.rows * self.left_out

    def of(self, indices: Tensor) -> Blocks:
        """The blocks of these images, their gradients in float32."""
        factors = fisher_factors(self.query.logits[indices].to(self.device), self.weighting)
        dense = factors.new_empty(len(indices), self.rows, 0, dtype=torch.float32)
        if self.gradients is not None:
            dense = self.gradients(self.query.images(indices), factors).to(self.device)
        if not self.last_layer:
            return Blocks.of_dense(dense)
        embeddings = self.query.embeddings[indices].to(self.device)
        if self.query.model.head.bias is not None:
            embeddings = torch.cat([embeddings, torch.ones_like(embeddings[:, :1])], dim=1)
        basis = contrasts(self.query.classes).to(self.device)
        return Blocks.of_last_layer(factors @ basis, embeddings, dense)

    def fisher_sum(self, indices: Tensor) -> Tensor:
        """Sum of I(x) over these images, (k, k)."""
        return fisher_sum(map(self.of, self._batches(indices)), self.width, self.device)

    def kept(self, indices: Tensor) -> Blocks:
        """The blocks of all of these images, to be read again for every pick."""
        dense = torch.empty(
            len(indices), self.rows, self.dense_width, dtype=self.dtype, device=self.storage
        )
        others = []
        for into, batch in zip(self._batches(dense), self._batches(indices), strict=True):
            blocks = self.of(batch)
            blocks = blocks.in_half() if self.dtype == torch.float16 else blocks
            into.copy_(blocks.dense)
            others.append((blocks.factors, blocks.embeddings, blocks.scales))
        factors, embeddings, scales = map(torch.cat, zip(*others, strict=True))
        return Blocks(factors, embeddings, dense, scales)

    def _batches(self, of_images: Tensor) -> Sequence[Tensor]:
        return of_images.split(self.batch_size)

    @property
    def batch_size(self) -> int:
        if self.gradients is not None:
            return self.query.batch_size
        return max(1, CHUNK_BYTES[self.device.type] // (8 * self._factor_numbers))

    @property
    def _factor_numbers(self) -> int:
        """Numbers an image while `fisher_factors` are computed."""
        return 5 * self.query.classes**2

    def check_memory(self, candidates: int, limit_gib: float | None) -> None:
        """Raises RunError, with the numbers, if a query over so many candidates needs too much."""
        inputs = self.query.model.head.in_features * self.last_layer
        kept = 2 * candidates * (8 * self.rows**2 + 4 * inputs)  # twice while they are joined
        batch = 8 * min(self.batch_size, candidates) * self._factor_numbers
        needs = memory_needed(candidates, self.rows, self.left_out, self.dense_width, self.device)
        needs |= {"factors and embeddings": kept + batch}
        gradients = f"gradients of {candidates:,} candidates at {self.dense_width:,} weights"
        stored = candidates * self.rows * self.dense_width * self.dtype.itemsize
        by_device = {self.device: needs}
        by_device[self.storage] = by_device.get(self.storage, {}) | {gradients: stored}
        if self.gradients is not None:
            image = self.query.images(self.query.unlabelled[:1])
            passes = self.gradients.memory(image, min(self.batch_size, candidates))
            of_network = by_device.get(self.query.device, {})
            by_device[self.query.device] = of_network | {"backward passes": passes}
        for device, items in by_device.items():
            require_memory(device, items, limit_gib, self.key, self.lowers_memory)


def require_memory(
    device: torch.device, needs: Mapping[str, int], limit_gib: float | None, key: str, remedy: str
) -> None:
    """Raises RunError with the numbers if the needs, bytes by name, exceed the limit, or without
    one what the device has."""
    limit = available_memory(device) if limit_gib is None else int(limit_gib * GIB)
    needed = sum(needs.values())
    if needed > limit:
        there = "has" if limit_gib is None else f"may use ({key}.memory_limit_gib)"
        parts = ", ".join(f"{what} {size / GIB:.3g} GiB" for what, size in needs.items())
        raise RunError(
            f"this query needs {needed / GIB:.3g} GiB, {device.type} {there} "
            f"{limit / GIB:.3g} GiB: {parts}; {remedy}"
        )


def _without(indices: Tensor, excluded: Tensor) -> Tensor:
    return indices[~torch.isin(indices, excluded)]
