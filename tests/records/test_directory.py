from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from fm_al.errors import ConfigError
from fm_al.records.directory import directory_made, output_dir_named

REMEDY = "choose a folder that you may write to"


def fails_in(run: Path, makes: Path | None = None) -> None:
    with directory_made(run, "out"):
        assert run.is_dir()
        if makes is not None:
            makes.mkdir()
        raise KeyboardInterrupt


def test_what_was_made_for_a_block_that_fails_is_removed_if_it_is_empty(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    run = tmp_path / "there" / "setting" / "random" / "seed0"
    with pytest.raises(KeyboardInterrupt):
        fails_in(run)
    assert [*tmp_path.rglob("*")] == [tmp_path / "there"]
    with pytest.raises(KeyboardInterrupt):
        fails_in(run, makes=run.with_name("seed1"))
    assert [*run.parent.iterdir()] == [run.with_name("seed1")]
    with directory_made(run, "out"):
        pass
    with pytest.raises(KeyboardInterrupt):
        fails_in(run)
    assert run.is_dir(), "it was there before"


def test_a_directory_that_is_there_and_can_not_be_written_to_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ConfigError) as raised, directory_made(tmp_path, "out"):
        pass
    assert str(raised.value) == f"output_dir=out: {tmp_path} can't be written to; {REMEDY}"


def test_a_full_disk_is_no_error_of_the_configuration() -> None:
    with pytest.raises(OSError, match="No space left"), output_dir_named("out"):
        raise OSError(errno.ENOSPC, "No space left on device", "out/default")
    with pytest.raises(ConfigError) as raised, output_dir_named("out"):
        raise PermissionError(errno.EACCES, "Permission denied", "out/default")
    said = f"output_dir=out: out/default can't be made (Permission denied); {REMEDY}"
    assert str(raised.value) == said
