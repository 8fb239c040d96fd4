"""The two kinds of error that a user meets, each one line that says how to mend it.

Context managers turn running out of memory, and errors in a user's own code, into such lines."""

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
    """The configuration can't work: the key, its value and what is accepted. Exit code 2."""


# Hint appended to divergence errors.
DIVERGED = "try a lower trainer.optimizer.lr, trainer.clamp_gradients=0.1 or device.precision=fp32"


class RunError(RuntimeError):
    """A well-configured run failed: where, why, and what to try. Exit code 1."""


class RunLockedError(RunError):
    """Another live process writes the run."""


class MethodError(RunError):
    """An error in a method that a user may have written.

    Attributes:
        shown: The traceback from that method on.
    """

    def __init__(self, message: str, shown: str) -> None:
        super().__init__(message)
        self.shown = shown


# What torch and numpy say if memory runs out, or if a size overflows.
OUT_OF_MEMORY_TEXTS = (
    "out of memory",
    "can't allocate memory",
    "Storage size calculation overflowed",
    "multiplication overflow",
    "Overflow when unpacking long",
    "Maximum allowed dimension exceeded",
    "array is too big",
)
STANDARD_LIBRARY = sysconfig.get_paths()["stdlib"]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out; by the message, since CPU and Apple GPU have no class for it."""
    return isinstance(error, MemoryError) or any(text in str(error) for text in OUT_OF_MEMORY_TEXTS)


@contextmanager
def memory_errors_named(stage: str, remedy: str) -> Iterator[None]:
    """Turns running out of memory into a RunError that names the stage and what lowers its use."""
    try:
        yield
    except (MemoryError, RuntimeError, TypeError, ValueError) as error:
        if not is_out_of_memory(error):
            raise
        reason = str(error).partition("\n")[0] or "no more to be had"
        raise RunError(f"out of memory while {stage}: {reason}; lower {remedy}") from error


@contextmanager
def errors_named(failed: str, kind: type[ConfigError] | type[MethodError]) -> Iterator[None]:
    """Names an error in one call of code that a user may have written.

    The error becomes one line with the file and the line number; so does `sys.exit`. ConfigError,
    RunError, running out of memory, and the end of a job that SLURM will queue again pass
    unchanged.

    Args:
        failed: What failed, the beginning of the line.
        kind: The class of the error to raise.
    """
    try:
        yield
    except (ConfigError, RunError):
        raise
    except (Exception, SystemExit) as error:
        if is_out_of_memory(error) or _is_end_of_job(error):
            raise
        below = error.__traceback__
        for _ in ("the `yield` above", "the call"):
            below = below and below.tb_next
        reason = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
        line = f"{failed} ({reason}{_place(below)})"
        if issubclass(kind, ConfigError):
            raise kind(line) from error
        shown = traceback.format_exception(type(error), error, below)
        raise kind(line, "".join(shown)) from error


def _is_end_of_job(error: BaseException) -> bool:
    """Whether submitit's signal handler ends the process, which it does wherever the run is."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    return isinstance(error, SystemExit) and any(
        frame.f_globals.get("__name__", "").startswith("submitit.") for frame in frames
    )


def _place(frames: TracebackType | None) -> str:
    """The last line reached in the first file that is no library's."""
    own = [
        frame
        for frame in traceback.extract_tb(frames)
        if not frame.filename.startswith(("<", STANDARD_LIBRARY))
        and "site-packages" not in Path(frame.filename).parts
    ]
    left = [frame for frame in own if frame.filename == own[0].filename]
    return f", {left[-1].filename} line {left[-1].lineno}" if left else ""


class ArgumentParser(argparse.ArgumentParser):
    """Parses arguments of commands other than `fm-al`; its errors are ConfigErrors."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; {self.prog} --help lists what is accepted")
