"""A lock that only one living process holds, on this machine or on a shared file system.

The kernel's lock on a file (flock) goes with its process, however that ends. Between machines it
says too little on some file systems, where each machine has locks of its own, and too much on
others, where a machine that died goes on holding. So the file also names its holder, which shows
every BEAT seconds that it lives by setting the file's modification time. Between processes of one
machine the kernel's lock alone decides; a file that another machine's process has not released is
watched for WATCH seconds, and who sees a change there leaves it alone.

Who takes the file puts a new one in its place. So what it says is whole at any moment, and a
process that was taken for dead, because it was suspended or cut off, can touch only its own old
file when it wakes up; `Lock.check` tells it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import IO

from fm_al.errors import RunError, RunLockedError
from fm_al.files import not_through_links, with_filename
from fm_al.records.json_files import Schema, parse_object, validated

logger = logging.getLogger(__name__)

BEAT = 10.0  # seconds from one sign of life to the next
WATCH = 35.0  # how long a sign of life from another machine is waited for
RETRY = 0.5  # how long a starter tries again: others hold the kernel's lock for an instant
FRESH = 90.0  # how old a sign of life a reader believes, whose clock may not be the server's

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)


@dataclass(frozen=True)
class Process:
    """A process, and where it runs."""

    pid: int
    host: str
    machine: str  # the boot's id where there is one, else the host's name
    job: str | None  # SLURM's, `<array>_<task>` for a task of an array
    node: str | None
    partition: str | None

    @classmethod
    def this(cls) -> Process:
        env = os.environ.get
        array, task = env("SLURM_ARRAY_JOB_ID"), env("SLURM_ARRAY_TASK_ID")
        return cls(
            pid=os.getpid(),
            host=socket.gethostname(),
            machine=_machine(),
            job=f"{array}_{task}" if array and task else env("SLURM_JOB_ID"),
            node=env("SLURMD_NODENAME"),
            partition=env("SLURM_JOB_PARTITION"),
        )

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}" + (f" (job {self.job})" if self.job else "")


class Holder(Schema):
    """What a file that is held says: a `Process`, and which of its locks this is."""

    pid: int
    host: str
    machine: str
    job: str | None
    node: str | None
    partition: str | None
    token: str


class Lock:
    """A file held by this process; made by `locked`."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.token = secrets.token_hex(16)

    def check(self) -> None:
        """Raises RunLockedError if another process has taken the file, or somebody removed it."""
        try:
            with _opened(self.file, "rb") as stream:
                process, token = _read(stream)
        except FileNotFoundError:
            raise RunLockedError(
                f"{self.file} was removed while this process held it, which therefore stops; "
                "start again to go on"
            ) from None
        if token != self.token:
            raise RunLockedError(
                f"{self.file.parent} was taken over by {process or 'another process'}; this "
                "process, suspended or cut off for long, or started at the same moment, stops"
            )


@contextlib.contextmanager
def locked(file: Path) -> Iterator[Lock]:
    """Holds the file, made where there is none, for this process alone.

    Raises RunError if a living process holds it, or if the file system has no locks. A forked
    child neither shows life nor releases, but the kernel's lock lasts as long as it lives.
    """
    this, lock = Process.this(), Lock(file)
    content = json.dumps(asdict(this) | {"token": lock.token}).encode()
    temporary = file.with_name(f".{file.name}.{lock.token}")
    with contextlib.ExitStack() as stack:
        with (
            with_filename(file),
            _wait_until_free(file, this.machine) as contested,
            contextlib.ExitStack() as opened,
        ):
            own = opened.enter_context(temporary.open("xb"))
            try:
                _flock(own, fcntl.LOCK_EX)
                own.write(content)
                own.flush()
                os.fsync(own.fileno())
                temporary.replace(file)
            finally:
                temporary.unlink(missing_ok=True)
            stack.push(opened.pop_all())
        if contested:
            time.sleep(RETRY)  # others may have waited as long: the last to put its file has it
            lock.check()
        stack.enter_context(_showing_life(own, this.pid))
        yield lock


