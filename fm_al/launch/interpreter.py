"""How a sweep starts another Python that imports what this one imports."""

from __future__ import annotations

import sys
from pathlib import Path

# `python -m` as Python's own -P makes it from 3.11 on: without the current folder on the path.
RUNPY_WITHOUT_CWD = (
    "import sys; sys.path[:] = filter(None, sys.path); import runpy; "
    "del sys.argv[: sys.argv.index('-m') + 1]; "
    "runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)"
)


def python_command() -> list[str]:
    """The command that starts Python, to be followed by `-m MODULE`.

    The current folder, which may hold a random.py, is on its path only if this process has it
    there."""
    interpreter = [sys.executable, "-u"]
    return interpreter if imports_from_cwd() else [*interpreter, "-c", RUNPY_WITHOUT_CWD]


def imports_from_cwd() -> bool:
    """Whether this process looks for modules in the current folder first."""
    return sys.path[0] in ("", str(Path.cwd()))
