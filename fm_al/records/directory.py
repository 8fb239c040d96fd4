"""Make the directories of runs and sweeps before anything is done for them."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from fm_al.errors import ConfigError

# Of a disk that is full or away. The configuration is right, and the run resumes when it is back.
OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE}


@contextlib.contextmanager
def output_dir_named(output_dir: str) -> Iterator[None]:
    """Turns failing to make a folder below output_dir into a ConfigError that names it."""
    try:
        yield
    except OSError as error:
        if error.errno in OF_THE_DISK:
            raise
        place = "" if error.filename == output_dir else f"{error.filename} "
        raise ConfigError(
            f"output_dir={output_dir}: {place}can't be made ({error.strerror}); choose a folder "
            "that you may write to"
        ) from error


@contextlib.contextmanager
def directory_made(directory: Path, output_dir: str) -> Iterator[None]:
    """Makes a run's directory. If the block fails, folders that were made and are empty go again.

    Args:
        directory: The run's directory.
        output_dir: The option, below which it is.

    Raises:
        ConfigError: It can't be made, or not be written to.
    """
    made: list[Path] = []
    try:
        with output_dir_named(output_dir):
            missing = [each for each in (directory, *directory.parents) if not each.exists()]
            for each in reversed(missing):
                each.mkdir(exist_ok=True)
                made.append(each)
        if not os.access(directory, os.W_OK | os.X_OK):
            raise ConfigError(
                f"output_dir={output_dir}: {directory} can't be written to; choose a folder that "
                "you may write to"
            )
        yield
    except BaseException:
        for each in reversed(made):
            with contextlib.suppress(OSError):  # not empty: another process uses it
                each.rmdir()
        raise
