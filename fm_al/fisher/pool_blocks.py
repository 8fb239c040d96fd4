"""The blocks of a pool's images, computed batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from fm_al.device import float64_device
from fm_al.fisher.blocks import Blocks
from fm_al.fisher.chunks import images_at_once
from fm_al.fisher.image_factors import ImageFactors
from fm_al.fisher.inputs import Inputs
from fm_al.fisher.jacobian import MaskedGradients
from fm_al.fisher.pool import PoolNetwork, ScoredPool


class PoolBlocks:
    """Computes the blocks V_x of a pool's images.

    Args:
        pool: The pool.
        factors: How the rows of V_x follow from the logits.
        last_layer: Whether all weights of the last layer count.
        network: The network, needed if other weights count.
        others: Positions of other weights that count, by parameter name.
        on_host: Whether `kept` keeps their gradients in main memory.
        dtype: In which precision it keeps them, float32 or float16.
    """

    def __init__(
        self,
        pool: ScoredPool,
        factors: ImageFactors,
        last_layer: bool = True,
        network: PoolNetwork | None = None,
        others: Mapping[str, Tensor] | None = None,
        on_host: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.pool = pool
        self.factors = factors
        self.last_layer = last_layer
        self.network = network
        self.gradients = MaskedGradients(network.network, others) if network and others else None
        self.dense_width = self.gradients.size if self.gradients else 0
        self.dtype = dtype
        self.device = float64_device(pool.device)
        self.storage = torch.device("cpu") if on_host else self.device
        self._inputs = Inputs.of_pool(pool)

    @property
    def rows(self) -> int:
        """R."""
        return self.factors.rows

    @property
    def dimensions(self) -> int:
        """D, counting the 1 for a bias; 0 if the last layer does not count."""
        return (self.pool.embeddings.shape[1] + self.pool.head_bias) * self.last_layer

    @property
    def width(self) -> int:
        """k, without the D coordinates of the last layer that never hold any information."""
        return self.dense_width + self.factors.columns * self.dimensions

    @property
    def left_out(self) -> int:
        """How many coordinates that is."""
        return self.factors.left_out * self.dimensions

    @property
    def batch_size(self) -> int:
        if self.gradients is not None and self.network is not None:
            return self.network.batch_size
        return images_at_once(self.factors.numbers, self.device)

    def of(self, indices: Tensor) -> Blocks:
        """Compute the blocks of these images, with gradients in float32."""
        factors = self.factors.over_classes(self.pool.logits[indices].to(self.device))
        dense = factors.new_empty(len(indices), self.rows, 0, dtype=torch.float32)
        if self.gradients is not None and self.network is not None:
            dense = self.gradients(self.network.images(indices), factors).to(self.device)
        if not self.last_layer:
            return Blocks.of_dense(dense)
        return self._blocks(self.factors.in_basis(factors), indices, dense)

    def _blocks(self, factors: Tensor, indices: Tensor, dense: Tensor) -> Blocks:
        """Put blocks together, with scales of 1. Embeddings are not copied."""
        scales = torch.ones(len(factors), dtype=torch.float64, device=self.device)
        return Blocks(factors, self._inputs[indices.to(self.device)], dense, scales)

    def parts(self, indices: Tensor) -> Iterator[tuple[Tensor, Blocks]]:
        """Yield these images' indices batch by batch, with their blocks."""
        for batch in self._batches(indices):
            yield batch, self.of(batch)

    def kept(self, indices: Tensor) -> Blocks:
        """Compute the blocks of all of these images, to be read again for every pick."""
        dense = torch.empty(
            len(indices), self.rows, self.dense_width, dtype=self.dtype, device=self.storage
        )
        columns = self.factors.columns * self.last_layer
        factors = torch.empty(*dense.shape[:2], columns, dtype=torch.float64, device=self.device)
        scales = factors.new_ones(len(indices))
        parts = (self._batches(x) for x in (indices, factors, scales, dense))
        for batch, of_factors, of_scales, of_dense in zip(*parts, strict=True):
            blocks = self.of(batch)
            blocks = blocks.in_half() if self.dtype == torch.float16 else blocks
            of_factors.copy_(blocks.factors)
            of_scales.copy_(blocks.scales)
            of_dense.copy_(blocks.dense)
        if not self.last_layer:
            return Blocks(factors, Inputs(factors.new_empty(len(factors), 0)), dense, scales)
        return replace(self._blocks(factors, indices, dense), scales=scales)

    def _batches(self, of_images: Tensor) -> Sequence[Tensor]:
        return of_images.split(self.batch_size)
