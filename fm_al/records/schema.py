"""What a run's files hold: every field once, with its meaning and its unit.

The writer builds these models and every reader takes them. What is written is `as_json()`: the
fields that were set, in the order below. A field with a default may be absent, in records of older
versions or where its description says so; `lacks` tells. An absent number reads as NaN.

To add a field, add it here with a default, and its row to docs/records.md (a test prints the row).
"""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import Field
from pydantic.config import JsonDict
from pydantic.fields import FieldInfo

from fm_al.records.json_files import Schema
from fm_al.records.result_config import Config, as_now

Count = Annotated[int, Field(ge=0, lt=2**63)]
Share = Annotated[float, Field(ge=0, le=1)]
SquaredError = Annotated[float, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0, lt=2**63)]
Text = Annotated[str, Field(pattern=r"^[^\x00]*$")]  # no path or argument can hold a NUL


def _about(
    unit: str, meaning: str, *, per_class: bool = False, is_metric: bool = True
) -> FieldInfo:
    """Documents a field. per_class: a list with an entry for each class. is_metric: worth a plot
    over rounds."""
    extra: JsonDict = {"unit": unit, "per_class": per_class, "is_metric": is_metric}
    return Field(description=meaning, json_schema_extra=extra)


class _Metrics(Schema):
    """A record with metrics in it."""

    @classmethod
    def names(cls, **traits: bool) -> list[str]:
        """Returns the fields with these traits; see `_about`."""
        extras = {name: field.json_schema_extra for name, field in cls.model_fields.items()}
        return [
            name
            for name, extra in extras.items()
            if isinstance(extra, dict) and traits.items() <= extra.items()
        ]


class Round(_Metrics):
    """A finished round: a line of `rounds.jsonl`."""

    round: Annotated[Count, _about("index", "Index of the round, from 0.")]
    labelled: Annotated[
        Count, _about("images", "Labelled images that the round's network was trained on.")
    ]
    labelled_classes: Annotated[
        list[Count], _about("images", "The labelled images of each class.", per_class=True)
    ] = Field(default_factory=list)
    queried: Annotated[
        list[Count],
        _about(
            "pool indices",
            "Images that the round's query chose, in the strategy's order; they are labelled from "
            "the next round on. Empty in the last round.",
            is_metric=False,
        ),
    ]
    queried_classes: Annotated[
        list[Count], _about("images", "The queried images of each class.", per_class=True)
    ] = Field(default_factory=list)
    accuracy: Annotated[Share, _about("fraction", "Test images that are classified correctly.")]
    balanced_accuracy: Annotated[
        Share, _about("fraction", "Mean over classes of the accuracy on that class.")
    ] = math.nan
    worst_class_accuracy: Annotated[
        Share, _about("fraction", "Smallest accuracy on a class, among classes with test images.")
    ] = math.nan
    macro_f1: Annotated[Share, _about("fraction", "Mean over classes of the F1 score.")] = math.nan
    per_class_accuracy: Annotated[
        list[Share | None],
        _about(
            "fraction",
            "Accuracy on the test images of each class; null for a class without any.",
            per_class=True,
        ),
    ] = Field(default_factory=list)
    loss: Annotated[float, _about("nats", "Mean cross-entropy over the test images.")] = math.nan
    expected_calibration_error: Annotated[
        Share,
        _about(
            "fraction",
            "Sum over 15 equal-width bins of the top-1 confidence, the upper edge included, of "
            "(test images in the bin / all) x abs(accuracy - mean confidence) (Guo et al. 2017).",
        ),
    ] = math.nan
    brier_score: Annotated[
        SquaredError,
        _about(
            "squared probability",
            "Mean over test images of the sum over classes of (probability - 1 if it is the class, "
            "else 0) squared, from 0 to 2 (Brier 1950).",
        ),
    ] = math.nan
    epochs: Annotated[Count | None, _about("epochs", "Epochs that the round trained for.")] = None
    train_accuracy: Annotated[
        Share,
        _about(
            "fraction",
            "Accuracy on the training batches of the last epoch; with `trainer.sampling=balanced` "
            "its draws have every class equally often, on average.",
        ),
    ] = math.nan
    epoch_cap_hit: Annotated[
        bool,
        _about(
            "true or false",
            "Training ended at `trainer.max_epochs`, before "
            "`trainer.stop_at_train_accuracy` was reached.",
        ),
    ] = False
    seconds: Annotated[
        dict[str, Seconds],
        _about("seconds", "Wall-clock time of each stage: `train`, `evaluate`, `query`."),
    ] = Field(default_factory=dict)
    strategy: Annotated[
        dict[str, Any],
        _about(
            "the strategy's",
            "What the strategy recorded with `query.record(name, value)`, by name.",
        ),
    ] = Field(default_factory=dict)
    confusion_matrix: Annotated[
        list[list[Count]],
        _about(
            "images",
            "Test images by actual class (row) and predicted class (column). Only in the last "
            "round.",
            is_metric=False,
        ),
    ] = Field(default_factory=list)
    weights_digest: Annotated[
        str | None,
        _about(
            "hex",
            "Digest of the checkpoint `weights-<round>.pt`. Only where the next round starts from "
            "it.",
            is_metric=False,
        ),
    ] = None
    digest: Annotated[
        str,
        _about(
            "hex",
            "Digest of this line and of the digest before it; the first line continues the "
            "fingerprint.",
            is_metric=False,
        ),
    ] = ""


