"""One run: checked and built from its configuration, then run from where its records end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from fm_al.config import build
from fm_al.errors import ConfigError, HeldError, RunError
from fm_al.progress import RunProgress, duration
from fm_al.records import (
    Asked,
    Record,
    command_line,
    finished_result,
    open_run,
    record_failure,
    refuse_other_classes,
    what_decides,
)
from fm_al.tracking import TrackedRun, Tracker

if TYPE_CHECKING:
    from fm_al.data.base import Stored
    from fm_al.experiment import Experiment

FORESEEN = (ConfigError, RunError, OSError)  # errors whose line says enough without a traceback


@dataclass(frozen=True)
class PlannedRun:
    """A run that a configuration describes: checked, built, nothing loaded."""

    config: Record
    experiment: Experiment
    directory: Path

    @classmethod
    def of(cls, config: Record, directory: Path) -> PlannedRun:
        """config: resolved. Raises ConfigError."""
        # Here, since torch takes seconds to import, and help and completion do without.
        from fm_al.experiment import Experiment

        return cls(config, Experiment.of(config), directory)

    @property
    def decides(self) -> Record:
        """What the figures depend on, as far as it is known without the data."""
        return what_decides(self.config, self.experiment.device.decides())

    def result(self, contents: dict[str, Stored | None] | None = None) -> Record | None:
        """The recorded result if the run is complete, be it on a machine with other devices;
        raises RunError if its directory holds another run, or one on other contents or classes of
        the data set. contents: of data sets that were looked at before, kept for the next run."""
        decides = what_decides(self.config, self.experiment.device.decides_on_any_machine())
        result = finished_result(self.directory, decides)
        if result is None:
            return None
        data_dir, contents = self.config["data_dir"], {} if contents is None else contents
        key = json.dumps([data_dir, self.config["dataset"]])
        if key not in contents:
            contents[key] = self.experiment.dataset.stored(Path(data_dir))
        stored = contents[key]
        if stored is None:
            return result
        result = finished_result(self.directory, decides | {"dataset_content": stored.content})
        if result is not None and "class_names" in result:
            kept = self.experiment.imbalance.kept(stored)
            refuse_other_classes(self.directory, result["class_names"], kept)
        return result

    def run(
        self,
        console: Console,
        sweep: str | None = None,
        command: list[str] | None = None,
        asked: Asked | None = None,
    ) -> Record:
        """Runs what is missing and returns the result. Why it fails, if it does, is recorded.
        sweep: the id of the one that asks for it. command: that did; null is this process's. asked:
        as for `open_run`."""
        with failure_recorded(self.directory):
            try:
                return self._run(console, sweep, command or command_line(), asked)
            except OSError as error:
                raise RunError(
                    f"{one_line(error)}; finished rounds are kept: mend that and start again to go "
                    "on"
                ) from error

    def _run(
        self, console: Console, sweep: str | None, command: list[str], asked: Asked | None
    ) -> Record:
        from fm_al.experiment import load_data, run  # torch: see `of`

        config, experiment = self.config, self.experiment
        tracker: Tracker = build(config["tracker"])
        decides = self.decides
        experiment.device.set_up()
        data = load_data(experiment, Path(config["data_dir"]), config["download"])
        if data.content is not None:
            decides["dataset_content"] = data.content
        class_names = list(data.class_names)
        class_counts = dict(zip(("pool_counts", "test_counts"), data.class_counts(), strict=True))
        console.print(data.summary(), soft_wrap=True)
        with (
            open_run(
                self.directory, config, decides, class_names, command, sweep, asked, class_counts
            ) as records,
            RunProgress(console, experiment.budget.labelled()) as progress,
        ):
            tracker.start(
                TrackedRun(
                    records.directory,
                    name=str(self.directory.relative_to(config["output_dir"])),
                    group=config["experiment_name"],
                    config=config,
                    class_names=class_names,
                    rounds=records.rounds,
                    launch=records.start,
                )
            )
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
    except HeldError:
        raise  # the run goes on, elsewhere
    except Exception as error:
        record_failure(directory, error, one_line(error))
        raise


def exit_code(error: BaseException) -> int:
    return 2 if isinstance(error, ConfigError) else 1


def one_line(error: BaseException) -> str:
    """An error for people: its kind only where it is none that fm_al words itself."""
    text = " ".join(str(error).split())
    return text if isinstance(error, FORESEEN) else f"{type(error).__name__}: {text}"


def closing_line(result: Record) -> str:
    """A finished run's figures."""
    return (
        f"accuracy {result['accuracy']:.3f}"
        f"  balanced {result['balanced_accuracy']:.3f}"
        f"  area under curve {result['area_under_curve']:.3f}"
        f"  {result['labelled']} labels"
        f"  {duration(sum(result['seconds'].values()))}"
    )
