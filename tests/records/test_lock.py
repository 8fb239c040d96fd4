from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO

import pytest

from fm_al.errors import RunError
from fm_al.records import lock
from fm_al.records.lock import Process, holder, locked

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

ELSEWHERE = Process(7, "node3", "another machine", "45_6", "node3", "gpu")

Hold = Callable[..., "subprocess.Popen[str]"]


def ask(process: subprocess.Popen[str], line: str = "") -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    if line:
        process.stdin.write(f"{line}\n")
        process.stdin.flush()
    return process.stdout.readline().strip()


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


@pytest.fixture(autouse=True)
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "WATCH", 0.1)
    monkeypatch.setattr(lock, "RETRY", 0.05)
    monkeypatch.setattr(lock, "BEAT", 0.02)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No process, however loaded the machine, is taken for dead while the test lasts."""
    monkeypatch.setattr(lock, "WATCH", 20.0)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "lock"


def left_by(file: Path, process: Process, age: float = 0) -> None:
    file.write_text(json.dumps(asdict(process) | {"token": "x"}))
    os.utime(file, (time.time() - age,) * 2)


def test_the_holder_is_known_while_it_holds_and_no_longer(file: Path) -> None:
    assert holder(file) is None
    threads = threading.active_count()
    for _ in range(2):
        with locked(file) as held:
            held.check()
            assert holder(file) == Process.this()
            assert threading.active_count() == threads + 1
        assert holder(file) is None
        assert file.read_bytes() == b""
        assert list(file.parent.iterdir()) == [file]
        assert threading.active_count() == threads


def test_an_error_inside_releases_it(file: Path) -> None:
    with pytest.raises(KeyError), locked(file):
        raise KeyError
    with locked(file):
        pass


def test_a_second_process_is_refused_by_the_firsts_name(file: Path, hold: Hold) -> None:
    first = hold(file, SLURM_JOB_ID="55")
    expected = rf"^{file.parent} is being written by process {first.pid} on \S+ \(job 55\)$"
    with pytest.raises(RunError, match=expected), locked(file):
        pass
    assert ask(first, "still?") == "mine"
    found = holder(file)
    assert found is not None
    assert (found.pid, found.job) == (first.pid, "55")


def test_a_process_killed_on_this_machine_holds_nothing(file: Path, hold: Hold) -> None:
    first = hold(file)
    first.kill()
    first.wait()
    assert json.loads(file.read_text())["pid"] == first.pid
    assert holder(file) is None
    with locked(file) as held:
        held.check()


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("shared", [True, False])
def test_a_living_process_of_another_machine_is_found_by_its_signs_of_life(
    file: Path, hold: Hold, shared: bool
) -> None:
    first = hold(file, "another machine", shared)
    with pytest.raises(RunError, match=rf"is being written by process {first.pid} "), locked(file):
        pass
    assert ask(first, "still?") == "mine"


@pytest.mark.parametrize("shared", [True, False])
def test_a_dead_process_of_another_machine_is_replaced(
    file: Path, hold: Hold, shared: bool
) -> None:
    first = hold(file, "another machine", shared)
    first.kill()
    first.wait()
    with locked(file) as held:
        held.check()
        assert holder(file) == Process.this()


def test_the_kernels_lock_of_a_dead_machine_does_not_matter(file: Path) -> None:
    left_by(file, ELSEWHERE)
    with file.open("rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with locked(file) as held:
            held.check()
            assert holder(file) == Process.this()


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("shared", [True, False])
def test_who_waits_gets_it_when_it_is_released(file: Path, hold: Hold, shared: bool) -> None:
    first = hold(file, "another machine", shared, beat=1000)
    got = []

    def second() -> None:
        with locked(file) as held:
            held.check()
            got.append(True)

    thread = threading.Thread(target=second)
    thread.start()
    first.communicate()
    thread.join()
    assert got


@pytest.mark.parametrize("shared", [True, False])
def test_a_suspended_process_that_was_replaced_stops_when_it_wakes(
    file: Path, hold: Hold, shared: bool
) -> None:
    first = hold(file, "another machine", shared)
    assert ask(first, "still?") == "mine"
    first.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, first.pid, os.WSTOPPED)
    with locked(file) as held:
        first.send_signal(signal.SIGCONT)
        assert f"taken over by process {os.getpid()} on" in ask(first, "still?")
        first.communicate()  # releases what is no longer its own
        held.check()
        assert holder(file) == Process.this()


def test_a_removed_file_is_noticed(file: Path) -> None:
    with locked(file) as held:
        file.unlink()
        with pytest.raises(RunError, match="lock was removed"):
            held.check()
    with locked(file) as held:
        held.check()


@pytest.mark.parametrize("content", [b"", b"process 12 on node3", b"\xff{", b"[1]", b'{"pid": 3}'])
def test_what_names_nobody_is_held_by_nobody_or_another_process(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    assert holder(file) is None
    with file.open("rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        assert holder(file) is None
        with pytest.raises(RunError, match=r"is being written by another process$"), locked(file):
            pass
    assert file.read_bytes() == content
    with locked(file) as held:
        held.check()
        file.write_bytes(content)
        with pytest.raises(RunError, match="taken over by another process"):
            held.check()


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

    left_by(file, replace(ELSEWHERE, pid=8))
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


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("jump", [-5 * 3600, 5 * 3600])
def test_clocks_that_jump_do_not_matter(file: Path, hold: Hold, monkeypatch, jump: int) -> None:
    now = time.time() + jump
    monkeypatch.setattr(time, "time", lambda: now)
    first = hold(file, "another machine", shared=False, beat=1000)
    with monkeypatch.context() as context:
        context.setattr(time, "sleep", lambda _: os.utime(file, (now, now)))  # the server's too
        with pytest.raises(RunError, match=f"process {first.pid} "), locked(file):
            pass
    monkeypatch.setattr(lock, "WATCH", 0.1)
    with locked(file):
        assert "taken over" in ask(first, "still?")


@pytest.mark.parametrize(("age", "lives"), [(0, True), (80, True), (-3600, True), (100, False)])
def test_readers_judge_another_machines_process_by_its_last_sign_of_life(
    file: Path, age: float, lives: bool
) -> None:
    left_by(file, ELSEWHERE, age)
    assert holder(file) == (ELSEWHERE if lives else None)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_an_error_that_says_what_would_do(
    file: Path, monkeypatch, number: int
) -> None:
    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    threads = threading.active_count()
    expected = rf"{file.parent} has no locks \({os.strerror(number)}\).* output_dir on another"
    with pytest.raises(RunError, match=expected), locked(file):
        pass
    assert threading.active_count() == threads


def test_a_full_disk_leaves_nothing_held(file: Path, start: Hold) -> None:
    program = (
        "import resource, sys, threading\n"
        "from pathlib import Path\n"
        "from fm_al.records.lock import locked\n"
        "file = Path(sys.argv[1])\n"
        "limits = resource.getrlimit(resource.RLIMIT_FSIZE)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))\n"
        "try:\n"
        "    with locked(file): pass\n"
        "except OSError as error:\n"
        "    print(error, [*file.parent.iterdir()] == [file], threading.active_count())\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, limits)\n"
        "with locked(file) as held:\n"
        "    held.check()\n"
        "    print('mine')\n"
    )
    first = start(program, file)
    assert ask(first) == f"[Errno {errno.EFBIG}] File too large: '{file}' True 1"
    assert ask(first) == "mine"


def test_a_forked_child_does_not_release_it(file: Path, start: Hold) -> None:
    program = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from fm_al.records.lock import holder, locked\n"
        "file = Path(sys.argv[1])\n"
        "with locked(file) as held:\n"
        "    if child := os.fork():\n"
        "        assert os.waitpid(child, 0)[1] == 0\n"
        "        held.check()\n"
        "        assert holder(file).pid == os.getpid()\n"
        "        print('mine', flush=True)\n"
    )
    assert ask(start(program, file)) == "mine"


def test_programs_that_the_holder_starts_do_not_keep_it(file: Path, start: Hold) -> None:
    program = (
        "import subprocess, sys\n"
        "from pathlib import Path\n"
        "from fm_al.records.lock import locked\n"
        "with locked(Path(sys.argv[1])):\n"
        "    child = subprocess.Popen(['sleep', '60'], stdout=-3, close_fds=False)\n"
        "    print(child.pid, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    first = start(program, file)
    child = int(ask(first))
    first.kill()
    first.wait()
    try:
        os.kill(child, 0)  # it lives
        with locked(file):
            pass
    finally:
        os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize(
    ("env", "job", "shown"),
    [
        ({}, None, r"^process \d+ on \S+$"),
        ({"SLURM_JOB_ID": "9"}, "9", r"\(job 9\)$"),
        (
            {"SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "8", "SLURM_ARRAY_TASK_ID": "0"},
            "8_0",
            r"\(job 8_0\)$",
        ),
    ],
)
def test_a_process_knows_its_job(monkeypatch, env: dict[str, str], job: str, shown: str) -> None:
    for name in [name for name in os.environ if name.startswith("SLURM")]:
        monkeypatch.delenv(name)
    assert Process.this().node is None
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SLURMD_NODENAME", "node3")
    monkeypatch.setenv("SLURM_JOB_PARTITION", "gpu")
    process = Process.this()
    assert (process.job, process.node, process.partition) == (job, "node3", "gpu")
    assert process.pid == os.getpid()
    assert re.search(shown, str(process))


def test_where_boots_have_no_id_the_host_is_the_machine(monkeypatch) -> None:
    this = Process.this()
    monkeypatch.setattr(Path, "read_text", lambda _: Path("/nowhere").read_bytes())
    assert Process.this() == replace(this, machine=this.host)


def test_it_needs_neither_torch_nor_hydra(start: Hold) -> None:
    program = "import sys, fm_al.records.lock; print({'torch', 'hydra', 'numpy'} & {*sys.modules})"
    assert ask(start(program)) == "set()"
