from __future__ import annotations

import subprocess

import pytest

from fm_al.launch.interpreter import python_command


@pytest.mark.parametrize("here_is_first", [False, True])
def test_a_python_finds_modules_where_this_one_does(tmp_path, monkeypatch, here_is_first) -> None:
    for name in ("here", "on_the_path"):
        (tmp_path / name).mkdir()
    (tmp_path / "here" / "random.py").write_text("raise SystemExit('of the current folder')")
    told = "import random, sys; print(__name__, *sys.argv[1:])"
    (tmp_path / "on_the_path" / "told.py").write_text(told)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "on_the_path"))
    if here_is_first:
        monkeypatch.syspath_prepend(str(tmp_path / "here"))
    arguments = ["-m", "told", "-m", "two words"]
    ended = subprocess.run([*python_command(), *arguments], capture_output=True, text=True)
    expected = ("", "of the current folder\n") if here_is_first else ("__main__ -m two words\n", "")
    assert (ended.stdout, ended.stderr) == expected
