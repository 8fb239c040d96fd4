from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

import pytest

from fm_al.files import atomic_file, atomic_write, remove_partial_files


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "file"
    atomic_write(path, b"old")
    with monkeypatch.context() as patched:

        def full(_: int) -> None:
            raise OSError("full")

        patched.setattr("os.fsync", full)
        with pytest.raises(OSError, match="full"):
            atomic_write(path, b"new")
    assert path.read_bytes() == b"old"
    with contextlib.suppress(KeyError), atomic_file(path) as file:
        file.write(b"new")
        raise KeyError
    assert path.read_bytes() == b"old"
    atomic_write(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_what_killed_processes_have_begun_is_removed_and_what_others_may_be_at_is_not(
    tmp_path: Path,
) -> None:
    begun = [".result.json.7", ".weights-3.pt.7", ".job.json.8", ".job.json.9", ".keep", "kept"]
    for name in begun:
        (tmp_path / name).touch()
    os.utime(tmp_path / ".job.json.8", (time.time() - 7200,) * 2)
    remove_partial_files(tmp_path, ["result.json", "weights-*"])
    remove_partial_files(tmp_path, ["job.json"], min_age=3600)
    assert {path.name for path in tmp_path.iterdir()} == {".job.json.9", ".keep", "kept"}


def test_a_link_where_the_temporary_file_would_be_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"theirs")
    (tmp_path / f".file.{os.getpid()}").symlink_to("elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        atomic_write(tmp_path / "file", b"ours")
    assert (tmp_path / "elsewhere").read_bytes() == b"theirs"
