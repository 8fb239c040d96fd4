"""The same work for many files, in threads."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

T = TypeVar("T")

FILES_A_TASK = 64
SAY_EVERY = 10.0  # seconds, where standard error is no terminal


def in_threads(doing: str, work: Callable[[int], T], count: int) -> list[T]:
    """`work(i)` for each i below `count`, in order. Progress is shown on standard error, under the
    name `doing`."""

    def some(start: int) -> list[T]:
        return [work(position) for position in range(start, min(start + FILES_A_TASK, count))]

    console = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)
    done: list[T] = []
    said = time.monotonic()
    executor = ThreadPoolExecutor()
    try:
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            task = progress.add_task(escape(doing), total=count)
            for part in executor.map(some, range(0, count, FILES_A_TASK)):
                done += part
                progress.update(task, completed=len(done))
                if not console.is_terminal and time.monotonic() - said > SAY_EVERY:
                    console.print(f"{doing}: {len(done)} of {count} files")
                    said = time.monotonic()
    finally:
        executor.shutdown(cancel_futures=True)
    return done
