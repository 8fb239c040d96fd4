"""FisherMask, batch active learning by the Fisher information of a network's most important weights
(Gul et al. 2024, arXiv 2411.05752)."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from fm_al.backbones.base import Backbone
from fm_al.device import float64_device
from fm_al.errors import ConfigError, RunError
from fm_al.fisher.design import Weighting, fisher_factors
from fm_al.fisher.jacobian import diagonal_fisher
from fm_al.fisher.mask import Mask, MaskKind, check_fraction, choose
from fm_al.strategies.base import Query, Strategy
from fm_al.strategies.optimal_design import (
    Count,
    LabelledWeight,
    NotNegative,
    OptimalDesign,
    PoolFisher,
    Positive,
    QueryBlocks,
    Scale,
    Temperature,
    require_memory,
)

MASK_BYTES = 56  # a weight: float64 sums, means and what is ranked, ranks, gradients in float32


class FisherMask(Strategy):
    """Images that minimise tr(M^{-1} F) of the masked weights of all layers, greedily.

    mask: which weights; see `fm_al.fisher.mask`. fraction: of all weights; null is the larger of
    0.002 and what holds the last layer and as many again. mask_images: m, for the diagonal Fisher
    information that the mask is chosen by; mask_sample: uniformly `random`, or the `first` of the
    pool, as in the authors' code. whole_last_layer: whether all of its weights are in. record_mask:
    keep the mask's positions in each round's record, beside how many weights of each layer it has.
    jacobians: where the candidates' gradients are kept, on the `device` or in main memory (`host`);
    jacobian_precision: and how. The other options are those of `OptimalDesign`.
    """

    key = "strategy"  # where the options stand in the configuration, for messages

    def __init__(
        self,
        mask: MaskKind,
        fraction: Annotated[float, Field(gt=0, le=1)] | None,
        mask_images: Count,
        mask_sample: Literal["random", "first"],
        whole_last_layer: bool,
        record_mask: bool,
        jacobians: Literal["device", "host"],
        jacobian_precision: Literal["float32", "float16"],
        regularization: Positive,
        regularization_scale: Scale,
        oversampling: NotNegative,
        weighting: Weighting,
        pool_fisher: PoolFisher,
        labelled_fisher: bool,
        labelled_weight: LabelledWeight,
        temperature: Temperature,
        max_candidates: Count | None,
        memory_limit_gib: Positive | None,
        augment: bool = False,
    ) -> None:
        self.augment = augment
        self.kind = mask
        self.fraction = fraction
        self.mask_images = mask_images
        self.mask_sample = mask_sample
        self.whole_last_layer = whole_last_layer
        self.record_mask = record_mask
        self.jacobians = jacobians
        self.jacobian_precision = jacobian_precision
        self.design = OptimalDesign(
            regularization,
            regularization_scale,
            oversampling,
            weighting,
            pool_fisher,
            labelled_fisher,
            labelled_weight,
            temperature,
            max_candidates,
            memory_limit_gib,
        )

    def check_query(self, n: int) -> None:
        self.design.check_query(n, self.key)

    def check(self, network: Backbone, image: Tensor) -> None:
        weights = sum(parameter.numel() for parameter in network.parameters())
        last_layer = sum(parameter.numel() for parameter in network.head.parameters())
        try:
            check_fraction(self.kind, self.fraction, weights, last_layer, self.whole_last_layer)
        except ConfigError as error:
            raise ConfigError(f"{self.key}.{error}") from None
        try:
            diagonal_fisher(network, [(image, torch.eye(network.head.out_features)[None, :1])])
        except RunError as error:
            raise ConfigError(f"FisherMask can't use this backbone: {error}") from None

    def select(self, query: Query, n: int, generator: torch.Generator) -> Tensor:
        return self.complete(query, query.labelled[:0], n, generator)

    def complete(self, query: Query, given: Tensor, n: int, generator: torch.Generator) -> Tensor:
        """n images that are best beside those given, which are of the same query."""
        temperature = self.design.temperature_of(query, self.key)
        mask = self.mask(query, temperature, generator)
        query.record("mask_sizes", mask.sizes)
        if self.record_mask:
            query.record("mask", mask.to_json())
        images = QueryBlocks(
            query,
            self.design.weighting,
            temperature,
            self.key,
            self._lowers_memory,
            last_layer=mask.whole_last_layer,
            others=mask.dense,
            on_host=self.jacobians == "host",
            dtype=getattr(torch, self.jacobian_precision),
        )
        return self.design.select(query, n, generator, images, given)

    @property
    def _lowers_memory(self) -> str:
        key = self.key
        return (
            f"lower {key}.fraction, {key}.max_candidates or device.scoring_batch_size, or set "
            f"{key}.jacobian_precision=float16 or, with a GPU, {key}.jacobians=host"
        )

    def mask(self, query: Query, temperature: float, generator: torch.Generator) -> Mask:
        """By the diagonal Fisher information, the mean over images of the pool."""
        parameters = dict(query.model.named_parameters())
        numbers = sum(weights.numel() for weights in parameters.values())
        require_memory(
            query.device,
            {f"diagonal Fisher information of {numbers:,} weights": MASK_BYTES * numbers},
            self.design.memory_limit_gib,
            self.key,
            "use a smaller backbone",
        )
        head = {id(weights) for weights in query.model.head.parameters()}
        last_layer = [name for name, weights in parameters.items() if id(weights) in head]
        images = torch.arange(len(query.logits))
        if self.mask_sample == "random":
            images = torch.randperm(len(images), generator=generator)
        images = images[: self.mask_images].sort().values.to(query.device)
        # Of a random mask only the parameters' shapes count.
        fisher: dict[str, Tensor] = {**parameters}
        if self.kind != "random":
            fisher = _mean_diagonal_fisher(query, images, temperature)
        return choose(
            self.kind, fisher, last_layer, self.fraction, self.whole_last_layer, generator
        )


def _mean_diagonal_fisher(query: Query, images: Tensor, temperature: float) -> dict[str, Tensor]:
    device = float64_device(query.device)
    batches = (
        (
            query.images(batch),
            fisher_factors(query.logits[batch].to(device), temperature=temperature),
        )
        for batch in images.split(query.batch_size)
    )
    sums = diagonal_fisher(query.model, batches)
    return {name: squares / len(images) for name, squares in sums.items()}
