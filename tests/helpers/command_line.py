"""Runs `fm-al` as a user does: in this process, which is quick, or in one of its own."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from fm_al import cli

ROOT = Path(__file__).parents[2]
QUICK = [
    "backbone=linear",
    "trainer.max_epochs=2",
    "tracker=none",
    "device=cpu",
    "device.threads=1",
    "budget.initial=10",
    "budget.per_round=10",
    "budget.total=30",
]


@dataclass
class Ended:
    returncode: int
    stdout: str
    stderr: str


def fm_al(folder: Path, *arguments: str, function: str = "main") -> Ended:
    """In `folder`, in this process; what is logged does not show."""
    out, err, here = io.StringIO(), io.StringIO(), Path.cwd()
    code = 0
    with (
        patch.object(sys, "argv", ["fm-al", *arguments]),
        patch.dict(os.environ),
        # Which a process has that was forked while another one's `fm-al` ran.
        patch.object(cli, "_full_error_wanted", False),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        os.environ.pop(cli.FULL_ERROR, None)
        os.chdir(folder)
        try:
            getattr(cli, function)()
        except SystemExit as ended:
            code = int(ended.code or 0)
        finally:
            os.chdir(here)
    return Ended(code, out.getvalue(), err.getvalue())


def fm_al_process(folder: Path, *arguments: str, **environment: str) -> Ended:
    """In `folder`, in a process of its own."""
    ended = subprocess.run(
        [sys.executable, "-m", "fm_al", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr)
