"""What records, tracker and progress cost a demo run, in time of the process.

Runs of the demo in pairs, with everything and with nothing of it, in one process each; medians.
Run it with `python -m tests.benchmarks.overhead`.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import hydra
from rich.console import Console
from rich.table import Table

from fm_al.__main__ import CONF
from fm_al.config import build
from fm_al.experiment import load_data, run
from fm_al.progress import RunProgress
from fm_al.records import RunRecords, open_run
from fm_al.sweep import PlannedRun
from fm_al.tracking import NoTracker, TrackedRun

PAIRS = 12


@contextlib.contextmanager
def nothing_written() -> Iterator[RunRecords]:
    with (
        patch.object(RunRecords, "add_round", lambda self, record: self.rounds.append(record)),
        patch.object(RunRecords, "finish", lambda self, result: setattr(self, "result", result)),
    ):
        yield RunRecords(Path("nowhere"), [], None)


def demo_run(folder: str, seed: int, everything: bool) -> float:
    """Seconds of one run of the demo, without the composition of its configuration."""
    with hydra.initialize_config_dir(CONF, version_base="1.3"):
        composed = hydra.compose(
            "config",
            ["experiment=demo", "strategy=entropy", f"seed={seed}", f"output_dir={folder}"],
            return_hydra_config=True,
        )
    planned = PlannedRun.of(composed, composed.hydra.runtime.choices, [])
    experiment = planned.experiment
    experiment.device.set_up()
    tracker = build(planned.config["tracker"]) if everything else NoTracker()
    terminal = io.StringIO()
    console = Console(file=terminal, force_terminal=everything, quiet=not everything)
    began = time.perf_counter()
    data = load_data(experiment, Path("unused"), download=False)
    with (
        open_run(planned.directory, "", planned.decides, [])
        if everything
        else nothing_written() as records,
        RunProgress(console, experiment.budget.labelled()) as progress,
    ):
        names = list(data.class_names)
        tracker.start(TrackedRun(planned.directory, "run", "demo", planned.config, names, []))
        tracker.finish(run(experiment, data, records, tracker, progress))
    return time.perf_counter() - began


def main() -> None:
    os.environ.pop("WANDB_API_KEY", None)
    seconds: dict[bool, list[float]] = {True: [], False: []}
    with tempfile.TemporaryDirectory() as folder:
        for seed, everything in itertools.product(range(PAIRS + 1), (False, True)):
            taken = demo_run(folder, seed, everything)
            seconds[everything].append(taken)
    first = seconds[True].pop(0) - seconds[False].pop(0)
    with_all, without = statistics.median(seconds[True]), statistics.median(seconds[False])
    table = Table("a demo run without", "with", "difference", "share", "first run's, once")
    table.add_row(
        f"{without:.3f} s",
        f"{with_all:.3f} s",
        f"{with_all - without:.3f} s",
        f"{(with_all - without) / without:.1%}",
        f"{first:.2f} s",
    )
    Console().print(f"Records, tracker (W&B offline) and progress, {PAIRS} pairs of runs", table)


if __name__ == "__main__":
    main()