class Result(_Metrics):
    """The final metrics: `result.json`, whose presence says that the run is finished."""

    rounds: Annotated[Count, _about("rounds", "Number of rounds.")]
    labelled: Annotated[Count, _about("images", "As in the last round.")]
    accuracy: Annotated[Share, _about("fraction", "As in the last round.")]
    balanced_accuracy: Annotated[Share, _about("fraction", "As in the last round.")]
    worst_class_accuracy: Annotated[Share, _about("fraction", "As in the last round.")] = math.nan
    macro_f1: Annotated[Share, _about("fraction", "As in the last round.")] = math.nan
    per_class_accuracy: Annotated[
        list[Share | None], _about("fraction", "As in the last round.", per_class=True)
    ] = Field(default_factory=list)
    loss: Annotated[float, _about("nats", "As in the last round.")] = math.nan
    expected_calibration_error: Annotated[Share, _about("fraction", "As in the last round.")] = (
        math.nan
    )
    brier_score: Annotated[SquaredError, _about("squared probability", "As in the last round.")] = (
        math.nan
    )
    area_under_curve: Annotated[
        Share,
        _about(
            "fraction", "Area under the accuracy over the number of labels, divided by its range."
        ),
    ]
    class_names: Annotated[
        list[str],
        _about("names", "Names of the classes, in the order of all lists.", is_metric=False),
    ]
    confusion_matrix: Annotated[
        list[list[Count]], _about("images", "As in the last round.", is_metric=False)
    ]
    seconds: Annotated[
        dict[str, Seconds],
        Field(min_length=1),
        _about("seconds", "Wall-clock time of each stage, summed over all rounds."),
    ]
    digest: Annotated[
        str,
        _about("hex", "Digest of this file and of the last round's digest.", is_metric=False),
    ] = ""


class Start(Schema):
    """One start of a run: an entry of `starts` in `provenance.json`."""

    time: Annotated[str | None, _about("ISO 8601, UTC", "When the run was started.")] = None
    host: Annotated[str | None, _about("name", "Machine that the process ran on.")] = None
    process: Annotated[int | None, _about("process id", "Process that ran it.")] = None
    job: Annotated[
        str | None,
        _about("SLURM job id", "Job that it was, `<array>_<task>` in an array; null outside one."),
    ] = None
    node: Annotated[str | None, _about("name", "SLURM's name of the node.")] = None
    partition: Annotated[str | None, _about("name", "SLURM partition.")] = None
    sweep: Annotated[
        str | None, _about("name", "Folder name of the sweep that started it; null for `fm-al`.")
    ] = None
    command: Annotated[
        list[str],
        _about("arguments", "Command line, with dots for options that may hold a secret."),
    ] = Field(default_factory=list)


class Provenance(Schema):
    """Which run it is, with which software, started by whom: `provenance.json`."""

    fingerprint: Annotated[str, _about("hex", "SHA-256 of `decides`.")]
    decides: Annotated[
        Config,
        _about(
            "the options'",
            "The options that affect results, as written by the version that started the run. In "
            "Python: `result_config`.",
        ),
    ]
    class_names: Annotated[
        list[str], _about("names", "Names of the classes, in the order of all lists.")
    ] = Field(default_factory=list)
    pool_counts: Annotated[
        list[Count], _about("images", "Pool images of each class, labelled or not.")
    ] = Field(default_factory=list)
    test_counts: Annotated[list[Count], _about("images", "Test images of each class.")] = Field(
        default_factory=list
    )
    start_uses_classes: Annotated[
        bool,
        _about(
            "true or false",
            "The first labels were chosen with the classes of the whole pool, which no real "
            "labelling knows (`budget.start`).",
        ),
    ] = False
    software: Annotated[
        dict[str, str | None],
        _about(
            "versions",
            "Version of each package when the run began, `git_commit` (`+` after it: with "
            "uncommitted changes) and `source`, a digest of this package's code.",
        ),
    ]
    starts: Annotated[
        list[Start], Field(min_length=1), _about("starts", "Every start of the run, first to last.")
    ]

    @property
    def result_config(self) -> Config:
        """`decides`, with options that were added since then at the values that match what the run
        did."""
        return as_now(self.decides)


class Failure(Schema):
    """Why the last start failed, or that it was stopped: `error.json`."""

    time: Annotated[str | None, _about("ISO 8601, UTC", "When it failed.")] = None
    kind: Annotated[
        str, _about("class name", "Class of the error; `KeyboardInterrupt` after Ctrl-C.")
    ]
    message: Annotated[str, _about("text", "The error in one line.")]
    host: Annotated[str | None, _about("name", "Machine that the process ran on.")] = None
    process: Annotated[int | None, _about("process id", "Process that failed.")] = None
    job: Annotated[str | None, _about("SLURM job id", "Job that it was; null outside one.")] = None
    node: Annotated[str | None, _about("name", "SLURM's name of the node.")] = None
    partition: Annotated[str | None, _about("name", "SLURM partition.")] = None


class JobNote(Schema):
    """Which sweep, and which of its jobs, is to run the run: `job.json`."""

    time: Annotated[str | None, _about("ISO 8601, UTC", "When the run was assigned.")] = None
    folder: Annotated[Text, _about("path", "Sweep's folder, relative to the run's directory.")]
    job: Annotated[Text | None, _about("SLURM job id", "Job; null if the sweep itself runs it.")]
    cluster: Annotated[Text | None, _about("name", "SLURM cluster; null for the default.")] = None
    log: Annotated[
        Text | None, _about("path", "Job's output, relative to the run's directory; null if none.")
    ]
