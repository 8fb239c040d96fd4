"""One run: planned from its configuration, recognised if it is finished, else run or resumed."""

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
from fm_al.records.directory import directory_made
from fm_al.records.notes import STOPPED, Assignment, record_failure
from fm_al.records.provenance import command_line
from fm_al.records.reading import finished_result, seems_finished
from fm_al.records.result_config import (
    NO_FEATURES,
    Config,
    refuse_other_classes,
    result_config_of,
)
from fm_al.records.schema import Result
from fm_al.records.writing import RunRecords, is_left_untidy, open_run
from fm_al.tracking.marks import is_marked_complete, mark_complete
from fm_al.tracking.tracker import NoTracker, TrackedRun, Tracker
from fm_al.tracking.wandb_log import complete_log, remove_superseded_logs

if TYPE_CHECKING:
    from fm_al.preparation import Experiment

logger = logging.getLogger(__name__)

# Their message is enough for a user; other errors are shown with their class and a traceback.
EXPECTED_ERRORS = (ConfigError, RunError, OSError)
KINDS_WITHOUT_TORCH: dict[str, type] = {
    "dataset": Dataset,
    "imbalance": Imbalance,
    "device": Device,
    "tracker": Tracker,
}


@dataclass(frozen=True)
class PlannedRun:
    """A run that a configuration describes, checked before any data are loaded.

    Attributes:
        config: The resolved configuration.
        directory: The run's directory, which may not exist yet.
    """

    config: Config
    directory: Path

    @classmethod
    def of(cls, config: Config, directory: Path) -> PlannedRun:
        """Checks a resolved configuration. Raises ConfigError."""
        run = cls({"features": NO_FEATURES} | config, directory)  # older jobs lack the group
        if not run.is_recorded:
            _ = run.experiment  # checks all of it
        return run

    @cached_property
    def is_recorded(self) -> bool:
        """Whether the directory seems to hold the result of exactly this configuration.

        If so, backbone, strategy and trainer were checked when that run began; checking them again
        would import torch. `result` checks that the files are undamaged.
        """
        if not (self.directory / "result.json").exists():
            return False
        try:
            check_settings(self.config)
            check_groups(self.config, KINDS_WITHOUT_TORCH)
            result_config = self._portable_result_config
        except ConfigError:
            return False  # the whole check then reports the first error in its order
        return seems_finished(self.directory, result_config)

    @cached_property
    def experiment(self) -> Experiment:
        """The experiment, checked and built. Raises ConfigError."""
        # Imported here: torch takes a second, and `--help` and finished runs do without.
        from fm_al.preparation import Experiment

        return Experiment.of(self.config)

    @property
    def device(self) -> Device:
        """The device's options."""
        device: Device = build(self.config["device"])
        return device

    @property
    def result_config(self) -> Config:
        """What results depend on, as far as it is known before the data are loaded."""
        return result_config_of(self.config, self.experiment.device.result_config())

    @property
    def _portable_result_config(self) -> Config:
        """The part of it that does not depend on this machine's devices."""
        return result_config_of(self.config, self.device.portable_result_config())

    def result(self, contents: dict[str, Stored | None] | None = None) -> Result | None:
        """Reads the result of the run, also if it ran on a machine with other devices.

        Args:
            contents: Caches the contents of data sets from one run of a sweep to the next.

        Returns:
            The result, or None if the run is not finished.

        Raises:
            RunError: The directory holds another run, or the content or the classes of the data set
                have changed.
        """
        result_config, stored = self._portable_result_config, None
        if (self.directory / "result.json").exists():  # only then does the content matter here
            data_dir, contents = self.config["data_dir"], {} if contents is None else contents
            key = json.dumps([data_dir, self.config["dataset"]])
            if key not in contents:
                contents[key] = build(self.config["dataset"]).stored(Path(data_dir))
            if (stored := contents[key]) is not None:
                result_config |= {"dataset_content": stored.content}
        result = finished_result(self.directory, result_config)
        if result is not None and stored is not None:
            kept = build(self.config["imbalance"]).kept(stored)
            refuse_other_classes(self.directory, result.class_names, kept)
        return result

    def complete(self, console: Console, result: Result) -> bool:
        """Completes what a finished run may lack after a kill or a dead server: its W&B view, its
        config.yaml.

        Returns:
            Whether it has all of it now.
        """
        tracker: Tracker = build(self.config["tracker"])
        try:
            has_view = isinstance(tracker, NoTracker) or is_marked_complete(self.directory, result)
        except RunError as error:
            logger.warning("%s; it is rewritten", error)
            has_view = False
        if has_view and not is_left_untidy(self.directory):
            return True
        try:
            with open_run(
                self.directory,
                self.config,
                self._portable_result_config,
                result.class_names,
                command_line(),
            ) as records:
                if has_view:
                    return True
                if (log := complete_log(self.directory, result)) is not None:
                    remove_superseded_logs(log)
                    mark_complete(self.directory, result.rounds)
                    return True
                console.print(f"completing the W&B view of {self.directory}", soft_wrap=True)
                tracker.start(self._tracked(records, result.class_names))
                tracker.finish(result)
                return is_marked_complete(self.directory, result)
        except RunLockedError as error:
            console.print(f"the W&B view is left to its writer: {error}", soft_wrap=True)
            return True
        except (RunError, OSError) as error:
            logger.warning("%s can't be completed: %s", self.directory, one_line(error))
        return False

    def run(
        self,
        console: Console,
        sweep: str | None = None,
        command: list[str] | None = None,
        assignment: Assignment | None = None,
    ) -> Result:
        """Runs or resumes the run. If it fails, error.json says why.

        Args:
            console: Where to show progress.
            sweep: Name of the sweep that starts it.
            command: Command line that started it; None for this process's.
            assignment: What job.json is to say from now on; None leaves it alone.

        Raises:
            RunLockedError: Another live process runs it.
            ConfigError: The data do not fit the configuration, or output_dir can't be written to.
            RunError: It can't be run, or failed.
        """
        with failure_recorded(self.directory):
            try:
                return self._run(console, sweep, command or command_line(), assignment)
            except OSError as error:
                raise RunError(
                    f"{one_line(error)}; finished rounds are kept: mend that and start again to "
                    "resume"
                ) from error

    def _run(
        self,
        console: Console,
        sweep: str | None,
        command: list[str],
        assignment: Assignment | None,
    ) -> Result:
        from fm_al.experiment import run_rounds  # these import torch: see `experiment`
        from fm_al.preparation import initial_labels, load_data, preflight

        config, experiment = self.config, self.experiment
        tracker: Tracker = build(config["tracker"])
        result_config = self.result_config
        experiment.device.set_up()
        with directory_made(self.directory, config["output_dir"]):
            data = load_data(experiment, Path(config["data_dir"]), config["download"])
            preflight(experiment, data)
            initial = initial_labels(experiment, data)
        if data.content is not None:
            result_config["dataset_content"] = data.content
        if data.features_content is not None:
            result_config["features_content"] = data.features_content
        class_names = list(data.class_names)
        console.print(data.summary(), soft_wrap=True)
        with (
            open_run(
                self.directory,
                config,
                result_config,
                class_names,
                command,
                sweep,
                assignment,
                data.class_counts(),
                experiment.start.uses_classes and not experiment.budget.whole_pool,
            ) as records,
            RunProgress(console, experiment.budget.schedule(len(data.train))) as progress,
        ):
            tracker.start(self._tracked(records, class_names))
            result = None
            try:
                result = run_rounds(experiment, data, initial, records, tracker, progress)
            finally:
                progress.stage("finishing")
                tracker.finish(result)
            return result

    def _tracked(self, records: RunRecords, class_names: list[str]) -> TrackedRun:
        return TrackedRun(
            records.directory,
            name=str(self.directory.relative_to(self.config["output_dir"])),
            group=self.config["experiment_name"],
            config=self.config,
            class_names=class_names,
            rounds=records.rounds,
            start=records.start,
        )


@contextmanager
def failure_recorded(directory: Path) -> Iterator[None]:
    """Notes an error that ends the block in the run's directory."""
    try:
        yield
    except RunLockedError:
        raise  # the run has not failed: another process runs it
    except KeyboardInterrupt as error:
        record_failure(directory, error, STOPPED)
        raise
    except Exception as error:
        record_failure(directory, error, one_line(error))
        raise


def exit_code(error: BaseException) -> int:
    """2 for a configuration that can't work, 1 for any other error."""
    return 2 if isinstance(error, ConfigError) else 1


def one_line(error: BaseException) -> str:
    """An error in one line, with its class unless it is an expected one."""
    text = " ".join(str(error).split())
    return text if isinstance(error, EXPECTED_ERRORS) else f"{type(error).__name__}: {text}"


def closing_line(result: Result) -> str:
    """The line that ends a finished run's output."""
    return (
        f"accuracy {result.accuracy:.3f}"
        f"  balanced {result.balanced_accuracy:.3f}"
        f"  area under curve {result.area_under_curve:.3f}"
        f"  {result.labelled} labels"
        f"  {duration(sum(result.seconds.values()))}"
    )
