"""A W&B run that holds a run's rounds and result."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from fm_al.records.schema import Result, Round
from fm_al.tracking.marks import run_id
from fm_al.tracking.tracker import TrackedRun
from fm_al.tracking.wandb_log import history
from fm_al.tracking.wandb_process import keep_service_private, quiet_settings, register_exit_hook

LONGEST_NAME = 128  # characters; the W&B server refuses longer names of runs and groups
A_DAY = 86_400.0  # seconds
WRITE_TIMEOUT = 5.0  # seconds in which wandb should have written what it was given
START_FIELDS = {"sweep", "job", "node", "partition", "host"}  # what W&B is told of a start


@dataclass(kw_only=True)
class WandbOptions:
    """How a run is logged to W&B: the options of `conf/tracker/`.

    Args:
        project: W&B project.
        entity: User or team; None for the account's default.
        group: Group of the run; None for the experiment's name.
        tags: Tags of the run.
        notes: Notes of the run.
        mode: `offline` writes to the run's directory, `online` also sends.
        init_timeout: Seconds to wait for the server at the start.
        finish_timeout: Seconds to wait for the server at the end.
    """

    project: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^/\\#?%:]+$")]
    entity: str | None
    group: str | None
    tags: list[Annotated[str, Field(min_length=1, max_length=64)]]
    notes: str | None
    mode: Literal["offline", "online"]
    init_timeout: Annotated[float, Field(gt=0, le=A_DAY)]
    finish_timeout: Annotated[float, Field(gt=0, le=A_DAY)]


class WandbRun:
    """The W&B run of a run's directory, open for all rounds from the first."""

    def __init__(self, options: WandbOptions, tracked: TrackedRun, folder: Path) -> None:
        """Begins or resumes it. folder: where wandb puts its files."""
        import wandb

        self.tracked = tracked
        self._logged: list[int] = []
        offline = options.mode == "offline"
        settings = quiet_settings(
            # The records have the machine, the code and the versions.
            disable_code=True,
            disable_git=True,
            disable_job_creation=True,
            label_disable=True,
            save_code=False,
            x_disable_machine_info=True,
            x_disable_meta=True,
            x_disable_stats=True,
            x_save_requirements=False,
            symlink=False,
            use_dot_wandb=False,
            init_timeout=options.init_timeout,
            finish_timeout=options.finish_timeout,
            finish_timeout_raises=True,
        )
        wandb.setup(
            settings=settings
        )  # given to `init` alone, they come too late for a silent login
        register_exit_hook()
        self.run = wandb.init(
            project=options.project,
            entity=options.entity,
            dir=folder.absolute(),  # the service may have been started in another folder
            id=run_id(tracked.directory),
            name=tracked.name[-LONGEST_NAME:],
            notes=options.notes,
            tags=options.tags,
            config=tracked.config | {"launch": tracked.start.model_dump(include=START_FIELDS)},
            group=(options.group or tracked.group)[-LONGEST_NAME:],
            mode=options.mode,
            reinit="create_new",
            resume=None if offline else "allow",
            settings=settings,
        )
        keep_service_private()
        self.run.define_metric("labelled")
        self.run.define_metric("*", step_metric="labelled")

    def log_round(self, record: Round) -> None:
        """Logs a round. Call it for every round, including those already uploaded."""
        import wandb

        row = metrics(record, self.tracked.class_names)
        if any(record.queried_classes):
            counts = zip(self.tracked.class_names, record.queried_classes, strict=True)
            row["query"] = wandb.plot.bar(
                wandb.Table(columns=["class", "images"], data=[list(count) for count in counts]),
                label="class",
                value="images",
                title="Queried images",
            )
        self._last_round = record
        self._log(record.round, row)

    def log_result(self, result: Result) -> None:
        """Puts the final metrics into the summary, the confusion matrix into a row of its own."""
        import wandb

        self.run.summary.update(metrics(result, self.tracked.class_names))
        cells = [
            [actual, predicted, count]
            for actual, counts in zip(
                self.tracked.class_names, result.confusion_matrix, strict=True
            )
            for predicted, count in zip(self.tracked.class_names, counts, strict=True)
        ]
        if len(cells) > wandb.Table.MAX_ROWS:  # the rest would be cut off
            cells = [cell for cell in cells if cell[2]]
        columns = ("Actual", "Predicted", "nPredictions")
        chart = wandb.plot_table(
            "wandb/confusion_matrix/v1",
            wandb.Table(columns=[*columns], data=cells),
            fields={column: column for column in columns},
            string_fields={"title": "Confusion matrix of the test set"},
        )
        row = {"labelled": self._last_round.labelled, "confusion_matrix": chart}
        self._log(self._last_round.round + 1, row)

    def _log(self, step: int, row: dict[str, Any]) -> None:
        import wandb

        for name, value in row.items():
            if isinstance(value, wandb.plot.CustomChart):
                value.set_key(name)
                # A bound table is a file of the run. An unbound one also becomes an artifact, which
                # offline runs leave behind in the home directory.
                value.table.bind_to_run(self.run, value.spec.table_key, step)
        # The server has this row since before an interruption, but perhaps not its tables.
        if step < self.run.starting_step:
            return
        self.run.log(row, step=step, commit=True)
        self._logged.append(step)

    def finish(self, exit_code: int) -> None:
        """Ends the run.

        Returns once wandb's log has all rows and, as far as wandb says, they were sent.

        Raises:
            OSError: The log lacks rows.
            TimeoutError: Not everything was sent in time.
        """
        self.run.finish(exit_code=exit_code)
        log = self.log
        # wandb's `finish` neither waits for the log nor says that writing it failed.
        deadline = time.monotonic() + WRITE_TIMEOUT
        while [row["_step"] for row in history(log)] != self._logged:
            if time.monotonic() > deadline:
                raise OSError(f"{log} lacks rounds that were logged (is the disk full?)")
            time.sleep(0.05)

    @property
    def log(self) -> Path:
        """The log that wandb writes."""
        return Path(self.run.dir).parent / f"run-{self.run.id}.wandb"


def metrics(record: Round | Result, class_names: list[str]) -> dict[str, Any]:
    """Returns what a record holds to plot, by name: nested values as `seconds/train`, a class's as
    `per_class_accuracy/<class>`."""
    values = record.as_json()
    for name in type(record).names(is_metric=False):
        values.pop(name, None)
    for name in type(record).names(per_class=True):
        if name in values:
            values[name] = dict(zip(class_names, values[name], strict=True))
    return dict(_flattened(values))


def _flattened(values: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from ((f"{key}/{name}", each) for name, each in _flattened(value))
        else:
            yield key, value
