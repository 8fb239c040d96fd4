"""`fm-al -m`: plans a sweep, chooses its launcher, and does what is missing."""

from __future__ import annotations

import os
import secrets
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from hydra.core.override_parser.types import Override
from pydantic import Field
from rich.console import Console

from fm_al.compose.arguments import parsed_overrides
from fm_al.compose.composer import Composer
from fm_al.config import check_arguments
from fm_al.errors import ConfigError
from fm_al.launch.choice import chosen_launcher, options_of
from fm_al.launch.planning import SweepPlan
from fm_al.launch.sweep import Sweep


@dataclass(frozen=True)
class SweepOptions:
    """The options `hydra.sweeper`.

    Attributes:
        params: Overrides to sweep, such as a preset's; the command line wins over them.
        dry_run: List what would be started, and start nothing.
        retry_failed: Resume runs that failed before.
        wait: Wait until all runs have ended. Otherwise return when they are submitted or, if this
            machine runs them, left to a process of their own.
        max_jobs: The most jobs of this user in SLURM's queue at a time; None is no limit.
        id: The name of the sweep's folder; None is a new one.
    """

    params: dict[str, Any] | None
    dry_run: bool
    retry_failed: bool
    wait: bool
    max_jobs: Annotated[int, Field(ge=1)] | None
    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")] | None


class ExperimentSweep:
    """A sweep: every combination is checked before the first one runs, finished runs are skipped,
    and a run that fails does not stop the others.

    Attributes:
        plan: Which runs there are.
        first: The configuration of the first run, with Hydra's own node.
        first_overrides: The overrides that compose it.
    """

    def __init__(self, composer: Composer, arguments: Sequence[Override]) -> None:
        """Plan the sweep. arguments: the overrides that were typed. Raises ConfigError."""
        self.composer = composer
        of_hydra = [str(each.input_line) for each in arguments if each.is_hydra_override()]
        typed = [each for each in arguments if not each.is_hydra_override()]
        fixed = [
            str(each.input_line)
            for each in typed
            if composer.chooses(each) and not each.is_sweep_override()
        ]
        given = options_of(composer.compose([*fixed, *of_hydra]), "hydra.sweeper")
        check_arguments("hydra.sweeper", given, SweepOptions)
        self.options = SweepOptions(**given)
        params = [f"{key}={value}" for key, value in (self.options.params or {}).items()]
        of_preset = parsed_overrides(params, multirun=True)
        for param in of_preset:
            if param.is_hydra_override():
                raise ConfigError(f"hydra.sweeper.params: {param.input_line} can't be swept")
        self.plan = SweepPlan(composer, of_preset, typed)
        self.first_overrides = [*self.plan.combinations[0], *of_hydra]
        self.first = composer.compose(self.first_overrides)

    def run(self) -> None:
        """Do what is missing.

        Raises:
            ConfigError: If the sweep is invalid, or all runs failed because of their configuration.
            RunError: At the end, if a run failed.
        """
        console = Console(markup=False, highlight=False, soft_wrap=True)
        os.environ.update(self.first.hydra.job.env_set)
        planned = self.plan.runs()
        for line in self.composer.left_out:
            console.print(line)
        launcher = chosen_launcher(self.first, planned, self.options.max_jobs, console)
        sweep = Sweep(planned, launcher, console, self.plan.overrides(planned))
        missing = sweep.triage(self.options.retry_failed)
        if self.options.dry_run:
            sweep.print_plan(missing.values())
            return
        settings = planned[0].config
        place = Path(settings["output_dir"], settings["experiment_name"])
        name = self.options.id or f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
        folder, wait = place / "sweeps" / name, self.options.wait
        if missing and not wait and not launcher.on_other_machines:
            self._detach(sweep, missing, folder)
        else:
            try:
                sweep.start(missing, folder, wait)
            except KeyboardInterrupt:
                if launcher.on_other_machines:
                    console.print("the jobs continue without this process; scancel ends them")
                raise
        if wait:
            sweep.summarize_or_raise()
        else:
            console.print(f"fm-al-status {shlex.quote(str(place))} shows how the runs stand")

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
                    device.result_config()  # raises ConfigError for one that is not here
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
