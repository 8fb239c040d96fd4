"""A run as a job of its own: SLURM's, by submitit, or a process of this machine."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import joblib
import submitit
from pydantic import Field
from rich.console import Console
from submitit.core.utils import FailedJobError, FailedSubmissionError, UncompletedJobError
from submitit.helpers import DelayedSubmission

from fm_al.errors import ConfigError, MethodError, RunError, RunLockedError
from fm_al.launch.job_script import CPUS_OF_A_STEP, check_parameters, may_be_requeued, or_end
from fm_al.launch.queue import largest_array, own_jobs, this_cluster
from fm_al.launch.status import SILENT
from fm_al.planned_run import (
    EXPECTED_ERRORS,
    PlannedRun,
    closing_line,
    exit_code,
    failure_recorded,
    one_line,
)
from fm_al.records.lock import Process, holder
from fm_al.records.notes import STOPPED, Assignment, assign_run, record_failure
from fm_al.records.provenance import command_line
from fm_al.records.reading import stored_run
from fm_al.records.result_config import Config
from fm_al.records.schema import Result

HELD_AGAIN = 10.0  # seconds
HELD_FOR = 180.0  # seconds; a job that is cancelled has 30 by SLURM's default
MOST_AT_ONCE = 1024  # processes, of which each holds some 0.5 GB
STARTING = 60.0  # seconds that a job may need until it runs
SIGNAL_EARLY = 60.0  # seconds that SLURM may be early
PRELOADED = ["fm_al.experiment", "torchvision"]  # the latter reads most data sets
# `python -m` as Python's own -P makes it from 3.11 on: without the current folder on the path.
ELSEWHERE = (
    "import sys; sys.path[:] = filter(None, sys.path); import runpy; "
    "del sys.argv[: sys.argv.index('-m') + 1]; "
    "runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)"
)


def python() -> list[str]:
    """What starts Python, for `-m`: with the current folder on the path, where a random.py may be,
    only if it is first on this process's."""
    this = [sys.executable, "-u"]
    return this if _imports_from_here() else [*this, "-c", ELSEWHERE]


def _imports_from_here() -> bool:
    return sys.path[0] in ("", str(Path.cwd()))


class Limits(NamedTuple):
    """Those of hydra.launcher that end a job, or let it be queued again."""

    timeout_min: int
    signal_delay_s: int
    max_num_timeout: int


@dataclass
class Job:
    """What is pickled for a run: plain data, so that the job composes nothing and needs no Hydra.

    working_directory: where paths start from. sweep_folder: of the sweep that asks for the run.
    command: that started the sweep. gpu: the job was promised one. limits: None where it is no job
    of SLURM's."""

    config: Config
    directory: str
    working_directory: str
    sweep_folder: str
    command: list[str]
    gpu: bool
    limits: Limits | None = None
    # When, and after how many rounds.
    _start: tuple[float, int] | None = field(default=None, init=False, compare=False)

    def __call__(self) -> None:
        os.chdir(self.working_directory)
        directory, process = Path(self.directory), Process.this()
        console = Console(markup=False, highlight=False, soft_wrap=True)
        console.print(f"{directory}: {process}")
        try:
            with failure_recorded(directory), self._requeueing_explained():
                self._start = time.monotonic(), len(stored_run(directory).rounds)
                run = PlannedRun.of(self.config, directory)
                if self.gpu and run.experiment.device.torch_device.type == "cpu":
                    self._say_that_the_gpu_is_not_there()
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
                return run.run(console, sweep.name, self.command, self._asked())
            except RunLockedError as error:
                # A node that SLURM gave up may still live: nobody would start its job, which is
                # this one, again. Another job that was cancelled may be about to end.
                holding = holder(run.directory / "lock")
                if job is not None and holding is not None and holding.job == job:
                    since = time.monotonic()
                if job is None or time.monotonic() - since > HELD_FOR:
                    raise
                console.print(f"{one_line(error)}; trying again")
                time.sleep(HELD_AGAIN)

    def _asked(self) -> Assignment | None:
        """What the submitting process notes too, unless it has ended before; None where this is no
        job of SLURM's."""
        if os.environ.get("SUBMITIT_EXECUTOR") != "slurm":
            return None
        log = submitit.JobEnvironment().paths.stdout
        cluster = os.environ.get("SLURM_CLUSTER_NAME")
        return Assignment(Path(self.sweep_folder), log, Process.this().job, cluster)

    def _say_that_the_gpu_is_not_there(self) -> None:
        if self.config["device"]["kind"] != "cpu":
            raise RunError(
                "this job asked for a GPU, and torch finds none on its node; with a build of torch "
                "for the node's driver it will, device=cpu does without"
            )

    def checkpoint(self) -> DelayedSubmission:
        """Called by submitit ahead of the time limit and of preemption: the records hold all that
        is needed, the job is queued again as it was. Raises RunError, which ends the run, where all
        of the job's time was not enough for one round, since the next job's would not be either."""
        if self.limits is not None and self._got_nowhere(self.limits):
            raise RunError(
                "not one round was finished within hydra.launcher.timeout_min="
                f"{self.limits.timeout_min}; give more time, or make a round shorter "
                "(trainer.max_epochs, a GPU, a smaller pool)"
            )
        return DelayedSubmission(replace(self))

    def _got_nowhere(self, limits: Limits) -> bool:
        """Whether the job had its time, and no round was added. submitit does not tell a time limit
        from preemption."""
        if self._start is None:
            return False
        began, rounds = self._start
        signalled = 60 * limits.timeout_min - limits.signal_delay_s - SIGNAL_EARLY
        # A job of so few minutes that the signal comes as it starts says nothing of a round.
        if time.monotonic() - began < max(signalled - STARTING, STARTING):
            return False
        try:
            return len(stored_run(Path(self.directory)).rounds) <= rounds
        except (RunError, OSError):
            return False  # which the next job meets, and can say

    @contextlib.contextmanager
    def _requeueing_explained(self) -> Iterator[None]:
        """Gives submitit's errors, which its signal handler raises wherever the run is, in words
        that name the options."""
        try:
            yield
        except Exception as error:
            # In a method of the user's it seems to be that one's.
            cause = error.__cause__ if isinstance(error, ConfigError | MethodError) else error
            if isinstance(cause, UncompletedJobError):
                assert self.limits is not None
                raise RunError(
                    "timed-out too many times: the job may be queued again "
                    f"hydra.launcher.max_num_timeout={self.limits.max_num_timeout} times at its "
                    f"limit, hydra.launcher.timeout_min={self.limits.timeout_min}; start again to "
                    "go on"
                ) from cause
            refused = (subprocess.CalledProcessError, subprocess.TimeoutExpired)
            if isinstance(cause, refused) and cause.cmd[:2] == ["scontrol", "requeue"]:
                raise RunError(
                    "the job has to end, and SLURM does not queue it again (scontrol requeue "
                    "fails; is that ruled out by additional_parameters?); start again to go on"
                ) from cause
            raise


