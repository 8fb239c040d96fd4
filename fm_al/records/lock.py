"""A lock that one live process holds, on this machine or on a shared file system.

The kernel's lock on a file (flock) ends with its process, however that ends. Between machines it is
not enough: on some file systems each machine has its own locks, on others a dead machine keeps
holding one. So the file also names its holder, which sets the file's modification time every BEAT
seconds as a sign of life. Between processes of one machine the kernel's lock alone decides. A file
that a process on another machine has not released is watched for WATCH seconds; a starter that sees
a sign of life there gives up.

A starter that takes the file replaces it by a new one, so its content is always whole. A holder
that was taken for dead, because it was suspended or cut off, can then touch only its own old file,
and `Lock.check` makes it stop.
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
from pathlib import Path
from typing import IO

from fm_al.errors import RunError, RunLockedError
from fm_al.files import not_through_links, with_filename
from fm_al.records.json_files import Schema, parse_object, validated

logger = logging.getLogger(__name__)

# All in seconds.
BEAT = 10.0  # from one sign of life to the next
WATCH = 35.0  # wait for a sign of life from another machine
RETRY = 0.5  # for so long a starter tries again: readers hold the kernel's lock for an instant
FRESH = 90.0  # age up to which a reader believes a sign of life; clocks of machines differ

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)


class Process(Schema):
    """A process and where it runs.

    Attributes:
        machine: Id of the machine's boot, or its host name if there is none.
        job: SLURM job id, `<array>_<task>` in an array.
    """

    pid: int
    host: str
    machine: str
    job: str | None
    node: str | None
    partition: str | None

    @classmethod
    def this(cls) -> Process:
        """The process that calls."""
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


class Holder(Process):
    """Content of a held file: a `Process`, and a token of this lock."""

    token: str


class Lock:
    """A file that this process holds; made by `locked`."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.token = secrets.token_hex(16)

    def check(self) -> None:
        """Raises RunLockedError if another process has taken the file, or it was removed."""
        try:
            with _opened(self.file, "rb") as stream:
                process, token = _read(stream)
        except FileNotFoundError:
            raise RunLockedError(
                f"{self.file} was removed while this process held it, so it stops; start again to "
                "resume"
            ) from None
        if token != self.token:
            raise RunLockedError(
                f"{self.file.parent} was taken over by {process or 'another process'}; this "
                "process, suspended or cut off for long, or started at the same moment, stops"
            )


@contextlib.contextmanager
def locked(file: Path) -> Iterator[Lock]:
    """Holds a file, made if it does not exist, for this process alone.

    A forked child shows no signs of life and does not release the file, but the kernel's lock lasts
    as long as the child lives.

    Raises:
        RunLockedError: A live process holds the file.
        RunError: The file system has no locks.
    """
    this, lock = Process.this(), Lock(file)
    content = json.dumps(this.as_json() | {"token": lock.token}).encode()
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
            time.sleep(RETRY)  # others may have waited too; the last to replace the file has it
            lock.check()
        stack.enter_context(_showing_life(own, this.pid))
        yield lock


@contextlib.contextmanager
def _wait_until_free(file: Path, machine: str) -> Iterator[bool]:
    """Waits until the file may be replaced, and keeps this machine's other processes from it.

    Yields whether processes of other machines may replace it nevertheless. Raises RunLockedError if
    its holder lives.
    """
    seen, since = None, time.monotonic()
    while True:
        with _opened(file, "a+b") as stream:
            alone = _flock(stream, fcntl.LOCK_EX)
            with _opened(file, "rb") as fresh:  # NFS asks its server only when a file is opened
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
                    logger.info("%s names %s: waiting for a sign of life", file, process)
            if elsewhere:
                # The starter that holds the kernel's lock goes first.
                patience = WATCH if alone else WATCH + BEAT
            else:
                # The file names nobody while a starter is writing its name.
                patience = 0 if alone else RETRY if process else 10 * RETRY
            if time.monotonic() - since >= patience:
                if alone or elsewhere:
                    yield elsewhere
                    return
                if not _flock(stream, fcntl.LOCK_SH):  # readers alone would allow this one
                    raise _taken(file, process)
        time.sleep(patience / 50)


@contextlib.contextmanager
def _showing_life(own: IO[bytes], pid: int) -> Iterator[None]:
    """Sets the file's modification time every BEAT seconds; at the end, empties the file."""
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(BEAT):
            # A server that does not answer now may answer at the next beat.
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
            # If it can't be emptied, the end of this process releases it.
            with contextlib.suppress(OSError):
                os.ftruncate(own.fileno(), 0)


def holder(file: Path) -> Process | None:
    """Returns the live process that holds a file, without taking part in the locking.

    The kernel knows about this machine's processes. A process on another machine counts as live if
    its last sign of life is less than FRESH seconds old, or in the future, by this machine's clock.

    Returns:
        The process, or None if no process holds the file or the file does not name it.
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
    except (FileNotFoundError, NotADirectoryError):
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
    """The process that the file names, and its token; None for both if it names none."""
    try:
        record = validated(parse_object(stream.read(4096)), Holder)
    except ValueError:
        return None, None
    return Process(**record.model_dump(exclude={"token"})), record.token


def _flock(stream: IO[bytes], kind: int) -> bool:
    """Tries to take the kernel's lock, which lasts until the stream is closed."""
    try:
        fcntl.flock(stream, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        raise RunError(
            f"the file system of {Path(stream.name).parent} has no locks ({error.strerror}), which "
            "keep two processes from writing one run: use an output_dir on another file system, or "
            "have it mounted with locks (Lustre: -o flock)"
        ) from error
    return True


def _machine() -> str:
    """An id of the running kernel, the same in all its containers."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return socket.gethostname()
