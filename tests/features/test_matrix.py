"""Matrices that are written some rows at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fm_al.errors import RunError
from fm_al.features import matrix
from fm_al.features.matrix import partial_file, write_matrix
from fm_al.records.lock import locked

N, D, BATCH = 23, 4, 5


@pytest.fixture(autouse=True)
def saved_after_every_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrix, "SAVE_EVERY", -1.0)


def rows(which: slice) -> np.ndarray:
    return np.arange(which.start * D, which.stop * D, dtype=np.float32).reshape(-1, D)


def stopping_at(start: int, computed: list[int]) -> Callable[[slice], np.ndarray]:
    def compute(which: slice) -> np.ndarray:
        if which.start >= start:
            raise KeyboardInterrupt
        computed.append(which.start)
        return rows(which)

    return compute


def write(path: Path, compute: Callable[[slice], np.ndarray], fingerprint: str = "a") -> None:
    with locked(path.with_name("lock")) as lock:
        write_matrix(path, fingerprint, N, np.dtype(np.float32), BATCH, compute, lock)


def whole(path: Path) -> None:
    assert np.array_equal(np.load(path), rows(slice(0, N)))
    assert {each.name for each in path.parent.iterdir()} == {path.name, "lock"}


def test_it_is_what_was_computed(tmp_path: Path) -> None:
    write(tmp_path / "features.npy", rows)
    whole(tmp_path / "features.npy")


@pytest.mark.parametrize("stop", [0, 5, 10, 20])
@pytest.mark.parametrize("torn", [b"", b"half a row"])
def test_an_interrupted_one_resumes(tmp_path: Path, stop: int, torn: bytes) -> None:
    path, computed = tmp_path / "features.npy", []
    with pytest.raises(KeyboardInterrupt):
        write(path, stopping_at(stop, computed))
    assert not path.exists()
    with partial_file(path).open("ab") as file:
        file.write(torn)  # on disk, and not noted
    write(path, stopping_at(N, computed))
    assert computed == [*range(0, N, BATCH)]  # each once
    whole(path)


def test_rows_of_another_fingerprint_are_not_used(tmp_path: Path) -> None:
    path, computed = tmp_path / "features.npy", []
    with pytest.raises(KeyboardInterrupt):
        write(path, lambda which: stopping_at(10, [])(which) + 1, fingerprint="b")
    write(path, stopping_at(N, computed))
    assert computed == [*range(0, N, BATCH)]
    whole(path)


def test_rows_that_are_gone_are_computed_again(tmp_path: Path) -> None:
    path = tmp_path / "features.npy"
    with pytest.raises(KeyboardInterrupt):
        write(path, stopping_at(10, []))
    partial_file(path).unlink()
    write(path, rows)
    whole(path)


def test_a_damaged_note_is_named(tmp_path: Path) -> None:
    path = tmp_path / "features.npy"
    path.with_name("features.npy.progress.json").write_text("{")
    with pytest.raises(RunError, match=r"progress\.json is damaged .*; delete it to start again"):
        write(path, rows)
