"""Runs the same function for many files, in threads."""

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
REPORT_EVERY = 10.0  # seconds, if standard error is not a terminal


def in_threads(doing: str, work: Callable[[int], T], count: int) -> list[T]:
    """Call a function for many files, and show progress on standard error.

    Args:
        doing: What is done, for the progress line.
        work: Called with every position below `count`.
        count: The number of files.

    Returns:
        What `work` returned, in order.
    """

    def chunk(start: int) -> list[T]:
        return [work(position) for position in range(start, min(start + FILES_A_TASK, count))]

    console = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)
    done: list[T] = []
    reported = time.monotonic()
    executor = ThreadPoolExecutor()
    try:
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            task = progress.add_task(escape(doing), total=count)
            for part in executor.map(chunk, range(0, count, FILES_A_TASK)):
                done += part
                progress.update(task, completed=len(done))
                if not console.is_terminal and time.monotonic() - reported > REPORT_EVERY:
                    console.print(f"{doing}: {len(done)} of {count} files")
                    reported = time.monotonic()
    finally:
        executor.shutdown(cancel_futures=True)
    return done
