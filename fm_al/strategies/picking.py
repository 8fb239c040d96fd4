"""Asking a strategy for its picks, and checking them against its contract."""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from torch import Tensor

from fm_al.errors import MethodError, RunError, errors_named
from fm_al.strategies.base import Query, Strategy
from fm_al.strategies.candidates import candidates_query, check_memory


def checked_picks(strategy: Strategy, query: Query, n: int, generator: torch.Generator) -> Tensor:
    """Pick the images to label in a round.

    Args:
        strategy: It chooses among its candidates, if it limits them.
        query: Of the whole pool.
        n: How many images to pick.
        generator: The query's, a CPU generator.

    Returns:
        Indices into the pool, int64 (n,), on the CPU: those that were revealed, in that order, then
        the others as the strategy returned them.

    Raises:
        RunError: If the picks break the contract of `Strategy.select`, or there is too little
            memory.
        MethodError: If the strategy fails.
    """
    query = candidates_query(strategy, query, generator)
    check_memory(strategy, query, n)
    with errors_named(f"{type(strategy).__name__}.select failed", MethodError):
        picks = strategy.select(query, n, generator)
    return query.pool_indices(_checked(picks, n, query, strategy)).cpu()


def _checked(picks: Any, n: int, query: Query, strategy: Strategy) -> Tensor:
    """The picks on the CPU, revealed ones first. Raises RunError if they break the contract."""
    by = f"{type(strategy).__name__}.select"
    chosen = checked_indices(picks, n, query.unlabelled, by)
    revealed = query.revealed.cpu()
    if missing := len(revealed) - int(torch.isin(revealed, chosen).sum()):
        _refuse(f"{n} images without {missing} of the {len(revealed)} that it had revealed", n, by)
    return torch.cat([revealed, chosen[~torch.isin(chosen, revealed)]])


def checked_indices(returned: Any, n: int, unlabelled: Tensor, by: str) -> Tensor:
    """What a strategy or a start returned, on the CPU.

    Args:
        returned: Should be distinct indices of unlabelled images, int64 (n,), on any device.
        n: How many.
        unlabelled: All that may be chosen.
        by: Names the method in errors.

    Raises:
        RunError: If it is anything else.
    """
    chosen = torch.empty(0)
    if isinstance(returned, Tensor) and not returned.is_meta and returned.layout == torch.strided:
        chosen = returned.cpu()
    if returned is None:
        _refuse("None", n, by)
    elif not isinstance(returned, Tensor):
        _refuse(f"an object of {type(returned)}", n, by)
    elif chosen.dtype != torch.int64 or chosen.shape != (n,):
        kind = "tensor" if returned.layout == torch.strided else "sparse tensor"
        shape = tuple(returned.shape)
        _refuse(f"a {kind} of {returned.dtype} and shape {shape} on {returned.device}", n, by)
    elif len(chosen.unique()) < n:
        _refuse(f"{n - len(chosen.unique())} indices twice", n, by)
    elif not torch.isin(chosen, unlabelled.cpu()).all():
        _refuse("images that are not in the pool or labelled already", n, by)
    return chosen


def _refuse(what: str, n: int, by: str) -> NoReturn:
    raise RunError(
        f"{by} returned {what}; it must return an int64 tensor of {n} distinct indices of "
        "unlabelled images; the round is not recorded"
    )