class Slurm:
    """Submits runs as SLURM array jobs."""

    on_other_machines = True
    blocks = False
    poll = 5.0
    silence = 60.0  # what a network file system may be late

    def __init__(
        self, parameters: Config, max_num_timeout: int, max_jobs: int | None, console: Console
    ) -> None:
        """parameters: submitit's, as `AutoExecutor.update_parameters` takes them. max_jobs: of
        this user that are in the queue at a time. Raises ConfigError for what a job script can't
        hold, and where there is no SLURM."""
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
        submissions, room = _own_folder(folder), self._room(len(waiting))
        before = len(self._submitted)
        while room:
            runs = list(islice(waiting, min(room, largest_array())))
            try:
                self._submit(runs, submissions, folder)
            except RunError as error:
                now = self._submitted[before:]
                raise RunError(f"{error}; job {', '.join(now)} goes on" if now else error) from None
            room -= len(runs)
            for _ in runs:
                waiting.popleft()

    def _room(self, wanted: int) -> int:
        """For how many more jobs."""
        if self.max_jobs is None:
            return wanted
        try:
            return min(wanted, max(0, self.max_jobs - own_jobs()))
        except RunError:  # which whoever follows the runs says
            return 0

    def _submit(self, runs: list[PlannedRun], submissions: Path, folder: Path) -> None:
        """Submits runs as one array; arrays of one sweep go one after the other, so that
        array_parallelism holds for them together, unless max_jobs does that."""
        cluster, unnoted = this_cluster(), []
        with _signals_held_back():
            jobs = self._accepted(
                [job_of(run, folder, self.gpu, self.limits) for run in runs], submissions
            )
            array = jobs[0].job_id.split("_")[0]
            self._submitted.append(array)
            for run, job in zip(runs, jobs, strict=True):
                try:
                    assign_run(
                        run.directory, Assignment(folder, job.paths.stdout, job.job_id, cluster)
                    )
                except OSError as error:
                    unnoted.append(
                        f"{run.directory}: that it is job {job.job_id}, which prints to "
                        f"{job.paths.stdout}, can't be noted there ({error})"
                    )
            self.console.print(f"submitted {len(runs)} run{'s' * (len(runs) > 1)} as job {array}")
        for warning in unnoted:
            self.console.print(warning)

    def _accepted(self, jobs: list[Job], submissions: Path) -> list[submitit.Job[Any]]:
        """The jobs as sbatch took them. Raises RunError if it does not."""
        try:
            executor = submitit.AutoExecutor(
                submissions,
                cluster="slurm",
                slurm_max_num_timeout=self.limits.max_num_timeout,
                slurm_python=shlex.join(python()),
            )
            executor.update_parameters(**self.parameters)
            if self.parameters.get("slurm_wckey") is None:
                # Else submitit gives its own, which clusters that know wckeys refuse; what is None
                # is dropped above, and by this it is set.
                executor._executor.update_parameters(wckey=None)
            if self._submitted and self.max_jobs is None:
                executor.update_parameters(slurm_dependency=f"afterany:{self._submitted[-1]}")
            # Else what sbatch refuses would stand on the terminal twice.
            with contextlib.redirect_stderr(io.StringIO()):
                return executor.submit_array(jobs)
        except OSError as error:
            raise RunError(f"{submissions}: jobs can't be written there ({error})") from None
        except NameError as error:  # its way to say it of an option
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
            # Those of jobs that were accepted have been renamed; refusals may be many.
            for path in submissions.glob(f"{'[0-9a-f]' * 32}.pkl"):
                path.unlink(missing_ok=True)

    def ended(self, directory: Path) -> str | None:
        return None  # SLURM's queue tells


