"""Runs as the jobs of SLURM arrays, submitted by submitit."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import shutil
import signal
from collections import deque
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import submitit
from rich.console import Console
from submitit.core.utils import FailedJobError, FailedSubmissionError

from fm_al.errors import ConfigError, RunError
from fm_al.launch.interpreter import python_command
from fm_al.launch.job import Job, Limits
from fm_al.launch.job_script import CPUS_OF_A_STEP, check_parameters, may_be_requeued, or_end
from fm_al.launch.launcher import jobs_folder
from fm_al.launch.queue import largest_array, own_jobs, this_cluster
from fm_al.planned_run import PlannedRun
from fm_al.records.notes import Assignment, assign_run
from fm_al.records.result_config import Config


class SlurmLauncher:
    """Submits runs as the jobs of SLURM arrays."""

    on_other_machines = True
    blocks = False
    poll = 5.0
    silence = 60.0  # a network file system may be that late

    def __init__(
        self, parameters: Config, max_num_timeout: int, max_jobs: int | None, console: Console
    ) -> None:
        """Check the options.

        Args:
            parameters: submitit's, as `AutoExecutor.update_parameters` takes them.
            max_num_timeout: How often a job is queued again at its time limit.
            max_jobs: The most jobs of this user in the queue at a time; None is no limit.
            console: Where to say which jobs were submitted.

        Raises:
            ConfigError: If there is no SLURM, or a job script cannot hold an option.
        """
        if shutil.which("sbatch") is None:
            raise ConfigError(
                "hydra/launcher=slurm: there is no SLURM here (no sbatch on the path); use "
                "hydra/launcher=local, or launchers/local_cluster start"
            )
        check_parameters(parameters | {"max_num_timeout": max_num_timeout})
        additional = parameters.get("slurm_additional_parameters") or {}
        self.parameters = parameters | {
            "slurm_additional_parameters": may_be_requeued(additional),
            "slurm_setup": [
                *(text for line in parameters.get("slurm_setup") or [] for text in or_end(line)),
                CPUS_OF_A_STEP,
            ],
        }
        self.limits = Limits(
            parameters["timeout_min"], parameters["slurm_signal_delay_s"], max_num_timeout
        )
        self.max_jobs = max_jobs
        self.console = console
        self.gpu = any(parameters.get(key) for key in ("gpus_per_node", "slurm_gpus_per_task"))
        self.gpu = self.gpu or "gpu" in str(parameters.get("slurm_gres"))
        self._submitted: list[str] = []

    def start(self, waiting: deque[PlannedRun], folder: Path) -> None:
        if not waiting:
            return
        submissions, room = jobs_folder(folder), self._room(len(waiting))
        before = len(self._submitted)
        while room:
            runs = list(islice(waiting, min(room, largest_array())))
            try:
                self._submit(runs, submissions, folder)
            except RunError as error:
                now = self._submitted[before:]
                kept = f"; job {', '.join(now)} stays in the queue" if now else ""
                raise RunError(f"{error}{kept}") from None
            room -= len(runs)
            for _ in runs:
                waiting.popleft()

    def _room(self, wanted: int) -> int:
        """How many more jobs may be submitted now."""
        if self.max_jobs is None:
            return wanted
        try:
            return min(wanted, max(0, self.max_jobs - own_jobs()))
        except RunError:  # the sweep, which asks SLURM too, reports it
            return 0

    def _submit(self, runs: list[PlannedRun], submissions: Path, folder: Path) -> None:
        """Submit runs as one array.

        The arrays of a sweep run one after the other, so that array_parallelism limits them
        together, unless max_jobs limits them."""
        cluster, unnoted = this_cluster(), []
        with _signals_held_back():
            jobs = self._accepted(
                [Job.of(run, folder, self.gpu, self.limits) for run in runs], submissions
            )
            array = jobs[0].job_id.split("_")[0]
            self._submitted.append(array)
            for run, job in zip(runs, jobs, strict=True):
                try:
                    assigned = Assignment(folder, job.paths.stdout, job.job_id, cluster)
                    assign_run(run.directory, assigned)
                except OSError as error:
                    unnoted.append(
                        f"{run.directory}: its job.json can't be written ({error}); it is job "
                        f"{job.job_id}, which prints to {job.paths.stdout}"
                    )
            self.console.print(f"submitted {len(runs)} run{'s' * (len(runs) > 1)} as job {array}")
        for warning in unnoted:
            self.console.print(warning)

    def _accepted(self, jobs: list[Job], submissions: Path) -> list[submitit.Job[Any]]:
        """Hand the jobs to sbatch. Raises RunError if it refuses them."""
        try:
            executor = submitit.AutoExecutor(
                submissions,
                cluster="slurm",
                slurm_max_num_timeout=self.limits.max_num_timeout,
                slurm_python=shlex.join(python_command()),
            )
            executor.update_parameters(**self.parameters)
            if self.parameters.get("slurm_wckey") is None:
                # Else submitit sets its own, which clusters with wckeys refuse. AutoExecutor drops
                # what is None; the executor inside does not.
                executor._executor.update_parameters(wckey=None)
            if self._submitted and self.max_jobs is None:
                executor.update_parameters(slurm_dependency=f"afterany:{self._submitted[-1]}")
            # submitit logs what sbatch refuses, which is raised below: say it once.
            with contextlib.redirect_stderr(io.StringIO()):
                return executor.submit_array(jobs)
        except OSError as error:
            raise RunError(f"{submissions}: jobs can't be written there ({error})") from None
        except NameError as error:  # submitit's error for an unknown option
            why = " ".join(str(error).split("Valid arguments")[0].split())
            raise ConfigError(f"hydra.launcher: submitit refuses an option: {why}") from None
        except (FailedJobError, FailedSubmissionError) as error:
            said = re.findall(r"^sbatch: error: (.*)", str(error), re.MULTILINE) or [str(error)]
            is_limit = re.search(r"(?i)submit\w*limit|job count limit", " ".join(said))
            advice = "; hydra.sweeper.max_jobs=N submits N at a time" if is_limit else ""
            raise RunError(
                f"sbatch refuses: {'; '.join(said)} (options: hydra.launcher){advice}"
            ) from None
        finally:
            # Accepted jobs' pickles were renamed. The others would pile up with every refusal.
            for path in submissions.glob(f"{'[0-9a-f]' * 32}.pkl"):
                path.unlink(missing_ok=True)

    def ended(self, directory: Path) -> str | None:
        return None  # SLURM's queue knows


@contextlib.contextmanager
def _signals_held_back() -> Iterator[None]:
    """Delay the signals that end a session until submitted jobs are noted."""
    signals = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
    came: list[int] = []
    before = {each: signal.signal(each, lambda number, _: came.append(number)) for each in signals}
    # The mask is for sbatch, which inherits it. In this process other threads would take the
    # signals, hence the handlers.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for each, handler in before.items():
            signal.signal(each, handler)
        if came:
            signal.raise_signal(came[0])
