"""Asking a strategy for its picks, and checking them against its contract."""

from __future__ import annotations

from typing import Any

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
    revealed = query.revealed.cpu()
    chosen = torch.empty(0)
    if isinstance(picks, Tensor) and not picks.is_meta and picks.layout == torch.strided:
        chosen = picks.cpu()
    if picks is None:
        wrong = "None"
    elif not isinstance(picks, Tensor):
        wrong = f"an object of {type(picks)}"
    elif chosen.dtype != torch.int64 or chosen.shape != (n,):
        kind = "tensor" if picks.layout == torch.strided else "sparse tensor"
        wrong = f"a {kind} of {picks.dtype} and shape {tuple(picks.shape)} on {picks.device}"
    elif len(chosen.unique()) < n:
        wrong = f"{n - len(chosen.unique())} indices twice"
    elif not torch.isin(chosen, query.unlabelled.cpu()).all():
        wrong = "images that are not in the pool or labelled already"
    elif missing := len(revealed) - int(torch.isin(revealed, chosen).sum()):
        wrong = f"{n} images without {missing} of the {len(revealed)} that it had revealed"
    else:
        return torch.cat([revealed, chosen[~torch.isin(chosen, revealed)]])
    raise RunError(
        f"{type(strategy).__name__}.select returned {wrong}; it must return an int64 tensor of {n} "
        "distinct indices of unlabelled images; the round is not recorded"
    )
