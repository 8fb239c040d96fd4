from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from fm_al.files import write_whole, written_whole


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "file"
    write_whole(path, b"old")
    with monkeypatch.context() as patched:

        def full(_: int) -> None:
            raise OSError("full")

        patched.setattr("os.fsync", full)
        with pytest.raises(OSError, match="full"):
            write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    with contextlib.suppress(KeyError), written_whole(path) as file:
        file.write(b"new")
        raise KeyError
    assert path.read_bytes() == b"old"
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]
