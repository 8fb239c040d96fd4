"""What stands for the exact information of a pool's images, and which of it fits into memory.

With h the embedding, p = softmax(z / T) and c = `top_classes`, the information I(x) of the last
layer is

    exact        (diag p - p p^T) ⊗ h h^T / T^2
    top_classes  the same for the c likeliest classes, with p renormalised over these
    blocks       for every class by itself p_c (1 - p_c) h h^T / T^2: the diagonal blocks
    binary       p (1 - p) h h^T / T^2 with p the largest probability, over D weights

`top_classes` and `binary` are from Huseljic et al. 2024, "Fast Fishing", arXiv 2404.08981; `blocks`
are those of the rounding step of Chen et al. 2024, "Approx-FIRAL", arXiv 2409.07392. The objective
and the greedy selection are the same for all of them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from fm_al.device import GIB
from fm_al.errors import ConfigError
from fm_al.fisher.class_blocks_design import class_blocks_design, class_blocks_needs
from fm_al.fisher.image_factors import BinaryFactors, ExactFactors, ImageFactors, TopClassFactors
from fm_al.fisher.memory import fits, query_needs, require_memory
from fm_al.fisher.options import DesignOptions, OptionNames
from fm_al.fisher.pool import ScoredPool
from fm_al.fisher.pool_blocks import PoolBlocks
from fm_al.fisher.pool_design import PoolDesign, PoolProblem, matrix_design
from fm_al.fisher.pool_weights import pool_weights_needs
from fm_al.fisher.top_classes_pool import top_classes_pool_design, top_classes_pool_needs

logger = logging.getLogger(__name__)

EXACT = "exact"
# They weight the classes' gradients by their probabilities in their definition.
ONE_WEIGHTING = ("binary", "blocks")

Needs = dict[torch.device, dict[str, int]]


@dataclass(frozen=True)
class Way:
    """A way to solve a problem.

    Attributes:
        needs: Returns, for every device, bytes by purpose.
        solve: Returns the picks.
    """

    needs: Callable[[PoolProblem], Needs]
    solve: Callable[[PoolProblem], PoolDesign]


def check_approximation(options: DesignOptions, names: OptionNames) -> None:
    """Raise ConfigError if the approximation does not go with the weighting."""
    if options.approximation in ONE_WEIGHTING and options.weighting != "fisher":
        raise ConfigError(
            f"{names.prefix}weighting={options.weighting}: should be fisher with "
            f"{names.prefix}approximation={options.approximation}; top_classes takes both"
        )


def image_factors(
    pool: ScoredPool, options: DesignOptions, temperature: float
) -> dict[str, ImageFactors]:
    """Return the rows of V_x by the name of the approximation, for those that have such rows."""
    C, weighting = pool.classes, options.weighting
    return {
        EXACT: ExactFactors(C, weighting, temperature),
        "top_classes": TopClassFactors(C, min(options.top_classes, C), weighting, temperature),
        "binary": BinaryFactors(C, temperature),
    }


def bait_ways(pool: ScoredPool, options: DesignOptions, temperature: float) -> dict[str, Way]:
    """Return the ways to solve a problem about the last layer, in the order of `auto`."""
    factors = image_factors(pool, options, temperature)
    return {
        EXACT: matrix_way(PoolBlocks(pool, factors[EXACT])),
        "blocks": Way(class_blocks_needs, class_blocks_design),
        "top_classes": Way(top_classes_pool_needs, top_classes_pool_design),
        "binary": matrix_way(PoolBlocks(pool, factors["binary"])),
    }


def matrix_way(blocks: PoolBlocks) -> Way:
    """Return the way with these V_x, and matrices over all weights."""

    def needs(problem: PoolProblem) -> Needs:
        return query_needs(blocks, len(problem.candidates))

    return Way(needs, lambda problem: matrix_design(problem, blocks))


def chosen_way(
    problem: PoolProblem, ways: Mapping[str, Way], names: OptionNames, remedy: str
) -> str:
    """Return the name of the way that the options ask for.

    Args:
        problem: The problem and its options.
        ways: The ways by name, in the order in which `auto` tries them.
        names: How errors name options.
        remedy: How to need less memory, for the error.

    Raises:
        RunError: The query needs more memory than it may use.
    """
    options = problem.options
    possible = {
        name: way
        for name, way in ways.items()
        if options.weighting == "fisher" or name not in ONE_WEIGHTING
    }
    if options.approximation == "auto":
        return _first_that_fits(problem, possible, names, remedy)
    wanted = options.approximation or EXACT
    needs = _needs(problem, ways[wanted])
    if not fits(needs, options.memory_limit_gib):
        others = _others(problem, possible, wanted, needs, names)
        _require(needs, options, names, "; ".join([remedy, *others]))
    return wanted


def _first_that_fits(
    problem: PoolProblem, ways: Mapping[str, Way], names: OptionNames, remedy: str
) -> str:
    needs_of = {name: _needs(problem, way) for name, way in ways.items()}
    for name, needs in needs_of.items():
        if fits(needs, problem.options.memory_limit_gib):
            skipped = [f"{other} would need {_gib(needs_of[other])}" for other in needs_of]
            skipped = skipped[: list(needs_of).index(name)]
            level = logging.WARNING if skipped else logging.INFO
            text = "; ".join([f"{name} is used, which needs {_gib(needs)}", *skipped])
            logger.log(level, "%sapproximation=auto: %s", names.prefix, text)
            return name
    least = min(needs_of.values(), key=_total)
    all_needs = ", ".join(f"{name} {_gib(needs)}" for name, needs in needs_of.items())
    _require(least, problem.options, names, f"{remedy}; no approximation fits: {all_needs}")
    return min(needs_of, key=lambda name: _total(needs_of[name]))  # memory was freed since


def _others(
    problem: PoolProblem, ways: Mapping[str, Way], wanted: str, needs: Needs, names: OptionNames
) -> list[str]:
    """Name the approximations that need less, with what they need."""
    others = {
        name: of_way
        for name, way in ways.items()
        if name not in (EXACT, wanted) and _total(of_way := _needs(problem, way)) < _total(needs)
    }
    if not others:
        return []
    first, *rest = (f"{name} needs {_gib(of_way)}" for name, of_way in others.items())
    return [", ".join([f"{names.prefix}approximation={first}", *rest])]


def _needs(problem: PoolProblem, way: Way) -> Needs:
    """Return what a way needs, with the images' weights in F."""
    needs = way.needs(problem)
    of_weights = pool_weights_needs(len(problem.pool), problem.pool.classes)
    device = problem.float64_device
    return {**needs, device: needs.get(device, {}) | of_weights}


def _require(needs: Needs, options: DesignOptions, names: OptionNames, remedy: str) -> None:
    limit_name = f"{names.prefix}memory_limit_gib"
    for device, of_device in needs.items():
        require_memory(device, of_device, options.memory_limit_gib, limit_name, remedy)


def _total(needs: Needs) -> int:
    return sum(sum(of_device.values()) for of_device in needs.values())


def _gib(needs: Needs) -> str:
    return f"{_total(needs) / GIB:.3g} GiB"
