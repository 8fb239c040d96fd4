"""No strategy keeps memory from one round to the next, or from one run of a process to the next."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from fm_al.records.schema import Round
from fm_al.tracking.tracker import NoTracker, TrackedRun
from tests.helpers.command_line import ROOT, fm_al

STRATEGIES = sorted(path.stem for path in (ROOT / "conf" / "strategy").glob("*.yaml"))
STATM = Path("/proc/self/statm")
NETWORK = [
    "tracker._target_=tests.test_memory.MemoryReader",
    "tracker=none",
    "features=pca",
    "backbone=cnn",
    "backbone.widths=[8,16,16]",
    "trainer.max_epochs=1",
    "device=cpu",
    "device.threads=1",
    "imbalance=counts",
    f"imbalance.pool={{{', '.join(f'{digit}: 24' for digit in range(10))}}}",
]
SETTLED = 4  # the round after which what is allocated once has been
NOISE = 16  # MiB, of the allocator

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not STATM.exists(), reason=f"{STATM} is Linux's"),
]


class Reading(NamedTuple):
    """Of this process after a round. tensors: alive. resident: memory in MiB."""

    run: str
    tensors: int
    resident: float


readings: list[Reading] = []


class MemoryReader(NoTracker):
    """Takes a reading once a run has settled, and after its last round."""

    def start(self, run: TrackedRun) -> None:
        self.run = run.name

    def round(self, record: Round) -> None:
        if record.round != SETTLED and record.queried:
            return
        gc.collect()
        tensors = sum(issubclass(type(each), torch.Tensor) for each in gc.get_objects())
        pages = int(STATM.read_text().split()[1])
        readings.append(Reading(self.run, tensors, pages * os.sysconf("SC_PAGE_SIZE") / 2**20))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_rounds_leave_no_memory_behind(strategy: str, tmp_path: Path) -> None:
    readings.clear()
    budget = ["budget.initial=10", "budget.per_round=2", "budget.total=40"]
    ended = fm_al(tmp_path, f"strategy={strategy}", *NETWORK, *budget)
    assert ended.returncode == 0, ended.stderr
    settled, last = readings
    assert last.tensors <= settled.tensors
    assert last.resident - settled.resident < NOISE


def test_runs_of_a_sweep_leave_no_memory_behind(tmp_path: Path) -> None:
    readings.clear()
    sweep = [f"strategy={','.join(STRATEGIES)}", "seed=range(0,3)"]
    budget = ["budget.initial=10", "budget.per_round=10", "budget.total=20"]
    ended = fm_al(tmp_path, "-m", *sweep, *NETWORK, *budget)
    assert ended.returncode == 0, ended.stderr
    assert [Path(reading.run).name for reading in readings] == ["seed0", "seed1", "seed2"] * len(
        STRATEGIES
    )
    # A strategy's first run may import what its second one uses.
    pairs = list(zip(readings[1::3], readings[2::3], strict=True))
    assert all(third.tensors <= second.tensors for second, third in pairs), pairs
    assert sum(third.resident - second.resident for second, third in pairs) < NOISE, pairs
