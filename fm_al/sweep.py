"""What `-m` adds: which runs there are, and how they are to be started."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from pydantic import Field
from rich.console import Console

from fm_al.config import check_arguments
from fm_al.dispatch import Here, Launching, Sweep
from fm_al.errors import ConfigError, RunError
from fm_al.jobs import Local, Slurm, python
from fm_al.lock import holder
from fm_al.records import COMMAND, NOT_DECIDING, Record, command_line
from fm_al.run import PlannedRun, one_line
from fm_al.status import last_line

NAMED_BY_PATH = (
    "experiment",
    "experiment_name",
    "dataset",
    "imbalance",
    "backbone",
    "strategy",
    "seed",
)
LONGEST_NAME = 120
# submitit's options that are not SLURM's alone.
OF_EVERY_EXECUTOR = (
    "cpus_per_task",
    "gpus_per_node",
    "mem_gb",
    "name",
    "nodes",
    "stderr_to_stdout",
    "tasks_per_node",
    "timeout_min",
)
OF_SUBMITIT = "submitit_"
OWN_FOLDER = "./.submitit/%j"  # hydra-submitit-launcher's default


def run_directory(config: Record, choices: Mapping[str, Any], overrides: Sequence[str]) -> Path:
    """<output_dir>/<experiment_name>/<dataset>-<imbalance>/<backbone>/<strategy>[/<overrides>]/seed<k>.

    choices: the option chosen of each group. overrides: as typed or swept."""
    typed = OverridesParser.create().parse_overrides(list(overrides))
    # The last of several overrides of one key is the one that holds.
    unnamed = {
        key: override.get_value_element_as_str()
        for override in typed
        if not _needs_no_name(key := override.key_or_group)
    }
    parts = [
        config["experiment_name"],
        f"{choices['dataset']}-{choices['imbalance']}",
        choices["backbone"],
        choices["strategy"],
    ]
    if unnamed:
        parts.append(_file_name(",".join(f"{key}={unnamed[key]}" for key in sorted(unnamed))))
    return Path(config["output_dir"], *map(_file_name, parts), f"seed{config['seed']}")


def _needs_no_name(key: str) -> bool:
    return key in NAMED_BY_PATH or re.split(r"[./@]", key)[0] in (*NOT_DECIDING, "hydra")


def _file_name(text: str) -> str:
    """A name for one folder; where that loses something of the text, a hash of it stands in."""
    name = re.sub(r"[^A-Za-z0-9._=,+-]+", "-", text).lstrip(".-")
    if name == text and len(name) <= LONGEST_NAME:
        return name
    return f"{name[:LONGEST_NAME]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def planned_run(
    composed: DictConfig, choices: Mapping[str, Any], overrides: Sequence[str]
) -> PlannedRun:
    """composed: with or without Hydra's own node. choices, overrides: as for `run_directory`.
    Raises ConfigError."""
    job = _without_hydra(composed) if "hydra" in composed else composed
    try:
        config: Any = OmegaConf.to_container(job, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        key = error.full_key
        raise ConfigError(f"{key}: has no default; give it as {key}=...") from None
    except OmegaConfBaseException as error:
        raise ConfigError(one_line(error)) from None
    run = PlannedRun.of(config, Path())
    return replace(run, directory=run_directory(config, choices, overrides))


def _without_hydra(composed: DictConfig) -> DictConfig:
    return OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])


class ExperimentSweeper(Sweeper):
    """Checks every combination before the first one runs, does what is missing, and goes on with
    the others when a run fails."""

    def __init__(
        self,
        params: dict[str, Any] | None,
        dry_run: bool,
        retry_failed: bool,
        wait: bool,
        max_jobs: Annotated[int, Field(ge=1)] | None,
        id: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")] | None,
    ) -> None:
        """params: overrides to sweep, of an experiment preset say; what is typed wins. dry_run:
        only say what would be started. retry_failed: go on with runs that failed before. wait:
        until all runs have ended; else return when they are submitted or, where it is this
        machine that runs them, left to a process of their own. max_jobs: of this user that are in
        SLURM's queue at a time; null is all. id: names the sweep's folder; null is a new one."""
        self.options = {
            "params": dict(params) if params else None,
            "dry_run": dry_run,
            "retry_failed": retry_failed,
            "wait": wait,
            "max_jobs": max_jobs,
            "id": id,
        }
        self.params = [f"{key}={value}" for key, value in (params or {}).items()]
        self.dry_run = dry_run
        self.retry_failed = retry_failed
        self.wait = wait
        self.max_jobs = max_jobs
        self.id = id or f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Called by Hydra."""
        self.config = config
        self.config_loader = hydra_context.config_loader

    def sweep(self, arguments: list[str]) -> None:
        """Does what is missing. Raises RunError at the end if a run failed, ConfigError if all did,
        for configurations that can't be."""
        check_arguments("hydra.sweeper", self.options, ExperimentSweeper)
        console = Console(markup=False, highlight=False, soft_wrap=True)
        planned = self._planned(arguments)
        launching = self._launching(planned, console)
        sweep = Sweep(planned, launching, console)
        missing = sweep.sort_out(self.retry_failed)
        if self.dry_run:
            sweep.tell(missing.values())
            return
        settings = planned[0].config
        place = Path(settings["output_dir"], settings["experiment_name"])
        folder = place / "sweeps" / self.id
        if missing and not self.wait and not launching.on_other_machines:
            folder.mkdir(parents=True, exist_ok=True)
            sweep.ask_for_all((run for run in planned if run.directory in missing), folder)
            process = self._leave_to_itself(folder)
            console.print(f"left to process {process.pid}, which prints to {folder / 'log.txt'}")
            _wait_for_its_begin(process, folder)
        else:
            try:
                sweep.start(missing, folder, self.wait)
            except KeyboardInterrupt:
                if launching.on_other_machines:
                    console.print("the jobs go on without this process; scancel ends them")
                raise
        if self.wait:
            sweep.close()
        else:
            console.print(f"fm-al-status {shlex.quote(str(place))} shows how it goes")

    def _planned(self, arguments: list[str]) -> list[PlannedRun]:
        """The run of each combination. A combination is composed once, whatever the number of its
        seeds: composing is what takes time in a large sweep."""
        assert self.config is not None
        parser = OverridesParser.create(config_loader=self.config_loader)
        overrides = parser.parse_overrides([*self.params, *arguments])
        for override in overrides:
            if override.is_sweep_override() and not list(override.sweep_string_iterator()):
                raise ConfigError(f"the sweep has no runs: {override.input_line} is empty")
        (combinations,) = BasicSweeper.split_arguments(overrides, None)
        composed: dict[tuple[str, ...], tuple[DictConfig, DictConfig]] = {}
        planned = []
        for combination in combinations:
            but_seed = tuple(text for text in combination if not re.fullmatch(r"seed=\d+", text))
            if but_seed not in composed:
                whole = self.config_loader.load_sweep_config(self.config, list(but_seed))
                choices = whole.hydra.runtime.choices
                composed[but_seed] = _without_hydra(whole), choices
            config, choices = composed[but_seed]
            config = config.copy()
            for text in set(combination) - set(but_seed):
                config.seed = int(text.removeprefix("seed="))
            planned.append(planned_run(config, choices, combination))
        if len({run.directory.is_absolute() for run in planned}) > 1:
            raise ConfigError("output_dir: should be absolute for all runs of a sweep, or for none")
        if len({run.directory for run in planned}) < len(planned):
            raise ConfigError("some runs of this sweep are the same; name each value once")
        return planned

    def _launching(self, planned: list[PlannedRun], console: Console) -> Launching:
        """What starts the runs, from the options of hydra/launcher."""
        assert self.config is not None
        launcher = self.config.hydra.launcher
        given: Any = OmegaConf.to_container(launcher, resolve=True)
        devices = [run.experiment.device for run in planned]
        choice = self.config.hydra.runtime.choices["hydra/launcher"]
        if choice.startswith(OF_SUBMITIT):
            raise ConfigError(
                f"hydra/launcher={choice}: its defaults end a run at a time limit; use local or "
                "slurm, which has the same options"
            )
        # By name: Hydra's search for plugins may make a class anew.
        match name := given.pop("_target_").rpartition(".")[2]:
            case "BasicLauncher":
                for device in devices:
                    device.decides()  # raises ConfigError for one that is not here
                return Here(console)
            case "LocalLauncher":
                check_arguments("hydra.launcher", given, Local, ("threads", "on_gpu", "console"))
                return Local(
                    **given,
                    threads=max(device.threads for device in devices),
                    on_gpu=any(device.torch_device.type == "cuda" for device in devices),
                    console=console,
                )
            case "SlurmLauncher":
                return self._slurm(given, console)
        raise ConfigError(
            f"hydra/launcher ({name}): should be basic (one run after the other), local, slurm or "
            "slurm_gpu"
        )

    def _slurm(self, options: dict[str, Any], console: Console) -> Slurm:
        """From the options of hydra-submitit-launcher: submitit knows those that only SLURM has by
        a prefix."""
        if (own := options.pop("submitit_folder")) != OWN_FOLDER:
            raise ConfigError(
                f"hydra.launcher.submitit_folder={own}: jobs are kept in the sweep's own folder, "
                "<output_dir>/<experiment_name>/sweeps; leave this out"
            )
        max_num_timeout = options.pop("max_num_timeout")
        parameters = {
            name if name in OF_EVERY_EXECUTOR else f"slurm_{name}": value
            for name, value in options.items()
        }
        return Slurm(parameters, max_num_timeout, self.max_jobs, console)

    def _leave_to_itself(self, folder: Path) -> subprocess.Popen[bytes]:
        """Starts this sweep again in a process of its own, which outlives the session and leads a
        group of all that it starts."""
        arguments = [*sys.argv[1:], "hydra.sweeper.wait=true", f"hydra.sweeper.id={folder.name}"]
        environment = {k: v for k, v in os.environ.items() if k != "HYDRA_FULL_ERROR"}
        environment[COMMAND] = json.dumps(command_line())
        with (folder / "log.txt").open("ab") as log:
            return subprocess.Popen(
                [*python(), "-m", "fm_al", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )


def _wait_for_its_begin(process: subprocess.Popen[bytes], folder: Path) -> None:
    """Until a process has taken up the sweep of a folder, or found nothing to do there. Raises
    RunError if it ends before."""
    while process.poll() is None:
        found = holder(folder / "lock")
        if found is not None and found.pid == process.pid:
            return
        time.sleep(0.1)
    if process.returncode != 0:
        said = last_line(folder / "log.txt").strip()
        raise RunError(f"process {process.pid} has ended, and the sweep with it; {said}")


def register() -> None:
    """Makes the sweeper known under the name that `conf/config.yaml` gives it: Hydra takes plugins
    from the package `hydra_plugins` only, where there may be none installed."""
    plugins = Plugins.instance()
    package, module = "hydra_plugins", "hydra_plugins.fm_al"
    sys.modules.setdefault(package, ModuleType(package))
    sys.modules[module] = sys.modules[__name__]
    ExperimentSweeper.__module__ = module
    plugins.register(ExperimentSweeper)
