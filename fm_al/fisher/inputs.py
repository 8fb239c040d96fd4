"""What the last layer reads of images, in float64 when it is needed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fm_al.device import float64_device
from fm_al.fisher.pool import ScoredPool


@dataclass(frozen=True)
class Inputs:
    """h_x of N images, of D numbers.

    Attributes:
        embeddings: (N', D'), any float type. With `positions` those of a whole pool, which are not
            copied.
        positions: Which row of `embeddings` belongs to each image, (N,) int64; None if all do, in
            this order.
        bias: Whether h_x is the embedding with a 1 appended.
    """

    embeddings: Tensor
    positions: Tensor | None = None
    bias: bool = False

    @classmethod
    def of_pool(cls, pool: ScoredPool) -> Inputs:
        """Those of a whole pool, on the device that has float64."""
        embeddings = pool.embeddings.to(float64_device(pool.device))
        positions = torch.arange(len(pool), device=embeddings.device)
        return cls(embeddings, positions, bool(pool.head_bias))

    def __len__(self) -> int:
        return len(self.embeddings if self.positions is None else self.positions)

    def __getitem__(self, images: Tensor | slice) -> Inputs:
        if self.positions is None:
            return replace(self, embeddings=self.embeddings[images])
        return replace(self, positions=self.positions[images])

    @property
    def dimensions(self) -> int:
        """D."""
        return self.embeddings.shape[1] + self.bias

    def float64(self) -> Tensor:
        """Return all h_x, (N, D) float64."""
        rows = self.embeddings if self.positions is None else self.embeddings[self.positions]
        if not self.bias:
            return rows.double()
        inputs = rows.new_empty(len(rows), self.dimensions, dtype=torch.float64)
        inputs[:, :-1] = rows
        inputs[:, -1] = 1
        return inputs

    def chunks(self, size: int) -> Iterator[tuple[slice, Tensor]]:
        """Yield h_x of at most so many images at a time, (n, D) float64."""
        for start in range(0, len(self), size):
            part = slice(start, start + size)
            yield part, self[part].float64()
