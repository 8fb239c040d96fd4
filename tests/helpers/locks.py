"""Processes that hold a lock, and locks that others have left."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from fm_al.records.lock import Process

# Holds the file sys.argv[1] as a process of the machine sys.argv[2] (this one if empty), with the
# kernel's lock or without; checks that it does at every line it gets, until there are no more.
HOLDER = """
import sys
from pathlib import Path
from fm_al.records import lock
from fm_al.errors import RunError
file, machine, shared, beat = sys.argv[1:]
lock.BEAT = float(beat)
if machine:
    lock._machine = lambda: machine
if not eval(shared):
    lock.fcntl.flock = lambda *_: None
with lock.locked(Path(file)) as held:
    print('held', flush=True)
    for _ in sys.stdin:
        try:
            held.check()
            print('mine', flush=True)
        except RunError as error:
            print(error, flush=True)
"""

ELSEWHERE = Process(
    pid=7,
    host="node3",
    machine="another machine",
    job="45_6",
    node="node3",
    partition="gpu",
)

Hold = Callable[..., "subprocess.Popen[str]"]


def ask(process: subprocess.Popen[str], line: str = "") -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    if line:
        process.stdin.write(f"{line}\n")
        process.stdin.flush()
    return process.stdout.readline().strip()


def left_by(file: Path, process: Process, age: float = 0) -> None:
    file.write_text(json.dumps(process.as_json() | {"token": "x"}))
    os.utime(file, (time.time() - age,) * 2)
