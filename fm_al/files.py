"""Files that are whole whenever they are there."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import IO


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """An error of the operating system that names no file, as a full disk's, gets this one's."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def not_through_links(path: str, flags: int, mode: int = 0o666) -> int:
    """An opener, as `open` takes it: a symbolic link is an error (ELOOP), a pipe does not block."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, mode)


@contextlib.contextmanager
def written_whole(path: Path, mode: int = 0o666) -> Iterator[IO[bytes]]:
    """A file to write that takes the place of `path` at the end, flushed to disk; an error on the
    way leaves what was there. A process that is killed may leave a hidden file beside it. mode:
    what the umask is taken from."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with (
            naming(path),
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


def drop_begun(folder: Path, names: Iterable[str], seconds: float = 0.0) -> None:
    """Removes what processes that were killed have left of files with these names, which may hold
    wildcards. seconds: how old that has to be, since others may be writing."""
    for name in names:
        for begun in folder.glob(f".{name}.*"):
            if seconds == 0 or time.time() - begun.lstat().st_mtime > seconds:
                begun.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes, mode: int = 0o666) -> None:
    """`written_whole` for content that is at hand."""
    with written_whole(path, mode) as file:
        file.write(content)
