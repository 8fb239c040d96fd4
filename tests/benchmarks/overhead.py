"""What records, tracker and progress cost a demo run.

Two figures: the time that the run's own thread spends in them, which says it exactly but for what
wandb's thread takes from it, and the difference between runs with everything and with nothing of
it, which holds all but drowns in the noise of a run's time. Medians over pairs, in one process.
Run it with `python -m tests.benchmarks.overhead`.
"""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock, patch

from rich.console import Console
from rich.table import Table

from fm_al.compose.composer import Composer
from fm_al.config import build
from fm_al.experiment import run_rounds
from fm_al.launch.planning import planned_run
from fm_al.preparation import initial_labels, load_data, preflight
from fm_al.progress import RunProgress
from fm_al.records.reading import RecordFiles
from fm_al.records.schema import Start
from fm_al.records.writing import RunRecords, open_run
from fm_al.tracking.tracker import NoTracker, TrackedRun
from fm_al.tracking.wandb_tracker import WandbTracker

PAIRS = 8
COUNTED = [
    (RunRecords, ("add_round", "finish", "remove_weights")),
    (WandbTracker, ("start", "round", "finish")),
    (RunProgress, ("__enter__", "__exit__", "resume_at", "stage", "epoch", "finish_round")),
]


@contextlib.contextmanager
def time_inside(spent: list[float]) -> Iterator[None]:
    """Adds to `spent` the seconds of every call of what is counted."""

    def counting(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def counted(*arguments: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*arguments)
            finally:
                spent.append(time.perf_counter() - began)

        return counted

    with contextlib.ExitStack() as patches:
        for owner, names in COUNTED:
            for name in names:
                patched = patch.object(owner, name, counting(getattr(owner, name)))
                patches.enter_context(patched)
        yield


@contextlib.contextmanager
def nothing_written() -> Iterator[RunRecords]:
    with (
        patch.object(RunRecords, "add_round", lambda self, record: self.rounds.append(record)),
        patch.object(RunRecords, "finish", lambda self, result: setattr(self, "result", result)),
    ):
        yield RunRecords(Path("nowhere"), Mock(), Start(), RecordFiles(None, [], None, ""))


def demo_run(folder: str, seed: int, everything: bool) -> tuple[float, float]:
    """Seconds of one run of the demo, without composing it, and of them inside what is counted."""
    composed = Composer().compose(
        ["experiment=demo", "strategy=entropy", f"seed={seed}", f"output_dir={folder}"]
    )
    planned = planned_run(composed, composed.hydra.runtime.choices, [])
    experiment = planned.experiment
    experiment.device.set_up()
    tracker = build(planned.config["tracker"]) if everything else NoTracker()
    console = Console(file=io.StringIO(), force_terminal=everything, quiet=not everything)
    spent: list[float] = []
    began = time.perf_counter()
    data = load_data(experiment, Path("unused"), download=False)
    preflight(experiment, data)
    with time_inside(spent):
        opening = time.perf_counter()
        with (
            open_run(planned.directory, {}, planned.result_config, [], [])
            if everything
            else nothing_written() as records,
            RunProgress(console, experiment.budget.schedule(len(data.train))) as progress,
        ):
            spent.append(time.perf_counter() - opening)
            names = list(data.class_names)
            tracker.start(
                TrackedRun(
                    planned.directory, "run", "demo", planned.config, names, [], records.start
                )
            )
            tracker.finish(
                run_rounds(
                    experiment, data, initial_labels(experiment, data), records, tracker, progress
                )
            )
    return time.perf_counter() - began, sum(spent)


def main() -> None:
    runs: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    with tempfile.TemporaryDirectory() as folder:
        for seed, everything in itertools.product(range(PAIRS + 1), (False, True)):
            runs[everything].append(demo_run(folder, seed, everything))
    first = runs[True].pop(0)[0] - runs[False].pop(0)[0]
    with_all = statistics.median(seconds for seconds, _ in runs[True])
    inside = statistics.median(inside for _, inside in runs[True])
    differences = [a - b for (a, _), (b, _) in zip(runs[True], runs[False], strict=True)]
    table = Table("a demo run", "inside", "share", "with less without", "the first run, once")
    table.add_row(
        f"{with_all:.2f} s",
        f"{inside:.3f} s",
        f"{inside / with_all:.1%}",
        f"{statistics.median(differences):.2f} s",
        f"{first:.1f} s",
    )
    Console().print(f"Records, tracker (W&B offline) and progress, {PAIRS} pairs of runs", table)


if __name__ == "__main__":
    main()
