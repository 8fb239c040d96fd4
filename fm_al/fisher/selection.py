"""A query of BAIT or FisherMask: from a scored pool to the images to label next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from fm_al.device import float64_device
from fm_al.errors import ConfigError, RunError
from fm_al.fisher.approximations import (
    Way,
    bait_ways,
    check_approximation,
    chosen_way,
    image_factors,
    matrix_way,
)
from fm_al.fisher.memory import mask_needs, require_memory
from fm_al.fisher.network_mask import network_mask
from fm_al.fisher.options import DesignOptions, FisherMaskOptions, OptionNames
from fm_al.fisher.pool import PoolNetwork, ScoredPool
from fm_al.fisher.pool_blocks import PoolBlocks
from fm_al.fisher.pool_design import PoolProblem, without
from fm_al.fisher.temperature import calibrated_temperature
from fm_al.randomness import random_subset


@dataclass(frozen=True)
class PoolSelection:
    """The result of a query.

    Attributes:
        picks: Indices into the pool in the order of picking, (n,) int64 on the pool's device.
        report: What is worth keeping, by name: `temperature` (if calibrated), `mask_sizes` and
            `mask` (of FisherMask), `approximation` (if one is asked for), `candidates`, `lambda`,
            `mean_eigenvalue`, `largest_eigenvalue`, `objective`.
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
    ways = bait_ways(pool, options, temperature)
    remedy = (
        f"lower {names.prefix}max_candidates; if the matrices are too large, use a network with "
        "smaller embeddings, or FisherMask with whole_last_layer=false"
    )
    problem = _problem(pool, pool.labelled[:0], n, generator, options, names, temperature)
    return _solution(problem, ways, names, remedy, report)


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
    ways = {
        name: matrix_way(
            PoolBlocks(
                pool,
                factors,
                last_layer=mask.whole_last_layer,
                network=network,
                others=mask.dense,
                on_host=options.jacobians == "host",
                dtype=getattr(torch, options.jacobian_precision),
            )
        )
        for name, factors in image_factors(pool, options, temperature).items()
    }
    prefix = names.prefix
    remedy = (
        f"lower {prefix}fraction, {prefix}max_candidates or {names.batch_size}, or set "
        f"{prefix}jacobian_precision=float16 or, with a GPU, {prefix}jacobians=host"
    )
    problem = _problem(pool, given, n, generator, options, names, temperature)
    return _solution(problem, ways, names, remedy, report)


def check_options(options: DesignOptions, n: int, names: OptionNames) -> None:
    """Raise ConfigError if the options do not go together, or leave fewer than n candidates."""
    check_approximation(options, names)
    check_candidates(options, n, names)


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
        temperature = calibrated_temperature(
            pool.logits[pool.labelled].to(float64_device(pool.device))
        )
    except RunError as error:
        raise RunError(f"{names.prefix}{error}") from None
    report["temperature"] = temperature
    return temperature


def _problem(
    pool: ScoredPool,
    given: Tensor,
    n: int,
    generator: torch.Generator,
    options: DesignOptions,
    names: OptionNames,
    temperature: float,
) -> PoolProblem:
    """Draw the candidates, and put together what is asked of the pool."""
    check_options(options, n, names)
    free = without(pool.unlabelled, given)
    candidates = random_subset(free, options.max_candidates, generator)
    return PoolProblem(pool, temperature, candidates, given, n, options)


def _solution(
    problem: PoolProblem,
    ways: Mapping[str, Way],
    names: OptionNames,
    remedy: str,
    report: dict[str, Any],
) -> PoolSelection:
    """Solve the problem in the way that the options ask for."""
    name = chosen_way(problem, ways, names, remedy)
    if problem.options.approximation is not None:
        report["approximation"] = name
    design = ways[name].solve(problem)
    candidates, selection = problem.candidates, design.selection
    report["candidates"] = len(candidates)
    report["lambda"] = design.regularization
    report["mean_eigenvalue"] = design.mean_eigenvalue
    report["largest_eigenvalue"] = design.largest_eigenvalue
    report["objective"] = selection.objective
    return PoolSelection(candidates[selection.picks.to(candidates.device)], report)
