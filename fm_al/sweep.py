"""What `-m` adds: which combinations there are, which are finished, and how they went."""

from __future__ import annotations

import hashlib
import os
import re
import statistics
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from rich import box
from rich.console import Console
from rich.table import Table

from fm_al.errors import ConfigError, RunError
from fm_al.records import NOT_DECIDING, Record, finished_result, what_decides

if TYPE_CHECKING:
    from fm_al.experiment import Experiment

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
FORESEEN = (ConfigError, RunError, OSError)  # errors whose line says enough without a traceback


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


@dataclass(frozen=True)
class PlannedRun:
    """A run that a configuration and its overrides describe: checked, built, nothing loaded."""

    config: Record
    experiment: Experiment
    directory: Path

    @classmethod
    def of(
        cls, composed: DictConfig, choices: Mapping[str, Any], overrides: Sequence[str]
    ) -> PlannedRun:
        """composed: with or without Hydra's own node. Raises ConfigError."""
        job = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
        # Here, since torch takes seconds to import, and help and completion do without.
        from fm_al.experiment import Experiment

        try:
            config: Any = OmegaConf.to_container(job, resolve=True, throw_on_missing=True)
        except MissingMandatoryValue as error:
            key = error.full_key
            raise ConfigError(f"{key}: has no default; give it as {key}=...") from None
        except OmegaConfBaseException as error:
            raise ConfigError(one_line(error)) from None
        experiment = Experiment.of(config)
        return cls(config, experiment, run_directory(config, choices, overrides))

    @property
    def decides(self) -> Record:
        """What the figures depend on, as far as it is known without the data."""
        return what_decides(self.config, self.experiment.device.decides())

    def result(self) -> Record | None:
        """The recorded result if the run is complete; raises RunError if its directory holds
        another run, or one on other contents of the data set."""
        result = finished_result(self.directory, self.decides)
        if result is None:
            return None
        content = self.experiment.dataset.stored_content(Path(self.config["data_dir"]))
        if content is None:
            return result
        return finished_result(self.directory, self.decides | {"dataset_content": content})


class ExperimentSweeper(Sweeper):
    """Checks every combination before the first one runs, skips what is finished, and goes on with
    the others when a run fails."""

    def __init__(self, params: dict[str, Any] | None) -> None:
        """params: overrides to sweep, of an experiment preset say; what is typed wins."""
        self.params = [f"{key}={value}" for key, value in (params or {}).items()]

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Called by Hydra."""
        self.config = config
        self.config_loader = hydra_context.config_loader
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        """Runs what is missing. Raises RunError at the end if a run failed, ConfigError if all that
        failed did for a configuration that can't be."""
        assert self.launcher is not None
        console = Console(markup=False, highlight=False)
        planned = self._planned(arguments)
        results = {run.directory: run.result() for _, run in planned}
        missing = [(overrides, run) for overrides, run in planned if not results[run.directory]]
        if finished := len(planned) - len(missing):
            console.print(f"{finished} of {len(planned)} runs are finished")
        returns: list[Sequence[JobReturn]] = []
        failures: dict[Path, Exception] = {}
        for number, (overrides, run) in enumerate(missing):
            console.print(
                f"run {number + 1} of {len(missing)}: {run.directory}",
                style="bold",
                soft_wrap=True,
            )
            jobs = self.launcher.launch([overrides], initial_job_idx=number)
            returns.append(jobs)
            if jobs[0].status == JobStatus.COMPLETED:
                results[run.directory] = jobs[0].return_value
            else:
                error = failures[run.directory] = jobs[0]._return_value
                if not isinstance(error, FORESEEN):
                    traceback.print_exception(error)
                console.print(f"failed: {one_line(error)}", soft_wrap=True)
        console.print(summary({directory: r for directory, r in results.items() if r}))
        folder = os.path.commonpath([run.directory for _, run in planned])
        console.print(f"records: {folder}", soft_wrap=True)
        if failures:
            listed = "; ".join(f"{run}: {one_line(error)}" for run, error in failures.items())
            foreseeable = all(isinstance(error, ConfigError) for error in failures.values())
            kind = ConfigError if foreseeable else RunError
            raise kind(f"{len(failures)} of {len(planned)} runs failed: {listed}")
        return returns

    def _planned(self, arguments: list[str]) -> list[tuple[list[str], PlannedRun]]:
        """Each combination's overrides, and its run. A combination is composed once, whatever the
        number of its seeds: composing is what takes time in a large sweep."""
        assert self.config is not None
        parser = OverridesParser.create(config_loader=self.config_loader)
        overrides = parser.parse_overrides([*self.params, *arguments])
        (combinations,) = BasicSweeper.split_arguments(overrides, None)
        composed: dict[tuple[str, ...], DictConfig] = {}
        planned = []
        for combination in combinations:
            but_seed = tuple(text for text in combination if not re.fullmatch(r"seed=\d+", text))
            if but_seed not in composed:
                composed[but_seed] = self.config_loader.load_sweep_config(
                    self.config, list(but_seed)
                )
            config = composed[but_seed].copy()
            for text in set(combination) - set(but_seed):
                config.seed = int(text.removeprefix("seed="))
            run = PlannedRun.of(config, config.hydra.runtime.choices, combination)
            planned.append((combination, run))
        if len({run.directory for _, run in planned}) < len(planned):
            raise ConfigError("some runs of this sweep are the same; name each value once")
        return planned