@contextlib.contextmanager
def _wait_until_free(file: Path, machine: str) -> Iterator[bool]:
    """Waits until the file may be replaced, and keeps others of this machine from it meanwhile;
    gives whether others may replace it nevertheless. Raises RunError if its holder lives."""
    seen, since = None, time.monotonic()
    while True:
        with _opened(file, "a+b") as stream:
            alone = _flock(stream, fcntl.LOCK_EX)
            with _opened(file, "rb") as fresh:  # NFS asks its server only where a file is opened
                status = os.fstat(fresh.fileno())
                process, token = _read(fresh)
            alone = alone and os.path.samestat(status, os.fstat(stream.fileno()))
            elsewhere = process is not None and process.machine != machine
            sign = (token, status.st_mtime_ns if elsewhere else None)
            if sign != seen:
                if elsewhere and seen is not None:
                    raise _taken(file, process)
                seen, since = sign, time.monotonic()
                if elsewhere:
                    logger.info("%s names %s: waiting for a sign of its life", file, process)
            if elsewhere:
                # Who holds the kernel's lock has had its turn before the others come to theirs.
                patience = WATCH if alone else WATCH + BEAT
            else:
                # Nobody is named for as long as a starter takes to write its name.
                patience = 0 if alone else RETRY if process else 10 * RETRY
            if time.monotonic() - since >= patience:
                if alone or elsewhere:
                    yield elsewhere
                    return
                if not _flock(stream, fcntl.LOCK_SH):  # which readers alone would leave to be had
                    raise _taken(file, process)
        time.sleep(patience / 50)


@contextlib.contextmanager
def _showing_life(own: IO[bytes], pid: int) -> Iterator[None]:
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(BEAT):
            # A server that does not answer for a while may do so at the next beat.
            with contextlib.suppress(OSError):
                os.utime(own.fileno())

    thread = threading.Thread(target=beat, name="sign of life", daemon=True)
    thread.start()
    try:
        yield
    finally:
        if os.getpid() == pid:
            stop.set()
            thread.join()
            # What can't be emptied is held by nobody once this process has ended.
            with contextlib.suppress(OSError):
                os.ftruncate(own.fileno(), 0)


def holder(file: Path) -> Process | None:
    """The living process that holds the file, for those who only look; None if there is none, or
    if the file does not name it.

    Of this machine's processes the kernel knows. One of another machine counts as living if its
    last sign of life is less than FRESH seconds old, or in the future, by this machine's clock:
    a reader can neither write, to learn the server's, nor stay to watch.
    """
    try:
        with _opened(file, "rb") as stream:
            process, _ = _read(stream)
            if process is None:
                return None
            if process.machine == _machine():
                return None if _flock(stream, fcntl.LOCK_SH) else process
            age = time.time() - os.fstat(stream.fileno()).st_mtime
            return process if age < FRESH else None
    except FileNotFoundError:
        return None


def _opened(file: Path, mode: str) -> IO[bytes]:
    try:
        return open(file, mode, opener=not_through_links)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise RunError(
            f"{file} is a symbolic link, where a regular file belongs; remove it"
        ) from None


def _taken(file: Path, process: Process | None) -> RunLockedError:
    return RunLockedError(f"{file.parent} is being written by {process or 'another process'}")


def _read(stream: IO[bytes]) -> tuple[Process | None, str | None]:
    """Whom the file names, and its token; None for both where it says nothing of the kind."""
    try:
        record = validated(parse_object(stream.read(4096)), Holder)
    except ValueError:
        return None, None
    return Process(
        **{field.name: getattr(record, field.name) for field in fields(Process)}
    ), record.token


def _flock(stream: IO[bytes], kind: int) -> bool:
    """Whether the kernel's lock could be had; it goes with the stream."""
    try:
        fcntl.flock(stream, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        raise RunError(
            f"the file system of {Path(stream.name).parent} has no locks ({error.strerror}), by "
            "which two processes keep from writing one run: use an output_dir on another, or have "
            "it mounted with them (Lustre: -o flock)"
        ) from error
    return True


def _machine() -> str:
    """What a process and its kernel have in common, also across containers."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return socket.gethostname()
