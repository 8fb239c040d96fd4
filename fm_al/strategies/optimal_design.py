"""What BAIT and FisherMask share: a query's images as the blocks of a greedy optimal design."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from fm_al.device import GIB, available_memory, float64_device
from fm_al.errors import ConfigError, RunError
from fm_al.fisher.design import (
    CHUNK_BYTES,
    Blocks,
    InformationSum,
    Weighting,
    contrasts,
    fisher_factors,
    information_scale,
    largest_eigenvalue,
    memory_needed,
    select,
)
from fm_al.fisher.jacobian import MaskedGradients
from fm_al.fisher.temperature import calibrated_temperature
from fm_al.strategies.base import Query

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Scale = Literal["information", "absolute"]
PoolFisher = Literal["pool", "class_balanced", "soft_class_balanced", "identity"]
LabelledWeight = Literal["mean", "each"]
Temperature = Positive | Literal["calibrated"]


@dataclass(frozen=True)
class OptimalDesign:
    """Greedy selection by Fisher information, as `fm_al.fisher.design` has it.

    Of the unlabelled images, n = K are picked to minimise tr(M^{-1} F), where

        M = lambda 1 + w_L * (sum of I(x) over the labelled images)
                     + K / (n_L + K) * (sum of I(x) over the picks).

    Args:
        regularization: rho. Above 0.
        regularization_scale: `information`: lambda = rho tr(F) / k, F over k coordinates, so rho
            is in units of the information's mean eigenvalue; `absolute`: lambda = rho.
        oversampling: b; n (1 + b) images are picked, and all but n taken back.
        weighting: of the classes' gradients, by their probability (`fisher`), or none (`uniform`),
            as in the selection of the FisherMask authors' code.
        pool_fisher: F. `pool`: the mean of I(x) over the whole pool, labelled images too.
            `class_balanced`: the mean over classes of the mean of I(x) over the images that are
            predicted to be of that class; classes that are predicted nowhere count in no mean.
            `soft_class_balanced`: the same with each image in every class by its probability: the
            mean over classes c of sum_x p_c(x) I(x) / sum_x p_c(x), p = softmax(z / T).
            `identity`: the identity matrix, with lambda on the scale of `pool`.
        labelled_fisher: whether labelled images count at all; if not, w_L = 0.
        labelled_weight: w_L. `mean`: 1 / (n_L + K), as published: the formula adds n_L / (n_L + K)
            of the labelled images' mean to K / (n_L + K) of the picks' sum, so all labelled images
            together count like n_L / K picks. `each`: K / (n_L + K), every one like a pick.
        temperature: T, that logits are divided by wherever information is computed, or
            `calibrated`: in each round so that the labelled images' mean largest probability is
            0.95, see `calibrated_temperature`.
        max_candidates: at most so many, in each round a uniform random subset; F stays the whole
            pool's.
        memory_limit_gib: for a query; null is what the device has.
    """

    regularization: Positive
    regularization_scale: Scale
    oversampling: NotNegative
    weighting: Weighting
    pool_fisher: PoolFisher
    labelled_fisher: bool
    labelled_weight: LabelledWeight
    temperature: Temperature
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

        weight = batch / (len(labelled) + batch)
        prior = InformationSum(images.width, images.device)
        pool = InformationSum(images.width, images.device)
        roots_of_weights = (
            self._pool_weights(query.logits, images.temperature).sqrt().to(images.device)
        )
        of_labelled = weight if self.labelled_weight == "each" else weight / batch
        known = [(given, weight), (labelled, of_labelled if self.labelled_fisher else 0.0)]
        for indices, weight_of_each in known:
            for some, blocks in images.parts(indices):
                prior.add(blocks.scaled(math.sqrt(weight_of_each)))
                pool.add(blocks.scaled(roots_of_weights[some.to(images.device)]))
        kept = images.kept(candidates)
        pool.add(kept.scaled(roots_of_weights[candidates.to(images.device)]))
        for some, blocks in images.parts(_without(free, candidates)):
            pool.add(blocks.scaled(roots_of_weights[some.to(images.device)]))

        pool_fisher = pool.total()
        information, lambda_ = pool_fisher, self.regularization
        if self.regularization_scale == "information":
            lambda_ *= information_scale(information)
        left_out = 0.0
        if self.pool_fisher == "identity":
            pool_fisher = torch.eye(len(information)).to(information)
            left_out = images.left_out / lambda_
        selection = select(kept, n, pool_fisher, prior.total(), weight, lambda_, self.oversampling)
        query.record("candidates", len(candidates))
        query.record("lambda", lambda_)
        query.record("mean_eigenvalue", float(information.trace()) / len(information))
        query.record("largest_eigenvalue", largest_eigenvalue(information))
        query.record("objective", selection.objective + left_out)
        return candidates[selection.picks.to(candidates.device)]

    def _pool_weights(self, logits: Tensor, temperature: float) -> Tensor:
        """What each image's information weighs in F, or in its scale: (N,) float64, of sum 1."""
        if self.pool_fisher == "class_balanced":
            classes = functional.one_hot(logits.argmax(dim=1), logits.shape[1])
            return _class_balanced(classes.to(float64_device(logits.device)).double())
        if self.pool_fisher == "soft_class_balanced":
            logits = logits.to(float64_device(logits.device)).double()
            return _class_balanced((logits / temperature).softmax(dim=1))
        return torch.full((len(logits),), 1 / len(logits), dtype=torch.float64)

    def temperature_of(self, query: Query, key: str) -> float:
        """The temperature of a query's logits; recorded where it is calibrated. key: where the
        options stand. Raises RunError where it can't be calibrated."""
        if self.temperature != "calibrated":
            return self.temperature
        logits = query.logits[query.labelled].to(float64_device(query.device))
        try:
            temperature = calibrated_temperature(logits)
        except RunError as error:
            raise RunError(f"{key}.{error}") from None
        query.record("temperature", temperature)
        return temperature


def _class_balanced(memberships: Tensor) -> Tensor:
    """Weights of images, (N,) of sum 1, by which every class with a member has the same total, and
    within it an image its share: memberships (N, C), rows of sum 1."""
    members = memberships.sum(dim=0)
    there = members > 0
    return (memberships[:, there] / members[there]).mean(dim=1)


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
        temperature: float,
        key: str,
        lowers_memory: str,
        last_layer: bool = True,
        others: Mapping[str, Tensor] | None = None,
        on_host: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.query = query
        self.weighting = weighting
        self.temperature = temperature
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
        logits = self.query.logits[indices].to(self.device)
        factors = fisher_factors(logits, self.weighting, self.temperature)
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

    def parts(self, indices: Tensor) -> Iterator[tuple[Tensor, Blocks]]:
        """These images batch by batch, and their blocks."""
        for batch in self._batches(indices):
            yield batch, self.of(batch)

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
