"""Runs as processes of this machine, several at once."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
from collections import deque
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Annotated

import joblib
from pydantic import Field
from rich.console import Console

from fm_al.errors import RunError
from fm_al.launch.interpreter import imports_from_cwd
from fm_al.launch.job import Job
from fm_al.launch.launcher import jobs_folder
from fm_al.launch.status import NO_EXIT_MESSAGE
from fm_al.planned_run import PlannedRun, one_line
from fm_al.records.lock import holder
from fm_al.records.notes import STOPPED, Assignment, assign_run, record_failure

MOST_AT_ONCE = 1024  # processes, of which each holds some 0.5 GB
PRELOADED = ["fm_al.experiment", "torchvision"]  # the latter reads most data sets


class LocalLauncher:
    """Starts runs as processes of this machine, several at a time."""

    on_other_machines = False
    blocks = False
    poll = 0.5
    silence = 1.0

    def __init__(
        self,
        runs_at_once: Annotated[int, Field(ge=1, le=MOST_AT_ONCE)] | None,
        runs_per_gpu: Annotated[int, Field(ge=1, le=MOST_AT_ONCE)],
        threads: int,
        on_gpu: bool,
        console: Console,
    ) -> None:
        """Say how many runs there will be at once.

        Args:
            runs_at_once: None is as many as fit on the cores or, for runs on GPUs, on the GPUs.
            runs_per_gpu: How many runs share a GPU.
            threads: CPU threads of a run.
            on_gpu: Whether the runs use a GPU.
            console: Where to say it.
        """
        gpus = _gpus() if on_gpu else []
        room = len(gpus) * runs_per_gpu if on_gpu else joblib.cpu_count() // threads
        self.at_once = runs_at_once or max(1, room)
        self.gpus = gpus
        console.print(f"{self.at_once} at once, {threads} thread{'s' * (threads > 1)} each")
        self._slots = set(range(self.at_once))
        self._started = 0
        self._running: dict[Path, tuple[int, BaseProcess]] = {}
        self._ended: dict[Path, str] = {}
        # Processes are forked from one that has imported everything and done nothing. That saves
        # most of the seconds and the memory that importing torch takes.
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(PRELOADED)

    def start(self, waiting: deque[PlannedRun], folder: Path) -> None:
        for directory, (slot, process) in list(self._running.items()):
            if not process.is_alive():
                del self._running[directory]
                self._ended[directory] = NO_EXIT_MESSAGE
                self._slots.add(slot)
        while waiting and self._slots:
            log = jobs_folder(folder) / f"{self._started + 1}.log"
            run, slot = waiting[0], min(self._slots)
            try:
                if holder(run.directory / "lock") is None:  # else another sweep has it
                    assign_run(run.directory, Assignment(folder, log))
            except (RunError, OSError) as error:
                self._ended[waiting.popleft().directory] = one_line(error)
                continue
            gpu = self.gpus[slot % len(self.gpus)] if self.gpus else None
            job = Job.of(run, folder, gpu=False)
            process = self._context.Process(target=run_in_process, args=(job, log, gpu))
            _start(process, log.parent)
            self._running[waiting.popleft().directory] = slot, process
            self._slots.remove(slot)
            self._started += 1

    def ended(self, directory: Path) -> str | None:
        return self._ended.get(directory)


def _start(process: BaseProcess, folder: Path) -> None:
    """Start a process. folder: one that nothing can be imported from."""
    try:
        with contextlib.ExitStack() as stack:
            if not imports_from_cwd():
                stack.callback(os.chdir, Path.cwd())
                os.chdir(folder)
            forkserver.ensure_running()
        process.start()
    except (EOFError, OSError) as error:
        raise RunError(
            f"no process can be started ({type(error).__name__}: {error}); the process that "
            "forks them may be out of memory"
        ) from error


def run_in_process(job: Job, log: Path, gpu: str | None) -> None:
    """Run a job in a process of its own, which prints to the log. gpu: the one it may use."""
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    with log.open("ab") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    try:
        job()
    except KeyboardInterrupt as error:
        record_failure(Path(job.directory), error, STOPPED)
        sys.exit(130)


def _gpus() -> list[str]:
    """The GPUs that this process may use, by number, UUID or MIG name."""
    import torch

    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    if shown is None:
        return [str(number) for number in range(torch.cuda.device_count())]
    return [name.strip() for name in shown.split(",") if name.strip()]
