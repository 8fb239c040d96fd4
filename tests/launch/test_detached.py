from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fm_al.errors import RunError
from fm_al.launch.detached import wait_until_started


def test_a_process_to_which_a_sweep_is_left_takes_it_up_or_has_nothing_to_do(
    tmp_path: Path,
) -> None:
    program = (
        "import sys, time; from pathlib import Path; from fm_al.records.lock import locked\n"
        "with locked(Path('lock')): time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path) as process:
        wait_until_started(process, tmp_path)
        assert process.poll() is None
        assert (tmp_path / "lock").read_text()
        process.terminate()
    with subprocess.Popen(["true"]) as process:
        wait_until_started(process, tmp_path)


def test_a_process_that_ends_before_it_takes_up_its_sweep_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text("fm-al: what went wrong\n")
    with (
        subprocess.Popen(["false"]) as process,
        pytest.raises(RunError, match=rf"process {process.pid} has .* fm-al: what went wrong$"),
    ):
        wait_until_started(process, tmp_path)
