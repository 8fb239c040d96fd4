"""Log a report to Weights & Biases: a run for each experiment, in the group of its runs."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fm_al.errors import ConfigError, RunError
from fm_al.records.reading import stored_run
from fm_al.report.notices import ALL_SETTINGS
from fm_al.report.report import Part, Report
from fm_al.report.runs import Runs
from fm_al.report.typeset import columns_of
from fm_al.tracking.upload import WANDB_TRACKER, connected_server
from fm_al.tracking.wandb_process import keep_service_private, quiet_settings
from fm_al.tracking.wandb_run import LONGEST_NAME

logger = logging.getLogger(__name__)


def log_summary_runs(report: Report, folder: Path, wanted: Mapping[str, str | None]) -> list[str]:
    """Log tables and figures. The same report logs to the same runs again.

    Args:
        report: What to log.
        folder: Where the report was written to.
        wanted: Project, entity and group; None for those of the runs.

    Returns:
        Addresses of the W&B runs; offline, their folders, for `wandb sync`.

    Raises:
        ConfigError: The runs have no project, and none is given.
        RunError: W&B cannot be used.
    """
    if os.environ.get("WANDB_MODE") != "offline":
        connected_server()
    of_settings = trackers_of(report.runs, wanted)
    experiments: dict[str, list[Part]] = {}
    trackers: dict[str, Mapping[str, Any]] = {}
    for part in report.parts:
        if part.title == ALL_SETTINGS:
            continue
        run = report.runs.of(part.title).runs[0]
        experiment = run.config["experiment_name"]
        experiments.setdefault(experiment, []).append(part)
        trackers[experiment] = of_settings[part.title]
    together = [part for part in report.parts if part.title == ALL_SETTINGS]
    return [
        _log(report, [*parts, *together], experiment, trackers[experiment], folder)
        for experiment, parts in experiments.items()
    ]


def trackers_of(runs: Runs, wanted: Mapping[str, str | None]) -> dict[str, Mapping[str, Any]]:
    """Project, entity and group, by setting. Arguments and errors as for `log_summary_runs`."""
    return {setting: _tracker_of(runs.of(setting), wanted) for setting in runs.settings}


def _tracker_of(runs: Runs, wanted: Mapping[str, str | None]) -> Mapping[str, Any]:
    """The tracker of the first run whose config.yaml can be read; logs the ones before it."""
    damaged: list[RunError] = []
    for run in runs.runs:
        try:
            return _tracker(run.directory, wanted)
        except RunError as error:
            damaged.append(error)
            logger.warning("skipped while looking for the W&B project: %s", error)
    raise damaged[0]


def _tracker(directory: Path, wanted: Mapping[str, str | None]) -> Mapping[str, Any]:
    tracker = stored_run(directory).config.get("tracker")
    if not isinstance(tracker, dict) or tracker.get("_target_") != WANDB_TRACKER:
        if wanted["project"] is None:
            raise ConfigError(
                f"--wandb: {directory} was run without W&B, so it names no project; "
                "add --project NAME"
            )
        tracker = {"project": None, "entity": None, "group": None}
    for name in wanted:
        if not isinstance(tracker.get(name), str | None):
            raise RunError(
                f"{directory / 'config.yaml'} is damaged (tracker.{name}={tracker[name]!r:.60}: "
                "should be a text)"
            )
    tracker = dict.fromkeys(wanted) | tracker
    return tracker | {name: value for name, value in wanted.items() if value is not None}


def _log(
    report: Report,
    parts: Sequence[Part],
    experiment: str,
    tracker: Mapping[str, Any],
    folder: Path,
) -> str:
    import wandb

    row: dict[str, Any] = {}
    for part in parts:
        for table in part.tables:
            names, columns = zip(*columns_of(table), strict=True)
            rows = [list(values) for values in zip(*columns, strict=True)]
            row[f"tables/{table.name}"] = wandb.Table(columns=[*names], data=rows)
        for figure in part.figures:
            image = folder / "figures" / f"{figure.name}.png"
            row[f"figures/{figure.name}"] = wandb.Image(str(image), caption=figure.title)
    identity = f"{experiment} {report.command} {folder.resolve()}"
    is_offline = os.environ.get("WANDB_MODE") == "offline"
    with contextlib.ExitStack() as stack:
        place = folder / "wandb"
        if is_offline:
            place.mkdir(exist_ok=True)
        else:
            place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fm-al-report-")))
        run = wandb.init(
            project=tracker["project"],
            entity=tracker["entity"],
            group=(tracker["group"] or experiment)[-LONGEST_NAME:],
            job_type="report",
            id=hashlib.sha256(identity.encode()).hexdigest()[:16],
            name=f"report {experiment}"[-LONGEST_NAME:],
            config={"command": report.command, "runs": len(report.runs.runs)},
            dir=place,
            reinit="create_new",
            resume=None if is_offline else "allow",
            settings=quiet_settings(disable_code=True, disable_git=True, save_code=False),
        )
        keep_service_private()
        run.log(row)
        run.finish()
    return str(Path(run.dir).parent) if is_offline else run.url or run.id
