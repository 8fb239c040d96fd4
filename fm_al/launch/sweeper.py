"""`fm-al -m`: plans a sweep, chooses its launcher, and does what is missing."""

from __future__ import annotations

import os
import secrets
import shlex
import time
from collections.abc import Iterable, Sequence
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
from fm_al.launch.detached import start_detached, wait_until_started
from fm_al.launch.planning import SweepPlan
from fm_al.launch.sweep import Sweep
from fm_al.records.directory import output_dir_named


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

    def _detach(self, sweep: Sweep, missing: Iterable[Path], folder: Path) -> None:
        """Leave the missing runs to a process of their own."""
        chosen = set(missing)
        with output_dir_named(sweep.planned[0].config["output_dir"]):
            folder.mkdir(parents=True, exist_ok=True)
        sweep.assign_all((run for run in sweep.planned if run.directory in chosen), folder)
        process = start_detached(folder)
        sweep.console.print(f"left to process {process.pid}, which prints to {folder / 'log.txt'}")
        wait_until_started(process, folder)
