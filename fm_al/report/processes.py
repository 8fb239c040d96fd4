"""Work that is done in several processes: figures take most of a report's time."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


def in_processes(function: Callable[..., T], tasks: Sequence[tuple[Any, ...]]) -> list[T]:
    """What a function returns for the arguments of each task, in their order, by as many processes
    as there are CPUs for this one."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = min(len(tasks), cpus)
    if count < 2:
        return [function(*task) for task in tasks]
    with ProcessPoolExecutor(count, multiprocessing.get_context()) as pool:
        return list(pool.map(function, *zip(*tasks, strict=True)))
