"""One run: checked and built from its configuration, then run from where its records end."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from fm_al.config import build, check_groups, check_settings
from fm_al.data.base import Dataset, Imbalance, Stored
from fm_al.device import Device
from fm_al.errors import ConfigError, RunError, RunLockedError
from fm_al.progress import RunProgress, duration
from fm_al.records.notes import STOPPED, Assignment, record_failure
from fm_al.records.provenance import command_line
from fm_al.records.reading import finished_result, seems_finished
from fm_al.records.result_config import Config, refuse_other_classes, result_config_of
from fm_al.records.schema import Result
from fm_al.records.writing import RunRecords, is_left_untidy, open_run
from fm_al.tracking.wandb_run import (
    NoTracker,
    TrackedRun,
    Tracker,
    drop_other_logs,
    is_noted_as_whole,
    note_as_whole,
    whole_log,
)

if TYPE_CHECKING:
    from fm_al.experiment import Experiment

logger = logging.getLogger(__name__)

EXPECTED_ERRORS = (
    ConfigError,
    RunError,
    OSError,
)  # errors whose line says enough without a traceback
KINDS_WITHOUT_TORCH: dict[str, type] = {
    "dataset": Dataset,
    "imbalance": Imbalance,
    "device": Device,
    "tracker": Tracker,
}


@dataclass(frozen=True)
class PlannedRun:
    """A run that a configuration describes: checked, no data loaded."""

    config: Config
    directory: Path

    @classmethod
    def of(cls, config: Config, directory: Path) -> PlannedRun:
        """config: resolved. Raises ConfigError."""
        run = cls(config, directory)
        if not run.is_recorded:
            _ = run.experiment  # raises for what can't be
        return run

    @cached_property
    def is_recorded(self) -> bool:
        """Whether the directory seems to hold the result of exactly this configuration. Backbone,
        strategy and trainer, which can't be checked without importing torch, were then checked when
        that run began. `result` says whether its files are whole."""
        if not (self.directory / "result.json").exists():
            return False
        try:
            check_settings(self.config)
            check_groups(self.config, KINDS_WITHOUT_TORCH)
            decides = self._portable_result_config
        except ConfigError:
            return False  # so that the whole check says what comes first
        return seems_finished(self.directory, decides)

    @cached_property
    def experiment(self) -> Experiment:
        """Checked and built. Raises ConfigError."""
        # Here, since torch takes a second to import, and help and finished runs do without.
        from fm_al.experiment import Experiment

        return Experiment.of(self.config)

    @property
    def device(self) -> Device:
        device: Device = build(self.config["device"])
        return device

    @property
    def result_config(self) -> Config:
        """What the figures depend on, as far as it is known without the data."""
        return result_config_of(self.config, self.experiment.device.decides())

    def result(self, contents: dict[str, Stored | None] | None = None) -> Result | None:
        """The recorded result if the run is complete, be it on a machine with other devices;
        raises RunError if its directory holds another run, or one on other contents or classes of
        the data set. contents: of data sets that were looked at before, kept for the next run."""
        decides, stored = self._portable_result_config, None
        if (self.directory / "result.json").exists():  # else nobody asks what the data are
            data_dir, contents = self.config["data_dir"], {} if contents is None else contents
            key = json.dumps([data_dir, self.config["dataset"]])
            if key not in contents:
                contents[key] = build(self.config["dataset"]).stored(Path(data_dir))
            if (stored := contents[key]) is not None:
                decides |= {"dataset_content": stored.content}
        result = finished_result(self.directory, decides)
        if result is not None and stored is not None:
            kept = build(self.config["imbalance"]).kept(stored)
            refuse_other_classes(self.directory, result.class_names, kept)
        return result

    @property
    def _portable_result_config(self) -> Config:
        return result_config_of(self.config, self.device.decides_on_any_machine())

    def complete(self, console: Console, result: Result) -> bool:
        """Completes what a finished run has beside its result, where a kill or a dead server came
        before: its W&B view, its config.yaml. Returns whether it has all of it now."""
        tracker: Tracker = build(self.config["tracker"])
        try:
            is_noted = isinstance(tracker, NoTracker) or is_noted_as_whole(self.directory, result)
        except RunError as error:
            logger.warning("%s; it is written anew", error)
            is_noted = False
        if is_noted and not is_left_untidy(self.directory):
            return True
        try:
            with open_run(
                self.directory,
                self.config,
                self._portable_result_config,
                result.class_names,
                command_line(),
            ) as records:
                if is_noted:
                    return True
                if (log := whole_log(self.directory, result)) is not None:
                    drop_other_logs(log)
                    note_as_whole(self.directory, result.rounds)
                    return True
                console.print(f"completing the W&B view of {self.directory}", soft_wrap=True)
                tracker.start(self._tracked(records, result.class_names))
                tracker.finish(result)
                return is_noted_as_whole(self.directory, result)
        except RunLockedError as error:
            console.print(f"the W&B view is left to its writer: {error}", soft_wrap=True)
            return True
        except (RunError, OSError) as error:
            logger.warning("%s can't be completed: %s", self.directory, one_line(error))
        return False

    def _tracked(self, records: RunRecords, class_names: list[str]) -> TrackedRun:
        return TrackedRun(
            records.directory,
            name=str(self.directory.relative_to(self.config["output_dir"])),
            group=self.config["experiment_name"],
            config=self.config,
            class_names=class_names,
            rounds=records.rounds,
            launch=records.start,
        )

    def run(
        self,
        console: Console,
        sweep: str | None = None,
        command: list[str] | None = None,
        assignment: Assignment | None = None,
    ) -> Result:
        """Runs what is missing and returns the result. Why it fails, if it does, is recorded.
        sweep: the id of the one that asks for it. command: that did; null is this process's.
        assignment: as for `open_run`."""
        with failure_recorded(self.directory):
            try:
                return self._run(console, sweep, command or command_line(), assignment)
            except OSError as error:
                raise RunError(
                    f"{one_line(error)}; finished rounds are kept: mend that and start again to go "
                    "on"
                ) from error

    def _run(
        self, console: Console, sweep: str | None, command: list[str], assignment: Assignment | None
    ) -> Result:
        from fm_al.experiment import load_data, run  # torch: see `experiment`

        config, experiment = self.config, self.experiment
        tracker: Tracker = build(config["tracker"])
        decides = self.result_config
        experiment.device.set_up()
        data = load_data(experiment, Path(config["data_dir"]), config["download"])
        if data.content is not None:
            decides["dataset_content"] = data.content
        class_names = list(data.class_names)
        console.print(data.summary(), soft_wrap=True)
        with (
            open_run(
                self.directory,
                config,
                decides,
                class_names,
                command,
                sweep,
                assignment,
                data.class_counts(),
            ) as records,
            RunProgress(console, experiment.budget.schedule()) as progress,
        ):
            tracker.start(self._tracked(records, class_names))
            result = None
            try:
                result = run(experiment, data, records, tracker, progress)
            finally:
                progress.stage("finishing")
                tracker.finish(result)
            return result


@contextmanager
def failure_recorded(directory: Path) -> Iterator[None]:
    """Notes in a run's directory the error that ends what is done inside."""
    try:
        yield
    except RunLockedError:
        raise  # the run goes on, elsewhere
    except KeyboardInterrupt as error:
        record_failure(directory, error, STOPPED)
        raise
    except Exception as error:
        record_failure(directory, error, one_line(error))
        raise


def exit_code(error: BaseException) -> int:
    return 2 if isinstance(error, ConfigError) else 1


def one_line(error: BaseException) -> str:
    """An error for people: its kind only where it is none that fm_al words itself."""
    text = " ".join(str(error).split())
    return text if isinstance(error, EXPECTED_ERRORS) else f"{type(error).__name__}: {text}"


def closing_line(result: Result) -> str:
    """A finished run's figures."""
    return (
        f"accuracy {result.accuracy:.3f}"
        f"  balanced {result.balanced_accuracy:.3f}"
        f"  area under curve {result.area_under_curve:.3f}"
        f"  {result.labelled} labels"
        f"  {duration(sum(result.seconds.values()))}"
    )
