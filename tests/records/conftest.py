"""Processes that hold and start, for the tests of the lock."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fm_al.records import lock
from tests.helpers.locks import HOLDER, Hold, ask


@pytest.fixture
def start() -> Iterator[Hold]:
    """Starts Python programs, which do not outlive the test."""
    started = []

    def run(program: str, *arguments: object, **env: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", program, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | env,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def hold(start: Hold) -> Hold:
    def run(
        file: Path, machine: str = "", shared: bool = True, beat: float = 0.02, **env: str
    ) -> subprocess.Popen[str]:
        process = start(HOLDER, file, machine, shared, beat, **env)
        assert ask(process) == "held"
        return process

    return run


@pytest.fixture
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "WATCH", 0.1)
    monkeypatch.setattr(lock, "RETRY", 0.05)
    monkeypatch.setattr(lock, "BEAT", 0.02)


@pytest.fixture
def patient(short_times: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """No process, however loaded the machine, is taken for dead while the test lasts."""
    monkeypatch.setattr(lock, "WATCH", 20.0)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "lock"
