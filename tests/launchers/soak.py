"""Many short runs on a SLURM of one node, with faults throughout, until all are finished.

    eval "$(launchers/local_cluster start --cpus 6 --kill-wait 2)"
    python -m tests.launchers.soak [RUNS [SECONDS_BETWEEN_FAULTS [SEED]]]

Says how many faults there were, how many runs differ from undisturbed ones, and how long starting
the finished sweep once more takes.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from fm_al.launch.status import RunStatus, count_states, statuses_below
from fm_al.records.discovery import runs_below
from tests.helpers.command_line import ROOT, fm_al
from tests.launchers.test_slurm import SLOW, SLURM
from tests.test_experiment import without_times


class Soak:
    def __init__(self, folder: Path, runs: int, seed: int) -> None:
        self.folder = folder
        self.outputs = folder / "outputs"
        self.sweep = [*SLOW, f"seed=range(0,{runs})"]
        self.draw = random.Random(seed)
        self.faults: Counter[str] = Counter()
        self.submitting = self.submit()

    def submit(self) -> subprocess.Popen[bytes]:
        with (self.folder / "log.txt").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "fm_al", "-m", *SLURM, *self.sweep],
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=log,
                stderr=log,
            )

    def disturb(self, statuses: list[RunStatus]) -> None:
        """Does one thing of those that happen on clusters."""
        fault = self.draw.choices(
            ["kill -9 of a run", "requeue", "scancel", "kill -9 of the submitting process"],
            weights=[5, 3, 2, 1],
        )[0]
        if fault == "kill -9 of the submitting process":
            if self.submitting.poll() is None:
                self.submitting.kill()
                self.submitting.wait()
                self.faults[fault] += 1
            return
        running = [status for status in statuses if status.state == "running"]
        if not running:
            return
        run = self.draw.choice(running).directory
        if fault == "kill -9 of a run":
            start = json.loads((run / "provenance.json").read_text())["starts"][-1]
            try:
                os.kill(start["process"], signal.SIGKILL)
            except ProcessLookupError:  # it has ended meanwhile
                return
        else:
            job = json.loads((run / "job.json").read_text())["job"]
            command = ["scontrol", "requeue", job] if fault == "requeue" else ["scancel", job]
            if subprocess.run(command, capture_output=True).returncode:  # it has ended meanwhile
                return
        self.faults[fault] += 1

    def go_on(self, pause: float) -> None:
        """Faults, and new starts of the sweep where it has ended, until all runs are finished."""
        said = 0.0
        while True:
            statuses = statuses_below(self.outputs) if self.outputs.exists() else []
            if time.monotonic() - said > 30:
                said = time.monotonic()
                print(f"{count_states(statuses)}; {self.faults.count_states()} faults", flush=True)
            if self.submitting.poll() == 0:
                return
            if self.submitting.poll() is not None:
                self.submitting = self.submit()
                self.faults["new start of the sweep"] += 1
            self.disturb(statuses)
            time.sleep(self.draw.uniform(0, 2 * pause))

    def differing(self) -> int:
        """How many runs differ from those of a sweep that nothing disturbs."""
        fm_al(self.folder, "-m", *self.sweep, "strategy.seconds=0", "output_dir=undisturbed")
        pairs = zip(runs_below(self.outputs), runs_below(self.folder / "undisturbed"), strict=True)
        return sum(without_times(run) != without_times(other) for run, other in pairs)


def main(runs: int = 200, pause: float = 2.0, seed: int = 0) -> None:
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        soak = Soak(Path(folder), runs, seed)
        soak.go_on(pause)
        print(f"all {runs} runs finished after {time.monotonic() - began:.0f} s")
        print("faults:", dict(soak.faults))
        began = time.monotonic()
        again = soak.submit().wait()
        print(f"the finished sweep once more: {time.monotonic() - began:.1f} s, exit code {again}")
        print(f"runs that differ from undisturbed ones: {soak.differing()} of {runs}")


if __name__ == "__main__":
    arguments = sys.argv[1:]
    main(*(kind(text) for kind, text in zip((int, float, int), arguments, strict=False)))
