from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import signal
import threading
import time
from pathlib import Path

import pytest

from fm_al.errors import RunError
from fm_al.records import lock
from fm_al.records.lock import Process, holder, locked
from tests.helpers.locks import ELSEWHERE, Hold, ask, left_by

pytestmark = [pytest.mark.faults, pytest.mark.usefixtures("short_times")]


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
    assert Process.this() == this.model_copy(update={"machine": this.host})


def test_it_needs_neither_torch_nor_hydra(start: Hold) -> None:
    program = "import sys, fm_al.records.lock; print({'torch', 'hydra', 'numpy'} & {*sys.modules})"
    assert ask(start(program)) == "set()"