def register() -> None:
    """Makes the sweeper known under the name that `conf/config.yaml` gives it: Hydra takes plugins
    from the package `hydra_plugins` only, where there may be none installed."""
    plugins = Plugins.instance()
    package, module = "hydra_plugins", "hydra_plugins.fm_al"
    sys.modules.setdefault(package, ModuleType(package))
    sys.modules[module] = sys.modules[__name__]
    ExperimentSweeper.__module__ = module
    plugins.register(ExperimentSweeper)


def one_line(error: BaseException) -> str:
    """An error for people: its kind only where it is none that fm_al words itself."""
    text = " ".join(str(error).split())
    if isinstance(error, OSError):
        return f"{text}; finished rounds are kept: mend that and start again to go on"
    return text if isinstance(error, FORESEEN) else f"{type(error).__name__}: {text}"


def summary(results: dict[Path, Record]) -> Table:
    """A row for the runs that differ in nothing but the seed: mean and standard deviation over the
    seeds of the final accuracy, balanced accuracy and area under the accuracy curve."""
    table = Table(
        title="mean ± standard deviation over seeds; area: under the accuracy curve",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for column in ("run", "seeds", "labels", "accuracy", "balanced", "area"):
        is_name = column == "run"
        table.add_column(
            column,
            justify="left" if is_name else "right",
            no_wrap=not is_name,
            overflow="fold",
        )
    by_setting: dict[Path, list[Record]] = {}
    for directory, result in results.items():
        by_setting.setdefault(directory.parent, []).append(result)
    for name, runs in zip(_told_apart(list(by_setting)), by_setting.values(), strict=True):
        table.add_row(
            name,
            str(len(runs)),
            str(runs[0]["labelled"]),
            *(
                _mean_and_deviation([run[figure] for run in runs])
                for figure in ("accuracy", "balanced_accuracy", "area_under_curve")
            ),
        )
    return table


def _told_apart(settings: list[Path]) -> list[str]:
    """Each path by the folders in which it differs from others; one path by its strategy."""
    levels = list(zip(*(setting.parts for setting in settings), strict=False))
    if any(len(setting.parts) != len(levels) for setting in settings):
        shared = os.path.commonpath([setting.parent for setting in settings])
        return [str(setting.relative_to(shared)) for setting in settings]
    strategy = [level for level in levels if "=" not in level[0]][-1:]
    differ = [level for level in levels if len(set(level)) > 1] or strategy
    return ["/".join(parts) for parts in zip(*differ, strict=True)]


def _mean_and_deviation(values: list[float]) -> str:
    mean = f"{statistics.fmean(values):.3f}"
    return f"{mean} ± {statistics.stdev(values):.3f}" if len(values) > 1 else mean
