"""Processes that start or look at the same moment."""

from __future__ import annotations

import fcntl
import os
import subprocess
import threading
import time
from pathlib import Path
from typing import IO

import pytest

from fm_al.errors import RunError
from fm_al.records import lock
from fm_al.records.lock import Process, holder, locked
from tests.helpers.locks import ELSEWHERE, Hold, ask, left_by

pytestmark = [pytest.mark.faults, pytest.mark.usefixtures("short_times")]


def test_a_file_replaced_just_before_it_is_locked_is_not_taken(file: Path, monkeypatch) -> None:
    flock = fcntl.flock
    with file.with_name("new").open("a+b") as new:
        left_by(Path(new.name), Process.this())
        flock(new, fcntl.LOCK_EX)

        def late(stream: IO[bytes], kind: int) -> None:
            if Path(new.name).exists():
                Path(new.name).replace(file)
            flock(stream, kind)

        monkeypatch.setattr(fcntl, "flock", late)
        with (
            pytest.raises(RunError, match=f"being written by process {os.getpid()} "),
            locked(file),
        ):
            pass


@pytest.mark.parametrize(("kind", "retry"), [(fcntl.LOCK_EX, 20), (fcntl.LOCK_SH, 0)])
def test_who_looks_at_the_same_moment_does_not_keep_a_starter_out(
    file: Path, monkeypatch, kind: int, retry: float
) -> None:
    monkeypatch.setattr(lock, "RETRY", retry)
    left_by(file, Process.this())
    with file.open("rb") as looked_at:
        fcntl.flock(looked_at, kind)
        monkeypatch.setattr(time, "sleep", lambda _: looked_at.close())
        with locked(file) as held:
            held.check()


# Tries to take the file it is told at the time it is told; holds it until the next line.
STARTER = """
import sys, time
from pathlib import Path
from fm_al.records import lock
from fm_al.errors import RunError
lock.RETRY, lock.WATCH, lock.BEAT, machine, shared = eval(sys.argv[1])
if machine:
    lock._machine = lambda: machine
if not shared:
    lock.fcntl.flock = lambda *_: None
print('ready', flush=True)
while line := sys.stdin.readline():
    file, at = line.split()
    while time.monotonic() < float(at):
        pass
    try:
        with lock.locked(Path(file)) as held:
            print('held', flush=True)
            sys.stdin.readline()
            held.check()
            print('mine', flush=True)
    except RunError as error:
        print(error, flush=True)
"""


def answers_at_once(starters: list[subprocess.Popen[str]], file: Path) -> list[str]:
    """What processes answer that are told to take a file at the same moment."""
    at = time.monotonic() + 0.005
    for starter in starters:
        assert starter.stdin is not None
        starter.stdin.write(f"{file} {at}\n")
        starter.stdin.flush()
    return [ask(starter) for starter in starters]


def test_of_starts_at_the_same_instant_one_gets_it(tmp_path: Path, start: Hold) -> None:
    starters = [start(STARTER, (0.01, 20, 10, "", True)) for _ in range(3)]
    for starter in starters:
        assert ask(starter) == "ready"
    for number in range(60):
        file = tmp_path / str(number)
        if number % 3 == 1:
            left_by(file, Process.this())
        elif number % 3 == 2:
            file.touch()
        answers = answers_at_once(starters, file)
        assert answers.count("held") == 1
        assert sum("is being written by" in answer for answer in answers) == 2
        assert ask(starters[answers.index("held")], "release") == "mine"


@pytest.mark.parametrize("left", [True, False])
def test_of_starts_on_machines_with_locks_of_their_own_one_goes_on(
    tmp_path: Path, start: Hold, left: bool
) -> None:
    starters = [start(STARTER, (0.1, 0.1, 10, machine, False)) for machine in "ab"]
    for starter in starters:
        assert ask(starter) == "ready"
    for number in range(8):
        file = tmp_path / str(number)
        if left:
            left_by(file, ELSEWHERE)
        answers = answers_at_once(starters, file)
        assert "held" in answers
        checked = [
            ask(starter, "check")
            for starter, answer in zip(starters, answers, strict=True)
            if answer == "held"
        ]
        assert checked.count("mine") == 1


def test_who_was_not_the_last_to_replace_a_dead_process_does_not_start(
    file: Path, monkeypatch
) -> None:
    def another_replaces_it(_: float) -> None:
        if holder(file) == Process.this():
            left_by(file, ELSEWHERE)

    left_by(file, ELSEWHERE.model_copy(update={"pid": 8}))
    monkeypatch.setattr(time, "sleep", another_replaces_it)
    threads = threading.active_count()
    with pytest.raises(RunError, match="taken over by process 7 on node3"), locked(file):
        pass
    assert threading.active_count() == threads
    assert holder(file) == ELSEWHERE


READER = """
import sys
from pathlib import Path
from fm_al.records.lock import holder
print('ready', flush=True)
while True:
    holder(Path(sys.argv[1]))
"""


def test_readers_that_never_rest_do_not_keep_a_starter_out(file: Path, start: Hold) -> None:
    left_by(file, Process.this())
    for _ in range(3):
        assert ask(start(READER, file)) == "ready"
    for _ in range(100):
        left_by(file, Process.this())
        with locked(file) as held:
            held.check()
