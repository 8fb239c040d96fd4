"""The greedy way that all designs take: forward for more picks than asked for, then backward."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor

Blocks = TypeVar("Blocks")
Inside = TypeVar("Inside", covariant=True)


@dataclass(frozen=True)
class Selection:
    """A greedy design.

    Attributes:
        picks: Positions among the candidates in the order of picking, (n,) int64 on the CPU.
        objective: tr(M^{-1} F) with the picks inside.
    """

    picks: Tensor
    objective: float


class Forward(Protocol[Inside]):
    """Picks one candidate after the other."""

    inside: list[int]

    def add_best(self) -> None: ...

    def blocks_inside(self) -> Inside: ...

    def final_objective(self) -> float: ...


class Backward(Protocol):
    """Removes one pick after the other."""

    inside: list[int]

    def remove_best(self, positions: Tensor) -> None: ...

    def final_objective(self) -> float: ...


def check_design(
    n: int, candidates: int, regularization: float, scale: float, oversampling: float
) -> None:
    """Raise ValueError if an argument of a design is out of range."""
    if not 1 <= n <= candidates:
        raise ValueError(f"n={n}: there are {candidates} candidates")
    for name, value in (("regularization", regularization), ("scale", scale)):
        if not 0 < value < math.inf:
            raise ValueError(f"{name}={value}: should be above 0")
    if not 0 <= oversampling < math.inf:
        raise ValueError(f"oversampling={oversampling}: should be 0 or above")


def greedy(
    start: Callable[[], Forward[Blocks]],
    start_backward: Callable[[Blocks, list[int]], Backward],
    n: int,
    candidates: int,
    oversampling: float,
) -> Selection:
    """Pick n (1 + oversampling) candidates, rounded and at most all; then remove all but n.

    Args:
        start: Makes what picks. It is freed before anything is removed.
        start_backward: Makes what removes, of the picks' blocks and their positions among these.
        n: How many to pick.
        candidates: How many there are.
        oversampling: b, at least 0.
    """
    forward = start()
    for _ in range(min(n + math.floor(oversampling * n + 0.5), candidates)):
        forward.add_best()
    picked, objective = forward.inside, forward.final_objective()
    if len(picked) > n:
        blocks = forward.blocks_inside()
        del forward
        backward = start_backward(blocks, list(range(len(picked))))
        positions = torch.tensor(picked)
        while len(backward.inside) > n:
            backward.remove_best(positions)
        picked = [picked[position] for position in backward.inside]
        objective = backward.final_objective()
    return Selection(torch.tensor(picked), objective)
