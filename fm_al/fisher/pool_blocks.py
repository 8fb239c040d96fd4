"""The blocks of a pool's images, computed batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from fm_al.device import float64_device
from fm_al.fisher.blocks import Blocks
from fm_al.fisher.chunks import images_at_once
from fm_al.fisher.factors import Weighting, contrasts, fisher_factors
from fm_al.fisher.jacobian import MaskedGradients
from fm_al.fisher.pool import PoolNetwork, ScoredPool


class PoolBlocks:
    """Computes the blocks V_x of a pool's images.

    Args:
        pool: The pool.
        weighting: See `fisher_factors`.
        temperature: By which logits are divided.
        last_layer: Whether all weights of the last layer count.
        network: The network, needed if other weights count.
        others: Positions of other weights that count, by parameter name.
        on_host: Whether `kept` keeps their gradients in main memory.
        dtype: In which precision it keeps them, float32 or float16.
    """

    def __init__(
        self,
        pool: ScoredPool,
        weighting: Weighting,
        temperature: float,
        last_layer: bool = True,
        network: PoolNetwork | None = None,
        others: Mapping[str, Tensor] | None = None,
        on_host: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.pool = pool
        self.weighting = weighting
        self.temperature = temperature
        self.last_layer = last_layer
        self.network = network
        self.gradients = MaskedGradients(network.network, others) if network and others else None
        self.dense_width = self.gradients.size if self.gradients else 0
        self.dtype = dtype
        self.device = float64_device(pool.device)
        self.storage = torch.device("cpu") if on_host else self.device

    @property
    def rows(self) -> int:
        """R."""
        return self.pool.classes - 1

    @property
    def embedding_width(self) -> int:
        """Length of the embeddings that are kept; 0 if the last layer does not count."""
        return self.pool.embeddings.shape[1] * self.last_layer

    @property
    def dimensions(self) -> int:
        """D, counting the 1 for a bias; 0 if the last layer does not count."""
        return (self.pool.embeddings.shape[1] + self.pool.head_bias) * self.last_layer

    @property
    def width(self) -> int:
        """k, in the basis of `contrasts`, which leaves out D coordinates without information."""
        return self.dense_width + self.rows * self.dimensions

    @property
    def batch_size(self) -> int:
        if self.gradients is not None and self.network is not None:
            return self.network.batch_size
        return images_at_once(self.factor_numbers, self.device)

    @property
    def factor_numbers(self) -> int:
        """Float64 numbers per image while `fisher_factors` are computed."""
        return 5 * self.pool.classes**2

    def of(self, indices: Tensor) -> Blocks:
        """Compute the blocks of these images, with gradients in float32."""
        logits = self.pool.logits[indices].to(self.device)
        factors = fisher_factors(logits, self.weighting, self.temperature)
        dense = factors.new_empty(len(indices), self.rows, 0, dtype=torch.float32)
        if self.gradients is not None and self.network is not None:
            dense = self.gradients(self.network.images(indices), factors).to(self.device)
        if not self.last_layer:
            return Blocks.of_dense(dense)
        embeddings = self.pool.embeddings[indices].to(self.device)
        if self.pool.head_bias:
            embeddings = torch.cat([embeddings, torch.ones_like(embeddings[:, :1])], dim=1)
        basis = contrasts(self.pool.classes).to(self.device)
        return Blocks.of_last_layer(factors @ basis, embeddings, dense)

    def parts(self, indices: Tensor) -> Iterator[tuple[Tensor, Blocks]]:
        """Yield these images' indices batch by batch, with their blocks."""
        for batch in self._batches(indices):
            yield batch, self.of(batch)

    def kept(self, indices: Tensor) -> Blocks:
        """Compute the blocks of all of these images, to be read again for every pick."""
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
