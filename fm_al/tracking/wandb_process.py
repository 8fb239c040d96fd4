"""wandb's service, a process of its own that sends what runs log: quiet, and gone in time."""

from __future__ import annotations

import atexit
import functools
import logging
import os
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import wandb

_abandoned = threading.Event()  # set once a view of this process was given up


def quiet_settings(**settings: Any) -> wandb.Settings:
    """Settings with which wandb neither prints nor asks for a key."""
    # wandb reports its own errors to its makers, which delays the process's end by up to 30 s.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    # wandb's own log would print a traceback for each line that a full disk refuses.
    logging.getLogger("wandb").setLevel(logging.CRITICAL)
    return wandb.Settings(console="off", quiet=True, silent=True, **settings)


def keep_service_private() -> None:
    """Keeps child processes from using this process's service as theirs. Call it after wandb was
    set up and after a run of it began."""
    os.environ.pop("WANDB_SERVICE", None)


def kill_service_at_exit() -> None:
    """Has the process end without waiting for what the service has not sent."""
    _abandoned.set()


@functools.cache
def register_exit_hook() -> None:
    """Call it after wandb was set up: hooks run in reverse order, and this one must come first."""
    atexit.register(_end_service)


def _end_service() -> None:
    """Kills the service of an abandoned view. wandb's own hook would wait for minutes while the
    service tries to send."""
    if not _abandoned.is_set():
        return
    from wandb.sdk import wandb_setup

    # Other versions of wandb may lack these attributes; then the process waits.
    connection = getattr(wandb_setup.singleton(), "_connection", None)
    process = getattr(getattr(connection, "_proc", None), "_process", None)
    unregister_wandbs_hook = getattr(connection, "_cleanup", None)
    if process is not None and unregister_wandbs_hook is not None:
        unregister_wandbs_hook()
        process.kill()
