"""A query of BAIT or FisherMask: from a scored pool to the images to label next."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from fm_al.device import float64_device
from fm_al.errors import ConfigError, RunError
from fm_al.fisher.blocks import InformationSum
from fm_al.fisher.design import greedy_design
from fm_al.fisher.eigenvalues import information_scale, largest_eigenvalue
from fm_al.fisher.memory import mask_needs, query_needs, require_memory
from fm_al.fisher.network_mask import network_mask
from fm_al.fisher.options import DesignOptions, FisherMaskOptions, OptionNames
from fm_al.fisher.pool import PoolNetwork, ScoredPool
from fm_al.fisher.pool_blocks import PoolBlocks
from fm_al.fisher.temperature import calibrated_temperature
from fm_al.randomness import random_subset


@dataclass(frozen=True)
class PoolSelection:
    """The result of a query.

    Attributes:
        picks: Indices into the pool in the order of picking, (n,) int64 on the pool's device.
        report: Numbers worth keeping, by name: `temperature` (if calibrated), `mask_sizes` and
            `mask` (of FisherMask), `candidates`, `lambda`, `mean_eigenvalue`,
            `largest_eigenvalue`, `objective`.
    """

    picks: Tensor
    report: dict[str, Any]


def bait_selection(
    pool: ScoredPool,
    n: int,
    generator: torch.Generator,
    options: DesignOptions,
    names: OptionNames,
) -> PoolSelection:
    """Pick n images by the Fisher information of the last layer.

    Args:
        pool: The pool and its scores.
        n: How many images to pick, at most all unlabelled ones.
        generator: Draws the candidates where `max_candidates` limits them; on the CPU.
        options: The options.
        names: How errors name them.

    Raises:
        ConfigError: There are fewer candidates than n.
        RunError: The query needs more memory than it may use, or cannot be carried out in float64.
    """
    report: dict[str, Any] = {}
    temperature = _temperature(pool, options, names, report)
    blocks = PoolBlocks(pool, options.weighting, temperature)
    remedy = (
        f"lower {names.prefix}max_candidates; if the matrices are too large, use a network with "
        "smaller embeddings, or FisherMask with whole_last_layer=false"
    )
    nothing = pool.labelled[:0]
    return _select_candidates(blocks, nothing, n, generator, options, names, remedy, report)


def fishermask_selection(
    pool: ScoredPool,
    network: PoolNetwork,
    given: Tensor,
    n: int,
    generator: torch.Generator,
    options: FisherMaskOptions,
    names: OptionNames,
) -> PoolSelection:
    """Pick n images by the Fisher information of the masked weights.

    Args:
        pool: The pool and its scores.
        network: The network and the pool's images.
        given: Indices of unlabelled images that are already in the batch; the picks complete them.
        n: How many images to pick beside them.
        generator: Draws the mask's images, a random mask, and the candidates where
            `max_candidates` limits them; on the CPU.
        options: The options.
        names: How errors name them.

    Raises:
        ConfigError: There are fewer candidates than n.
        RunError: A layer of the network is not supported, the query needs more memory than it may
            use, or it cannot be carried out in float64.
    """
    report: dict[str, Any] = {}
    temperature = _temperature(pool, options, names, report)
    weights = sum(parameter.numel() for parameter in network.network.parameters())
    limit, limit_name = options.memory_limit_gib, f"{names.prefix}memory_limit_gib"
    require_memory(pool.device, mask_needs(weights), limit, limit_name, "use a smaller network")
    mask = network_mask(pool, network, temperature, generator, options)
    report["mask_sizes"] = mask.sizes
    if options.record_mask:
        report["mask"] = mask.to_json()
    blocks = PoolBlocks(
        pool,
        options.weighting,
        temperature,
        last_layer=mask.whole_last_layer,
        network=network,
        others=mask.dense,
        on_host=options.jacobians == "host",
        dtype=getattr(torch, options.jacobian_precision),
    )
    prefix = names.prefix
    remedy = (
        f"lower {prefix}fraction, {prefix}max_candidates or {names.batch_size}, or set "
        f"{prefix}jacobian_precision=float16 or, with a GPU, {prefix}jacobians=host"
    )
    return _select_candidates(blocks, given, n, generator, options, names, remedy, report)


class LimitsCandidates(Protocol):
    """Options with `max_candidates`."""

    @property
    def max_candidates(self) -> int | None: ...


def check_candidates(options: LimitsCandidates, n: int, names: OptionNames) -> None:
    """Raise ConfigError if `max_candidates` leaves fewer than n candidates."""
    if options.max_candidates is not None and options.max_candidates < n:
        raise ConfigError(
            f"{names.prefix}max_candidates={options.max_candidates}: should be at least {n}, the "
            "images to pick in a query; above that there is a choice"
        )


def _temperature(
    pool: ScoredPool, options: DesignOptions, names: OptionNames, report: dict[str, Any]
) -> float:
    """Return the temperature of the logits, and report it if it is calibrated."""
    if options.temperature != "calibrated":
        return options.temperature
    try:
        temperature = calibrated_temperature(pool.logits[pool.labelled].to(_float64(pool)))
    except RunError as error:
        raise RunError(f"{names.prefix}{error}") from None
    report["temperature"] = temperature
    return temperature


def _select_candidates(
    blocks: PoolBlocks,
    given: Tensor,
    n: int,
    generator: torch.Generator,
    options: DesignOptions,
    names: OptionNames,
    remedy: str,
    report: dict[str, Any],
) -> PoolSelection:
    """Gather what is known of the pool, and pick n of the candidates beside those given."""
    pool = blocks.pool
    check_candidates(options, n, names)
    free = _without(pool.unlabelled, given)
    candidates = random_subset(free, options.max_candidates, generator)
    limit_name = f"{names.prefix}memory_limit_gib"
    for device, needs in query_needs(blocks, len(candidates)).items():
        require_memory(device, needs, options.memory_limit_gib, limit_name, remedy)

    batch = n + len(given)
    weight = batch / (len(pool.labelled) + batch)
    of_labelled = weight if options.labelled_weight == "each" else weight / batch
    known = [(given, weight), (pool.labelled, of_labelled if options.labelled_fisher else 0.0)]
    roots = _pool_weights(pool, options, blocks.temperature).sqrt().to(blocks.device)
    prior = InformationSum(blocks.width, blocks.device)
    whole_pool = InformationSum(blocks.width, blocks.device)
    for indices, weight_of_each in known:
        for some, part in blocks.parts(indices):
            prior.add(part.scaled(math.sqrt(weight_of_each)))
            whole_pool.add(part.scaled(roots[some.to(blocks.device)]))
    kept = blocks.kept(candidates)
    whole_pool.add(kept.scaled(roots[candidates.to(blocks.device)]))
    for some, part in blocks.parts(_without(free, candidates)):
        whole_pool.add(part.scaled(roots[some.to(blocks.device)]))

    pool_fisher = information = whole_pool.total()
    lambda_ = options.regularization
    if options.regularization_scale == "information":
        lambda_ *= information_scale(information)
    of_left_out = 0.0
    if options.pool_fisher == "identity":
        pool_fisher = torch.eye(len(information)).to(information)
        # The objective is that of all weights: `contrasts` leaves out D of them.
        of_left_out = blocks.dimensions / lambda_
    selection = greedy_design(
        kept, n, pool_fisher, prior.total(), weight, lambda_, options.oversampling
    )
    report["candidates"] = len(candidates)
    report["lambda"] = lambda_
    report["mean_eigenvalue"] = float(information.trace()) / len(information)
    report["largest_eigenvalue"] = largest_eigenvalue(information)
    report["objective"] = selection.objective + of_left_out
    return PoolSelection(candidates[selection.picks.to(candidates.device)], report)


def _pool_weights(pool: ScoredPool, options: DesignOptions, temperature: float) -> Tensor:
    """Return the weight of each image's information in F, (N,) float64 of sum 1."""
    if options.pool_fisher == "class_balanced":
        classes = functional.one_hot(pool.logits.argmax(dim=1), pool.classes)
        return _class_balanced(classes.to(_float64(pool)).double())
    if options.pool_fisher == "soft_class_balanced":
        logits = pool.logits.to(_float64(pool)).double()
        return _class_balanced((logits / temperature).softmax(dim=1))
    return torch.full((len(pool),), 1 / len(pool), dtype=torch.float64)


def _class_balanced(memberships: Tensor) -> Tensor:
    """Return weights, (N,) of sum 1, that give every class with members the same total.

    Within a class an image's weight is proportional to its membership, (N, C) with rows of sum 1.
    """
    members = memberships.sum(dim=0)
    there = members > 0
    return (memberships[:, there] / members[there]).mean(dim=1)


def _float64(pool: ScoredPool) -> torch.device:
    return float64_device(pool.device)


def _without(indices: Tensor, excluded: Tensor) -> Tensor:
    return indices[~torch.isin(indices, excluded)]
