"""Write a matrix some rows at a time, so that an interrupted writer resumes.

Rows are appended to a partial file beside the matrix. A JSON file says how many are safely on disk.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from fm_al.files import with_filename, write_json
from fm_al.records.json_files import Schema, read_json
from fm_al.records.lock import Lock

SAVE_EVERY = 2.0  # seconds
REPORT_EVERY = 10.0  # seconds, if standard error is not a terminal
START_AGAIN = "delete it to start again"


class _Rows(Schema):
    """Progress of a matrix.

    Attributes:
        fingerprint: Of the rows, as given to `write_matrix`.
        rows: How many are on disk.
        columns: D.
    """

    fingerprint: str
    rows: int
    columns: int

    def size(self, dtype: np.dtype) -> int:
        """Bytes of the rows."""
        return self.rows * self.columns * dtype.itemsize


def write_matrix(
    path: Path,
    fingerprint: str,
    count: int,
    dtype: np.dtype,
    batch_size: int,
    compute: Callable[[slice], np.ndarray],
    lock: Lock,
) -> None:
    """Write a matrix to a .npy file; resume if rows of the same fingerprint are there.

    Args:
        path: The file, which appears when it is complete.
        fingerprint: Of everything that the rows depend on.
        count: N, the number of rows.
        dtype: Of the file.
        batch_size: Rows at a time.
        compute: Computes consecutive rows, (n, D).
        lock: Keeps other writers away; checked before progress is noted.
    """
    partial = partial_file(path)
    noted = path.with_name(f"{path.name}.progress.json")
    progress = read_json(noted, _Rows, START_AGAIN)
    if progress is not None and (
        progress.fingerprint != fingerprint or _size(partial) < progress.size(dtype)
    ):
        progress = None
    done = 0 if progress is None else progress.rows
    columns = None if progress is None else progress.columns
    saved = time.monotonic()
    with with_filename(partial), partial.open("r+b" if progress else "wb") as file:
        if columns is not None:
            _seek(file, count, columns, dtype, done)
        with _shown(f"computing {path}", count, done) as show:
            for start in range(done, count, batch_size):
                rows = compute(slice(start, min(start + batch_size, count)))
                if columns is None:
                    columns = rows.shape[1]
                    _seek(file, count, columns, dtype, 0)
                file.write(np.ascontiguousarray(rows, dtype=dtype).data)
                done = start + len(rows)
                show(done)
                if time.monotonic() - saved > SAVE_EVERY and done < count:
                    lock.check()
                    _flush(file)
                    write_json(noted, _note(fingerprint, done, columns))
                    saved = time.monotonic()
        lock.check()
        _flush(file)
    partial.replace(path)
    noted.unlink(missing_ok=True)


def partial_file(path: Path) -> Path:
    """Where the rows of an unfinished matrix are."""
    return path.with_name(f"{path.name}.partial")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _note(fingerprint: str, rows: int, columns: int) -> dict[str, str | int]:
    return {"fingerprint": fingerprint, "rows": rows, "columns": columns}


def _seek(file: IO[bytes], count: int, columns: int, dtype: np.dtype, rows: int) -> None:
    """Write the head of the file, and go to the end of so many rows; what follows is dropped."""
    file.seek(0)
    np.lib.format.write_array_header_1_0(
        file, {"shape": (count, columns), "fortran_order": False, "descr": dtype.str}
    )
    file.seek(rows * columns * dtype.itemsize, os.SEEK_CUR)
    file.truncate()


def _flush(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


@contextmanager
def _shown(doing: str, count: int, done: int) -> Iterator[Callable[[int], None]]:
    """Show progress on standard error: a live line on a terminal, a line now and then elsewhere."""
    console = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)
    reported = time.monotonic()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(escape(doing), total=count, completed=done)

        def show(done: int) -> None:
            nonlocal reported
            progress.update(task, completed=done)
            if not console.is_terminal and time.monotonic() - reported > REPORT_EVERY:
                console.print(f"{doing}: {done:,} of {count:,} images")
                reported = time.monotonic()

        yield show
