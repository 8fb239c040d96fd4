"""How long commands take to start, in processes of their own, beside importing torch alone.

Run it with `python -m tests.benchmarks.start_up`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from tests.helpers.command_line import ROOT

REPEATS = 5
SHORT = ["experiment=demo", "budget.total=40", "trainer.max_epochs=2"]
SWEEP = ["-m", *SHORT, "strategy=random,margin", "seed=range(0,3)"]
UNTIL_AN_EPOCH_HAS_ENDED = """
import os, sys
from fm_al.progress import RunProgress
RunProgress.epoch = lambda *_: os._exit(0)
"""


class Timed(NamedTuple):
    """A command. limit: of its seconds. code: what its process runs first."""

    name: str
    function: str
    arguments: list[str]
    limit: float | None = None
    code: str = ""


COMMANDS = [
    Timed("fm-al --help", "main", ["--help"], 1.5),
    Timed("fm-al, a finished run", "main", [*SHORT, "strategy=margin", "seed=0"], 1.5),
    Timed("fm-al -m, six finished runs", "main", SWEEP),
    Timed("fm-al-status, six runs", "status", ["outputs"], 1.0),
    Timed("fm-al-report, six runs", "report", ["outputs"], 4.0),
    *(
        Timed(
            f"fm-al {strategy} to the end of the first epoch",
            "main",
            ["experiment=demo", f"strategy={strategy}", "seed={attempt}", "output_dir=others"],
            4.0,
            UNTIL_AN_EPOCH_HAS_ENDED,
        )
        for strategy in ("margin", "fishermask")
    ),
]


def seconds(folder: Path, code: str, *arguments: str) -> float:
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return time.perf_counter() - began


def of_command(folder: Path, timed: Timed, attempt: int) -> float:
    code = f"{timed.code}\nfrom fm_al.cli import {timed.function} as command\ncommand()"
    return seconds(folder, code, *(text.format(attempt=attempt) for text in timed.arguments))


def main() -> None:
    taken: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        of_command(folder, Timed("the runs to look at", "main", SWEEP), 0)
        for attempt in range(REPEATS):
            taken["import torch"].append(seconds(folder, "import torch"))
            for timed in COMMANDS:
                taken[timed.name].append(of_command(folder, timed, attempt))
    torch = min(taken["import torch"])
    table = Table("command", "seconds", "at most", "of importing torch")
    table.add_row("import torch", f"{torch:.2f}", "", "")
    for timed in COMMANDS:
        least = min(taken[timed.name])
        limit = "" if timed.limit is None else f"{timed.limit:.1f}"
        table.add_row(timed.name, f"{least:.2f}", limit, f"{least / torch:.2f}")
    cores = os.cpu_count()
    Console().print(f"Starting, the least of {REPEATS} processes each, {cores} cores", table)


if __name__ == "__main__":
    main()
