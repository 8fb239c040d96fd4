"""`launchers/gpu.py` from end to end, with the CPU in place of a GPU."""

from __future__ import annotations

import random
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from launchers import gpu
from tests.helpers.command_line import ROOT

RUNS = ["strategy=random", "seed=0,1", "budget.total=40", "device.threads=1"]


def launched(records: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "launchers/gpu.py"), "--device", "cpu", "--small"]
    command += ["--records", str(records), "--wheels", str(records / "none")]
    return subprocess.run([*command, *arguments], capture_output=True, text=True)


@pytest.mark.slow
def test_runs_are_packed_and_continued_in_the_next_call(tmp_path: Path) -> None:
    options = ["--parts", "runs", "--runs", "demo", "--minutes", "4", *RUNS]
    first = launched(tmp_path, *options, "seed=0")
    assert "1 finished, 0 begun" in first.stdout, first
    second = launched(tmp_path, *options)
    assert "1 of 2 runs are finished" in second.stdout, second
    assert "2 finished, 0 begun" in (tmp_path / "table.txt").read_text()
    names = zipfile.ZipFile(tmp_path / "records.zip").namelist()
    assert sum(name.endswith("/result.json") for name in names) == 2
    assert second.returncode == 0


@pytest.mark.slow
def test_what_takes_too_long_is_stopped_and_the_rest_is_done(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(gpu, "GRACE", 1.0)
    options = gpu.argparse.Namespace(records=tmp_path)
    machine = gpu.Machine(options, tmp_path, 0.0, dict(gpu.os.environ))
    deaf = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN)"
    deaf += "; print('on', flush=True); time.sleep(99)"
    code, output = machine.run([sys.executable, "-c", deaf], 5.0, "log")
    assert (code, output) == (-1, "on\n")
    assert machine.run([sys.executable, "-c", "print(1)"], 60.0, "log") == (0, "1\n")
    assert (tmp_path / "log").read_text() == "on\n1\n"


@pytest.mark.parametrize("wrong", [["--parts", "test"], ["--minutes", "0.1"]])
def test_bad_options_are_refused(tmp_path: Path, wrong: list[str]) -> None:
    ended = launched(tmp_path, *wrong)
    assert ended.returncode == 2
    assert f"{wrong[0]}" in ended.stderr


def test_the_archive_is_never_too_large(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(gpu, "MOST_BYTES", 3000)
    machine = gpu.Machine(gpu.argparse.Namespace(records=tmp_path), tmp_path / "work", 0.0, {})
    for name in ("result.json", "rounds.jsonl", "a.log"):
        path = machine.outputs / "run" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(random.Random(name).randbytes(1000))
    row = gpu.packed(machine)
    assert (row.good, "left out" in row.outcome) == (False, True)
    assert (tmp_path / "records.zip").stat().st_size < 3000
    assert zipfile.ZipFile(tmp_path / "records.zip").namelist()[0] == "run/result.json"
