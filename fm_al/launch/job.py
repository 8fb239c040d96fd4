"""A run as a job: what is pickled for SLURM, or handed to a process of this machine."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import submitit
from rich.console import Console
from submitit.core.utils import UncompletedJobError
from submitit.helpers import DelayedSubmission

from fm_al.errors import ConfigError, MethodError, RunError, RunLockedError
from fm_al.planned_run import (
    EXPECTED_ERRORS,
    PlannedRun,
    closing_line,
    exit_code,
    failure_recorded,
    one_line,
)
from fm_al.records.lock import Process, holder
from fm_al.records.notes import Assignment
from fm_al.records.provenance import command_line
from fm_al.records.reading import stored_run
from fm_al.records.result_config import Config
from fm_al.records.schema import Result

HELD_AGAIN = 10.0  # seconds between two tries to lock the run
HELD_FOR = 180.0  # seconds of trying; SLURM gives a cancelled job 30 by default
STARTING = 60.0  # seconds that a job may need until it runs
SIGNAL_EARLY = 60.0  # seconds by which SLURM may signal too early


class Limits(NamedTuple):
    """The options of hydra.launcher that decide when a job ends and is queued again."""

    timeout_min: int
    signal_delay_s: int
    max_num_timeout: int


@dataclass
class Job:
    """A run as it is pickled: plain data, so that the job composes nothing and needs no Hydra.

    Attributes:
        config: The run's resolved configuration.
        directory: The run's directory.
        working_directory: The folder that relative paths start from.
        sweep_folder: The folder of the sweep that the run belongs to.
        command: The command that started the sweep.
        gpu: The job was promised a GPU.
        limits: SLURM's; None if SLURM does not run the job.
    """

    config: Config
    directory: str
    working_directory: str
    sweep_folder: str
    command: list[str]
    gpu: bool
    limits: Limits | None = None
    # When it started, by time.monotonic, and the rounds that were finished then.
    _start: tuple[float, int] | None = field(default=None, init=False, compare=False)

    @classmethod
    def of(
        cls, run: PlannedRun, sweep_folder: Path, gpu: bool, limits: Limits | None = None
    ) -> Job:
        """The job of a run that this process starts."""
        directory, cwd = str(run.directory), str(Path.cwd())
        return cls(run.config, directory, cwd, str(sweep_folder), command_line(), gpu, limits)

    def __call__(self) -> None:
        """Run what is missing. An error ends the process with its exit code."""
        os.chdir(self.working_directory)
        directory, process = Path(self.directory), Process.this()
        console = Console(markup=False, highlight=False, soft_wrap=True)
        console.print(f"{directory}: {process}")
        try:
            with failure_recorded(directory), self._requeueing_explained():
                self._start = time.monotonic(), len(stored_run(directory).rounds)
                run = PlannedRun.of(self.config, directory)
                if self.gpu and run.experiment.device.torch_device.type == "cpu":
                    self._refuse_the_cpu()
                result = self._result(run, console)
            console.print(closing_line(result))
        except EXPECTED_ERRORS as error:
            if isinstance(error, MethodError):
                print(error.shown, end="", file=sys.stderr)
            print(f"fm-al: {one_line(error)}", file=sys.stderr, flush=True)
            sys.exit(exit_code(error))

    def _result(self, run: PlannedRun, console: Console) -> Result:
        job, since, sweep = Process.this().job, time.monotonic(), Path(self.sweep_folder)
        while True:
            try:
                if (result := run.result()) is not None:
                    run.complete(console, result)
                    return result
                return run.run(console, sweep.name, self.command, self._assignment())
            except RunLockedError as error:
                # A node that SLURM gave up may still run this very job, which no one else would
                # start again: wait as long as it takes. Another job may be about to end.
                holding = holder(run.directory / "lock")
                if job is not None and holding is not None and holding.job == job:
                    since = time.monotonic()
                if job is None or time.monotonic() - since > HELD_FOR:
                    raise
                console.print(f"{one_line(error)}; trying again")
                time.sleep(HELD_AGAIN)

    def _assignment(self) -> Assignment | None:
        """What job.json is to say; None if SLURM does not run the job.

        The submitting process writes the same, unless it was killed before it could."""
        if os.environ.get("SUBMITIT_EXECUTOR") != "slurm":
            return None
        log = submitit.JobEnvironment().paths.stdout
        cluster = os.environ.get("SLURM_CLUSTER_NAME")
        return Assignment(Path(self.sweep_folder), log, Process.this().job, cluster)

    def _refuse_the_cpu(self) -> None:
        if self.config["device"]["kind"] != "cpu":
            raise RunError(
                "this job asked for a GPU, but torch finds none on its node; install a torch build "
                "that matches the node's driver, or set device=cpu"
            )

    def checkpoint(self) -> DelayedSubmission:
        """Queue the job again as it was: the records hold all that is needed to resume.

        submitit calls this ahead of the time limit and of preemption.

        Raises:
            RunError: If a whole job's time was not enough for one round. The next job's would not
                be either.
        """
        if self.limits is not None and self._finished_no_round(self.limits):
            raise RunError(
                "not one round was finished within hydra.launcher.timeout_min="
                f"{self.limits.timeout_min}; give more time, or make a round shorter "
                "(trainer.max_epochs, a GPU, a smaller pool)"
            )
        return DelayedSubmission(replace(self))

    def _finished_no_round(self, limits: Limits) -> bool:
        """Whether the job used its time and finished no round. submitit does not tell a time limit
        from preemption."""
        if self._start is None:
            return False
        began, rounds = self._start
        signalled = 60 * limits.timeout_min - limits.signal_delay_s - SIGNAL_EARLY
        # A limit of so few minutes that the signal comes at the start says nothing of a round.
        if time.monotonic() - began < max(signalled - STARTING, STARTING):
            return False
        try:
            return len(stored_run(Path(self.directory)).rounds) <= rounds
        except (RunError, OSError):
            return False  # the next job meets the same error, and reports it

    @contextlib.contextmanager
    def _requeueing_explained(self) -> Iterator[None]:
        """Put submitit's errors in words that name the options. Its signal handler raises them
        wherever the run is."""
        try:
            yield
        except Exception as error:
            # Raised inside a user's method, it is wrapped as that method's error.
            cause = error.__cause__ if isinstance(error, ConfigError | MethodError) else error
            if isinstance(cause, UncompletedJobError):
                assert self.limits is not None
                raise RunError(
                    "timed-out too many times: at its limit of hydra.launcher.timeout_min="
                    f"{self.limits.timeout_min}, the job may be queued again "
                    f"hydra.launcher.max_num_timeout={self.limits.max_num_timeout} times; run the "
                    "same command again to resume"
                ) from cause
            refused = (subprocess.CalledProcessError, subprocess.TimeoutExpired)
            if isinstance(cause, refused) and cause.cmd[:2] == ["scontrol", "requeue"]:
                raise RunError(
                    "the job has to end, and SLURM does not queue it again (scontrol requeue "
                    "failed; does additional_parameters rule it out?); run the same command again "
                    "to resume"
                ) from cause
            raise
