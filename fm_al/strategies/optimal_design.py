"""What BAIT and FisherMask share: a query's images as the blocks of a greedy optimal design."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from fm_al.device import available_memory, float64_device
from fm_al.errors import RunError
from fm_al.fisher.design import (
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

GIB = 2**30
LAST_LAYER_BATCH = 4096  # images whose factors are computed at a time


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

    def select(
        self,
        query: Query,
        n: int,
        generator: torch.Generator,
        images: QueryBlocks,
        given: Tensor | None = None,
    ) -> Tensor:
        """n unlabelled images that are best beside `given`, others of this query's batch.

        Raises RunError, before it starts, where it would need more memory than there is.
        """
        given = query.labelled[:0] if given is None else given
        labelled, batch = query.labelled, n + len(given)
        free = _without(query.unlabelled, given)
        candidates = free
        if self.max_candidates is not None and len(free) > self.max_candidates:
            drawn = torch.randperm(len(free), generator=generator)[: max(n, self.max_candidates)]
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
        if self.pool_fisher == "identity":
            pool = torch.eye(len(pool), dtype=pool.dtype, device=pool.device)
        else:
            pool += fisher_sum([blocks], len(pool), pool.device)
            pool += images.fisher_sum(_without(free, candidates))
            pool /= len(free) + len(given) + len(labelled)
        selection = select(
            blocks, n, pool, prior, batch / total, self.regularization, self.oversampling
        )
        query.record("candidates", len(candidates))
        query.record("objective", selection.objective)
        return candidates[selection.picks.to(candidates.device)]


class QueryBlocks:
    """Images of a query as blocks.

    last_layer: whether all of its weights count. others: positions of other weights that do, by
    parameter. lowers_memory: what to do where a query needs too much.
    on_host, dtype: where and how `kept` keeps the gradients at the others.
    """

    def __init__(
        self,
        query: Query,
        weighting: Weighting,
        lowers_memory: str,
        last_layer: bool = True,
        others: Mapping[str, Tensor] | None = None,
        on_host: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.query = query
        self.weighting = weighting
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
    def width(self) -> int:
        head = self.query.model.head
        inputs = head.in_features + (head.bias is not None)
        return self.dense_width + self.rows * inputs * self.last_layer

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
        on_host = self.storage != self.device
        dense = torch.empty(
            len(indices), self.rows, self.dense_width, dtype=self.dtype, device=self.storage
        )
        dense = dense.pin_memory() if on_host else dense
        others = []
        for into, batch in zip(*map(self._batches, (dense, indices)), strict=True):
            blocks = self.of(batch)
            blocks = blocks.in_half() if self.dtype == torch.float16 else blocks
            into.copy_(blocks.dense)
            others.append((blocks.factors, blocks.embeddings, blocks.scales))
        factors, embeddings, scales = map(torch.cat, zip(*others, strict=True))
        return Blocks(factors, embeddings, dense, scales)

    def _batches(self, images: Tensor) -> Sequence[Tensor]:
        return images.split(LAST_LAYER_BATCH if self.gradients is None else self.query.batch_size)

    def check_memory(self, candidates: int, limit_gib: float | None) -> None:
        """Raises RunError, with the numbers, if a query over so many candidates needs too much."""
        numbers = candidates * self.rows * self.dense_width
        gradients = f"gradients of {candidates:,} candidates at {self.dense_width:,} weights"
        kept = {gradients: numbers * self.dtype.itemsize}
        needs = memory_needed(candidates, self.rows, self.width, self.device)
        if self.last_layer:
            needs["embeddings"] = candidates * 4 * self.query.model.head.in_features
        if self.gradients is not None:
            image = self.query.images(self.query.unlabelled[:1])
            needs["backward passes"] = self.gradients.memory(image, self.query.batch_size)
        by_device = {self.device: needs}
        by_device[self.storage] = by_device.get(self.storage, {}) | kept
        for device, items in by_device.items():
            limit = available_memory(device) if limit_gib is None else int(limit_gib * GIB)
            needed = sum(items.values())
            if needed > limit:
                parts = ", ".join(f"{what} {size / GIB:.3g} GiB" for what, size in items.items())
                there = "has" if limit_gib is None else "may use (memory_limit_gib)"
                raise RunError(
                    f"this query needs {needed / GIB:.3g} GiB, {device.type} {there} "
                    f"{limit / GIB:.3g} GiB: {parts}; {self.lowers_memory}"
                )


def _without(indices: Tensor, excluded: Tensor) -> Tensor:
    return indices[~torch.isin(indices, excluded)]
