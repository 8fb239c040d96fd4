"""Write files atomically: at any moment a reader finds the old file or the new one, whole."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any


@contextlib.contextmanager
def with_filename(path: Path) -> Iterator[None]:
    """Adds the file's name to an OSError that has none, such as that of a full disk."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def not_through_links(path: str, flags: int, mode: int = 0o666) -> int:
    """An opener for `open`: a symbolic link raises ELOOP, and a pipe does not block."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, mode)


@contextlib.contextmanager
def atomic_file(path: Path, mode: int = 0o666) -> Iterator[IO[bytes]]:
    """Opens a new file that replaces `path` when the block ends, flushed to disk.

    An error in the block leaves the old file. A killed process may leave a hidden file beside it,
    which `remove_partial_files` removes.

    Args:
        path: The file to replace.
        mode: Permissions of the new file, from which the umask is taken.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with (
            with_filename(path),
            open(temporary, "wb", opener=partial(not_through_links, mode=mode)) as file,
        ):
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def remove_partial_files(folder: Path, names: Iterable[str], min_age: float = 0.0) -> None:
    """Removes what killed processes have left of files that they were writing.

    Args:
        folder: Where the files are.
        names: Names of the files; wildcards are allowed.
        min_age: Seconds since the last write, so that files of live writers are left alone.
    """
    for name in names:
        for partial_file in folder.glob(f".{name}.*"):
            if min_age == 0 or time.time() - partial_file.lstat().st_mtime > min_age:
                partial_file.unlink(missing_ok=True)


def atomic_write(path: Path, content: bytes, mode: int = 0o666) -> None:
    """Replaces a file by one with this content; see `atomic_file`."""
    with atomic_file(path, mode) as file:
        file.write(content)


def write_json(path: Path, value: dict[str, Any], mode: int = 0o666) -> None:
    """Replaces a file by one with this JSON object, indented; see `atomic_file`."""
    atomic_write(path, (json.dumps(value, indent=2) + "\n").encode(), mode)
