"""Runs and consoles for the tests of launchers and jobs."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from rich.console import Console

from fm_al.launch.planning import planned_run
from tests.helpers.command_line import QUICK

SWEEP = Path("sweeps/20261123-120000-ab12")


def console() -> Console:
    return Console(file=io.StringIO(), width=200, soft_wrap=True)


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def planned(compose, *overrides: str) -> Any:
    composed = compose(*QUICK, "strategy=random", *overrides)
    return planned_run(composed, composed.hydra.runtime.choices, [*QUICK, *overrides])


def assigned_job(run: Any) -> str | None:
    return json.loads((run.directory / "job.json").read_text())["job"]
