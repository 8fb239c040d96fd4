"""Draw many settings in several processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import joblib

FEWEST_FOR_PROCESSES = 3  # settings; fewer are drawn before other processes have started
T = TypeVar("T")


def in_processes(
    function: Callable[..., T], tasks: Sequence[tuple[Any, ...]], settings: int
) -> list[T]:
    """Call a function with the arguments of each task; return the results in the same order."""
    processes = joblib.cpu_count() if settings >= FEWEST_FOR_PROCESSES else 1
    return joblib.Parallel(processes)(joblib.delayed(function)(*task) for task in tasks)
