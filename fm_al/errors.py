"""The two kinds of error a user meets; each is one line that says what would do. How errors of
memory, and of code that a user may have written, become such."""

from __future__ import annotations

import argparse
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import NoReturn


class ConfigError(ValueError):
    """The configuration can't work: names the key, the value and what is allowed. Exit code 2."""


# What a network that diverged may be saved by, for the errors that report it.
DIVERGED = "try a lower trainer.optimizer.lr, trainer.clamp_gradients=0.1 or device.precision=fp32"


class RunError(RuntimeError):
    """A well configured run can't go on: says where, why and what to try. Exit code 1."""


class RunLockedError(RunError):
    """Another live process writes the run; it goes on there."""


class MethodError(RunError):
    """An error in a method that a user may have written. shown: its traceback from there on."""

    def __init__(self, message: str, shown: str) -> None:
        super().__init__(message)
        self.shown = shown


# How torch and numpy say that there is not so much memory, or that no number counts it.
OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "Storage size calculation overflowed",
    "multiplication overflow",
    "Overflow when unpacking long",
    "Maximum allowed dimension exceeded",
    "array is too big",
)
STANDARD_LIBRARY = sysconfig.get_paths()["stdlib"]


def is_of_memory(error: BaseException) -> bool:
    """Whether memory ran out; Apple's GPU and the CPU have no class of error for it."""
    return isinstance(error, MemoryError) or any(text in str(error) for text in OF_MEMORY)


@contextmanager
def memory_errors_named(stage: str, remedy: str) -> Iterator[None]:
    """Turns running out of memory into a RunError that says in which stage and what lowers it."""
    try:
        yield
    except (MemoryError, RuntimeError, TypeError, ValueError) as error:
        if not is_of_memory(error):
            raise
        reason = str(error).partition("\n")[0] or "no more to be had"
        raise RunError(f"out of memory while {stage}: {reason}; lower {remedy}") from error


@contextmanager
def errors_named(failed: str, kind: type[ConfigError] | type[MethodError]) -> Iterator[None]:
    """For one call of what a user may have written: gives its errors in one line that says what
    failed and in which line of which file. Errors that are worded, and of memory, pass."""
    try:
        yield
    except (ConfigError, RunError):
        raise
    except Exception as error:
        if is_of_memory(error):
            raise
        below = error.__traceback__
        for _ in ("the `yield` above", "the call"):
            below = below and below.tb_next
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        line = f"{failed} ({reason}{_place(below)})"
        if issubclass(kind, ConfigError):
            raise kind(line) from error
        shown = traceback.format_exception(type(error), error, below)
        raise kind(line, "".join(shown)) from error


def _place(frames: TracebackType | None) -> str:
    """Where the first file of these frames that is no library's was left."""
    own = [
        frame
        for frame in traceback.extract_tb(frames)
        if not frame.filename.startswith(("<", STANDARD_LIBRARY))
        and "site-packages" not in Path(frame.filename).parts
    ]
    left = [frame for frame in own if frame.filename == own[0].filename]
    return f", {left[-1].filename} line {left[-1].lineno}" if left else ""


class ArgumentParser(argparse.ArgumentParser):
    """Of a command whose arguments are not Hydra's."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; {self.prog} --help says what there is")
