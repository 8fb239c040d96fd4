"""What `-m` adds: which runs there are, and how they are to be started."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import secrets
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict
from pydantic import Field
from rich.console import Console

from fm_al.compose.arguments import expanded, parsed, parsed_overrides
from fm_al.compose.composer import OF_SUBMITIT, Composer, resolved
from fm_al.config import check_arguments, check_settings
from fm_al.errors import ConfigError, RunError
from fm_al.launch.combinations import Combination, dimensions
from fm_al.launch.status import last_line
from fm_al.launch.sweep import Here, Launching, Sweep
from fm_al.planned_run import PlannedRun
from fm_al.records.lock import holder
from fm_al.records.provenance import COMMAND, command_line
from fm_al.records.result_config import NO_EFFECT_ON_RESULTS, Config

if TYPE_CHECKING:
    from fm_al.launch.job import Slurm

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
OWN_FOLDER = "./.submitit/%j"  # hydra-submitit-launcher's default


def run_directory(config: Config, choices: Mapping[str, Any], overrides: Sequence[str]) -> Path:
    """<output_dir>/<experiment_name>/<dataset>-<imbalance>/<backbone>/<strategy>[/<overrides>]/seed<k>.

    choices: the option chosen of each group. overrides: as typed or swept."""
    typed = [parsed(text) for text in overrides]
    # The last of several overrides of one key is the one that holds.
    unnamed = {
        key: override.get_value_element_as_str()
        for override in typed
        if not _needs_no_name(key := override.key_or_group)
    }
    parts = [
        f"{choices['dataset']}-{choices['imbalance']}",
        choices["backbone"],
        choices["strategy"],
    ]
    if unnamed:
        parts.append(_file_name(",".join(f"{key}={unnamed[key]}" for key in sorted(unnamed))))
    place = Path(config["output_dir"], config["experiment_name"])
    return Path(place, *map(_file_name, parts), f"seed{config['seed']}")


def _needs_no_name(key: str) -> bool:
    return key in NAMED_BY_PATH or re.split(r"[./@]", key)[0] in (*NO_EFFECT_ON_RESULTS, "hydra")


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
    return _planned(plain(without_hydra(composed)), choices, overrides)


def _planned(config: Config, choices: Mapping[str, Any], overrides: Sequence[str]) -> PlannedRun:
    check_settings(config)  # which name the directory
    return PlannedRun.of(config, run_directory(config, choices, overrides))


def plain(config: DictConfig) -> Config:
    """A run's configuration, resolved. Raises ConfigError."""
    values = resolved(config)
    for key in ("output_dir", "data_dir"):
        if isinstance(values.get(key), str):
            values[key] = expanded(values[key])
    dataset = values.get("dataset")
    if isinstance(dataset, dict) and isinstance(dataset.get("root"), str):
        dataset["root"] = expanded(dataset["root"])
    return values


def without_hydra(composed: DictConfig) -> DictConfig:
    config = composed.copy()
    with open_dict(config):
        config.pop("hydra", None)
    return config


def _options_of(composed: DictConfig, key: str) -> dict[str, Any]:
    node = OmegaConf.select(composed, key)
    if not isinstance(node, DictConfig):
        raise ConfigError(f"{key}={node}: should be a mapping; give its options one by one")
    return resolved(node)


@dataclass(frozen=True)
class Options:
    """hydra.sweeper. params: overrides to sweep, of an experiment preset say; what is typed wins.
    dry_run: only say what would be started. retry_failed: resume runs that failed before. wait:
    until all runs have ended; else return when they are submitted or, where this machine runs them,
    left to a process of their own. max_jobs: of this user that are in SLURM's queue at a time; null
    is all. id: names the sweep's folder; null is a new one."""

    params: dict[str, Any] | None
    dry_run: bool
    retry_failed: bool
    wait: bool
    max_jobs: Annotated[int, Field(ge=1)] | None
    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")] | None