class Local:
    """Starts runs as processes of this machine, some at a time."""

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
        """runs_at_once: null is what there are cores or, where runs use them, GPUs for. threads: of
        the CPU that a run uses. on_gpu: whether runs use one."""
        gpus = _gpus() if on_gpu else []
        room = len(gpus) * runs_per_gpu if on_gpu else joblib.cpu_count() // threads
        self.at_once = runs_at_once or max(1, room)
        self.gpus = gpus
        console.print(f"{self.at_once} at once, {threads} thread{'s' * (threads > 1)} each")
        self._slots = set(range(self.at_once))
        self._started = 0
        self._running: dict[Path, tuple[int, BaseProcess]] = {}
        self._ended: dict[Path, str] = {}
        # Processes are forked from one that has imported all and done nothing: that takes a small
        # part of the seconds that torch's import takes, and of the memory.
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(PRELOADED)

    def start(self, waiting: deque[PlannedRun], folder: Path) -> None:
        for directory, (slot, process) in list(self._running.items()):
            if not process.is_alive():
                del self._running[directory]
                self._ended[directory] = SILENT
                self._slots.add(slot)
        while waiting and self._slots:
            log = _own_folder(folder) / f"{self._started + 1}.log"
            run, slot = waiting[0], min(self._slots)
            try:
                if holder(run.directory / "lock") is None:  # else it is another sweep's
                    assign_run(run.directory, Assignment(folder, log))
            except (RunError, OSError) as error:
                self._ended[waiting.popleft().directory] = one_line(error)
                continue
            gpu = self.gpus[slot % len(self.gpus)] if self.gpus else None
            job = job_of(run, folder, gpu=False)
            process = self._context.Process(target=_run_in_process, args=(job, log, gpu))
            _start(process, log.parent)
            self._running[waiting.popleft().directory] = slot, process
            self._slots.remove(slot)
            self._started += 1

    def ended(self, directory: Path) -> str | None:
        return self._ended.get(directory)


def job_of(run: PlannedRun, sweep_folder: Path, gpu: bool, limits: Limits | None = None) -> Job:
    here, command = str(Path.cwd()), command_line()
    return Job(run.config, str(run.directory), here, str(sweep_folder), command, gpu, limits)


def _start(process: BaseProcess, folder: Path) -> None:
    """folder: where nothing can be imported from."""
    try:
        with contextlib.ExitStack() as stack:
            if not _imports_from_here():
                stack.callback(os.chdir, Path.cwd())
                os.chdir(folder)
            forkserver.ensure_running()
        process.start()
    except (EOFError, OSError) as error:
        raise RunError(
            f"no process can be started ({type(error).__name__}: {error}); the one that "
            "they are forked from may be out of memory"
        ) from error


def _run_in_process(job: Job, log: Path, gpu: str | None) -> None:
    """What a process of `Local` does; what it prints goes to the log."""
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


def _own_folder(folder: Path) -> Path:
    """Where pickles, job scripts and logs are: for the owner's eyes only. Raises
    ConfigError for a path that SLURM or submitit would take for another one."""
    if strange := re.search(r"[%\\\x00-\x1f\x7f]", str(folder.absolute())):
        raise ConfigError(
            f"{str(folder.absolute())!r}: {strange[0]!r} in it means something else to SLURM; "
            "start from another folder, or use another output_dir"
        )
    own = folder / "jobs"
    own.mkdir(mode=0o700, parents=True, exist_ok=True)
    return own


@contextlib.contextmanager
def _signals_held_back() -> Iterator[None]:
    """The end of a session waits until what was submitted is noted."""
    signals = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
    came: list[int] = []
    before = {each: signal.signal(each, lambda number, _: came.append(number)) for each in signals}
    # For sbatch, which inherits it. This process has other threads, which would take the signals.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for each, handler in before.items():
            signal.signal(each, handler)
        if came:
            signal.raise_signal(came[0])
