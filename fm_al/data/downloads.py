"""Downloads by other packages: one process at a time, and quiet."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def exclusive_download(directory: Path) -> Iterator[None]:
    """Wait until no other process downloads into the directory, and keep others waiting."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".download-lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def quiet_unless_on_terminal() -> Iterator[None]:
    """Drop what is printed, such as progress, if nobody watches."""
    if sys.stderr.isatty():
        yield
        return
    with (
        Path(os.devnull).open("w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        yield