class ExperimentSweep:
    """Checks every combination before the first one runs, does what is missing, and goes on with
    the others when a run fails."""

    def __init__(self, composer: Composer, arguments: Sequence[Override]) -> None:
        """arguments: the overrides that were typed. Raises ConfigError."""
        self.composer = composer
        of_hydra = [str(each.input_line) for each in arguments if each.is_hydra_override()]
        typed = [each for each in arguments if not each.is_hydra_override()]
        chosen = [each for each in typed if composer.chooses(each)]
        fixed = [str(each.input_line) for each in chosen if not each.is_sweep_override()]
        given = _options_of(composer.compose([*fixed, *of_hydra]), "hydra.sweeper")
        check_arguments("hydra.sweeper", given, Options)
        self.options = Options(**given)
        params = [f"{key}={value}" for key, value in (self.options.params or {}).items()]
        swept = parsed_overrides(params, multirun=True)
        for param in swept:
            if param.is_hydra_override():
                raise ConfigError(f"hydra.sweeper.params: {param.input_line} can't be swept")
        self.dimensions = dimensions([*swept, *typed], composer)
        self._bases: dict[Combination, tuple[DictConfig, dict[str, Any]]] = {}
        preset_alone = {each.key_or_group for each in swept} - {each.key_or_group for each in typed}
        self._replaceable = {
            key: group
            for key in preset_alone
            if (group := key.partition(".")[0]) in {each.key_or_group for each in chosen}
        }
        product = itertools.product(*self.dimensions.values())
        self.combinations = list(dict.fromkeys(map(self._fitting, product)))
        # Hydra's own options may refer to those of the runs, and are the same for all.
        self._explained(self.combinations[0])
        self.first_overrides = [*self.combinations[0], *of_hydra]
        self.first = composer.compose(self.first_overrides)

    def run(self) -> None:
        """Does what is missing. Raises RunError at the end if a run failed, ConfigError if all did,
        for configurations that can't be."""
        console = Console(markup=False, highlight=False, soft_wrap=True)
        os.environ.update(self.first.hydra.job.env_set)
        planned = self.planned()
        for line in self.composer.left_out:
            console.print(line)
        launching = self._launching(planned, console)
        sweep = Sweep(planned, launching, console)
        missing = sweep.sort_out(self.options.retry_failed)
        if self.options.dry_run:
            sweep.tell(missing.values())
            return
        settings = planned[0].config
        place = Path(settings["output_dir"], settings["experiment_name"])
        name = self.options.id or f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
        folder = place / "sweeps" / name
        wait = self.options.wait
        if missing and not wait and not launching.on_other_machines:
            folder.mkdir(parents=True, exist_ok=True)
            sweep.ask_for_all((run for run in planned if run.directory in missing), folder)
            process = self._leave_to_itself(folder)
            console.print(f"left to process {process.pid}, which prints to {folder / 'log.txt'}")
            _wait_for_its_begin(process, folder)
        else:
            try:
                sweep.start(missing, folder, wait)
            except KeyboardInterrupt:
                if launching.on_other_machines:
                    console.print("the jobs go on without this process; scancel ends them")
                raise
        if wait:
            sweep.close()
        else:
            console.print(f"fm-al-status {shlex.quote(str(place))} shows how it goes")

    def _fitting(self, combination: Combination) -> Combination:
        """Without those options of a preset's sweep that are lacking in a group's option which was
        typed in the place of the preset's."""
        if not self._replaceable:
            return combination
        config, choices = self._base(combination)
        lacking: dict[str, list[str]] = {}
        for key, group in self._replaceable.items():
            parent, _, name = key.rpartition(".")
            if name not in (OmegaConf.select(config, parent) or {}):
                lacking.setdefault(group, []).append(key)
        for group, keys in lacking.items():
            self.composer.note_left_out(keys, f"{group}={choices[group]}")
        gone = set(itertools.chain(*lacking.values()))
        return tuple(text for text in combination if parsed(text).key_or_group not in gone)

    def planned(self) -> list[PlannedRun]:
        """The run of each combination. A setting is composed once, whatever the number of its
        seeds: composing takes most of the time in a large sweep."""
        settings: dict[Combination, tuple[DictConfig, Config | None, dict[str, Any]]] = {}
        planned = []
        for combination in self.combinations:
            seeds = [text for text in combination if re.fullmatch(r"seed=\d+", text)]
            setting = tuple(text for text in combination if text not in seeds)
            if setting not in settings:
                settings[setting] = self._setting(setting)
            config, values, choices = settings[setting]
            seed = int(seeds[0].removeprefix("seed=")) if seeds else config.seed
            if values is None:
                config.seed = seed
                values = plain(config)
            planned.append(_planned(values | {"seed": seed}, choices, combination))
        if len({run.directory.is_absolute() for run in planned}) > 1:
            raise ConfigError("output_dir: should be absolute for all runs of a sweep, or for none")
        if len({run.directory for run in planned}) < len(planned):
            raise ConfigError("some runs of this sweep are the same; name each value once")
        return planned

    def _setting(self, setting: Combination) -> tuple[DictConfig, Config | None, dict[str, Any]]:
        """A combination's configuration; as plain values, if these are the same for all seeds; and
        the option chosen of each group."""
        config, choices = self._explained(setting)
        raw = json.dumps(OmegaConf.to_container(config, resolve=False), default=str)
        refers_to_seed = re.search(r"\$\{[^}]*seed", raw)
        return config, None if refers_to_seed else plain(config), choices

    def _explained(self, combination: Combination) -> tuple[DictConfig, dict[str, Any]]:
        """As `_composed`; an error says which other values that are swept it holds for."""
        try:
            return self._composed(combination)
        except ConfigError as error:
            raise ConfigError(f"{error}{self._where_else(combination, error)}") from error

    def _composed(self, combination: Combination) -> tuple[DictConfig, dict[str, Any]]:
        base, choices = self._base(combination)
        config = base.copy()
        options = [text for text in combination if not self.composer.chooses(parsed(text))]
        self.composer.apply(options, config)
        return config, choices

    def _base(self, combination: Combination) -> tuple[DictConfig, dict[str, Any]]:
        """What the choices of a combination compose, without its other overrides."""
        chosen = tuple(text for text in combination if self.composer.chooses(parsed(text)))
        if chosen not in self._bases:
            composed = self.composer.compose(chosen)
            self._bases[chosen] = without_hydra(composed), composed.hydra.runtime.choices
        return self._bases[chosen]

    def _where_else(self, combination: Combination, error: ConfigError) -> str:
        """Which of the options that are swept of a group an error is about, if it is about some."""
        group = re.split(r"[.=]", str(error))[0]
        swept = self.dimensions.get(group, [])
        if len(swept) < 2 or not self.composer.chooses(parsed(swept[0])):
            return ""
        lacking = []
        for text in swept:
            with_it = [text if parsed(each).key_or_group == group else each for each in combination]
            try:
                self._composed(tuple(with_it))
            except ConfigError:
                lacking.append(text.partition("=")[2])
        return f" (in the runs with {group}={','.join(lacking)})"

    def _launching(self, planned: list[PlannedRun], console: Console) -> Launching:
        """What starts the runs, from the options of hydra/launcher."""
        given = _options_of(self.first, "hydra.launcher")
        devices = [run.device for run in planned if not run.is_recorded]
        choice = self.first.hydra.runtime.choices["hydra/launcher"]
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
                from fm_al.launch.job import (
                    Local,  # submitit: here, since a single run does without
                )

                check_arguments("hydra.launcher", given, Local, ("threads", "on_gpu", "console"))
                return Local(
                    **given,
                    threads=max(run.device.threads for run in planned),
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
        from fm_al.launch.job import Slurm  # see `_launching`

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
        return Slurm(parameters, max_num_timeout, self.options.max_jobs, console)

    def _leave_to_itself(self, folder: Path) -> subprocess.Popen[bytes]:
        """Starts this sweep again in a process of its own, which outlives the session and leads a
        group of all that it starts."""
        from fm_al.launch.job import python  # see `_launching`

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
