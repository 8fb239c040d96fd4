"""launchers/submit: what it starts outlives the session that it was started from."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers.command_line import QUICK, ROOT, fm_al
from tests.test_experiment import without_times

SWEEP = [*QUICK, "strategy=random,margin", "budget.total=60"]


def submitted(folder: Path, *arguments: str) -> str:
    """What submit prints in a session of its own, of which nothing is left alive afterwards."""
    bin_folder = Path(sys.executable).parent
    session = subprocess.Popen(
        [ROOT / "launchers" / "submit", *arguments],
        cwd=folder,
        env={
            **os.environ,
            "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    shown, _ = session.communicate(timeout=120)
    with pytest.raises(ProcessLookupError):  # the group has ended with its leader
        os.killpg(session.pid, signal.SIGKILL)
    return shown


@pytest.mark.parametrize("launcher", ["basic", "local"])
def test_a_sweep_outlives_its_session(tmp_path: Path, launcher: str) -> None:
    (tmp_path / "my_conf").mkdir()
    (tmp_path / "random.py").write_text("raise SystemExit('of the current folder')")
    typed = [*SWEEP, f"hydra/launcher={launcher}", "--config-dir", "my_conf"]
    shown = submitted(tmp_path, *typed)
    assert "left to process " in shown
    assert shown.splitlines()[-1] == "fm-al-status outputs/default shows how the runs stand"
    assert " new" not in fm_al(tmp_path, "outputs", function="status").stdout
    deadline = time.monotonic() + 120
    while "2 finished" not in fm_al(tmp_path, "outputs", function="status").stdout:
        assert time.monotonic() < deadline, next(tmp_path.rglob("log.txt")).read_text()
        time.sleep(0.5)
    fm_al(tmp_path, "-m", *SWEEP, "output_dir=here")
    for result in (tmp_path / "here").rglob("result.json"):
        other = tmp_path / "outputs" / result.relative_to(tmp_path / "here")
        assert without_times(result.parent) == without_times(other.parent)
        (start,) = json.loads((other.parent / "provenance.json").read_text())["starts"]
        assert start["command"] == ["fm-al", "-m", *typed, "hydra.sweeper.wait=false"]


def test_a_sweep_left_to_itself_is_ended_with_all_its_runs(tmp_path: Path) -> None:
    slow = [
        *("hydra/launcher=local", "hydra.launcher.runs_at_once=2", "budget.total=600"),
        *("strategy=random", "seed=0,1", "strategy._target_=tests.launchers.slow.Slow"),
        "+strategy.seconds=1",
    ]
    shown = submitted(tmp_path, *QUICK, *slow)
    deadline = time.monotonic() + 120
    while "2 running" not in fm_al(tmp_path, "outputs", function="status").stdout:
        assert time.monotonic() < deadline, next(tmp_path.rglob("log.txt")).read_text()
        time.sleep(0.5)
    (process,) = re.findall(r"left to process (\d+)", shown)
    subprocess.run(["bash", "-c", f"kill -- -{process}"], check=True)
    while "2 stale" not in fm_al(tmp_path, "outputs", function="status").stdout:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_what_can_not_be_is_said_before_anything_is_left_to_itself(tmp_path: Path) -> None:
    shown = submitted(tmp_path, *SWEEP, "budget.per_round=0")
    assert shown.startswith("fm-al: budget.per_round=0: ")
    assert list(tmp_path.iterdir()) == []
