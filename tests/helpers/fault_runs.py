"""Starts of `fm-al` that can be stopped, watched, disturbed and killed at any moment.

Each is forked from one process that has imported everything, so that it begins at once.
"""

from __future__ import annotations

import functools
import importlib
import multiprocessing
import os
import select
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from fm_al.strategies.badge import BADGE
from tests.helpers.command_line import Ended, fm_al

FORKED = multiprocessing.get_context("forkserver")
# The last one is imported for the first W&B run, which takes seconds.
FORKED.set_forkserver_preload(["fm_al.cli", "fm_al.experiment", "wandb.sdk.launch"])
PATIENCE = 120  # seconds after which something hangs

Change = Callable[[], None]


class Stop(NamedTuple):
    """Where a start has stopped: at a function that is `entered` or `left`, in its n-th call."""

    place: str
    when: str
    call: int


class Start:
    """A start of `fm-al` in `folder`, in a process of its own.

    It stops whenever one of the functions `places`, `module:name`, is entered or left, until it is
    told to go on. change: what that process is to call before anything else."""

    def __init__(
        self,
        folder: Path,
        arguments: Iterable[str],
        places: Iterable[str] = (),
        change: Change | None = None,
    ) -> None:
        self._pipe, pipe = FORKED.Pipe()
        self._is_stopped = False
        self._ended: Ended | None = None
        self._process = FORKED.Process(
            target=_start, args=(folder, [*arguments], [*places], change, pipe), daemon=True
        )
        self._process.start()
        pipe.close()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def stops(self) -> Iterator[Stop]:
        """Goes on, from stop to stop, each time that the next one is asked for."""
        while self._ended is None:
            self.go_on()
            assert self._pipe.poll(PATIENCE), "hangs"
            told = self._pipe.recv()
            if isinstance(told, Ended):
                self._ended = told
            else:
                self._is_stopped = True
                yield told

    def until(self, place: str, when: str = "entered", call: int = 1) -> Start:
        """Goes on to this stop."""
        assert Stop(place, when, call) in self.stops(), f"ended without {place}: {self._ended}"
        return self

    def go_on(self, change: Change | None = None, freely: bool = False) -> None:
        """change: what the process is to call first. freely: without another stop."""
        if self._is_stopped:
            self._is_stopped = False
            self._pipe.send((change, freely))

    def kill(self, after: float | None = None) -> None:
        """kill -9. after: so many seconds after it has gone on, but where it stops next at the
        latest; None is here and now."""
        if after is not None:
            self.go_on()
            select.select([self._pipe], [], [], after)
        os.kill(self.pid, signal.SIGKILL)
        self._process.join(PATIENCE)
        assert self._process.exitcode == -signal.SIGKILL

    def ended(self) -> Ended:
        """Goes on to the end, without another stop."""
        self.go_on(freely=True)
        for _ in self.stops():
            pass
        assert self._ended is not None
        self._process.join(PATIENCE)
        assert self._process.exitcode == 0
        return self._ended


def _start(
    folder: Path, arguments: list[str], places: list[str], change: Change | None, pipe: Connection
) -> None:
    one_at_a_time, free = threading.Lock(), False

    def stop(*where: Any) -> None:
        nonlocal free
        with one_at_a_time:
            if free:
                return
            pipe.send(Stop(*where))
            change, free = pipe.recv()
        if change:
            change()

    for place in places:
        _stop_at(place, stop)
    if change:
        change()
    pipe.send(fm_al(folder, *arguments))


def _stop_at(place: str, stop: Callable[..., None]) -> None:
    module, _, name = place.partition(":")
    *classes, name = name.split(".")
    owner = functools.reduce(getattr, classes, importlib.import_module(module))
    function, calls = getattr(owner, name), 0

    def stopping(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        call = calls
        stop(place, "entered", call)
        try:
            return function(*arguments, **named)
        finally:
            stop(place, "left", call)

    setattr(owner, name, stopping)


class Recording(BADGE):
    """Records something, as strategies do that have more to say."""

    def select(self, query, n, generator):
        query.record("unlabelled", len(query.unlabelled))
        return super().select(query, n, generator)
