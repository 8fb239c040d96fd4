"""Upload a run to Weights & Biases from its records.

A run is a W&B run of its own, with the id in its directory, to which is added what the server
lacks. So an upload may break off anywhere, and the next one continues from there.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fm_al.errors import RunError, RunLockedError
from fm_al.records.lock import holder, locked
from fm_al.records.reading import RESTORE, REWRITTEN, StoredRun, stored_run
from fm_al.tracking.marks import UploadMark, mark_uploaded, upload_mark
from fm_al.tracking.tracker import TrackedRun
from fm_al.tracking.wandb_process import keep_service_private, quiet_settings
from fm_al.tracking.wandb_run import WandbOptions, WandbRun

if TYPE_CHECKING:
    import wandb

RETRIES = 2  # of a request that the server does not answer as it should
CONFIRM_TIMEOUT = 30.0  # seconds in which the server should show what it was sent
WANDB_TRACKER = "fm_al.tracking.WandbTracker"  # the `_target_` in config.yaml
# For a run without options of its own. The timeouts are long, since nothing waits for an upload.
DEFAULT_OPTIONS: dict[str, Any] = {
    "project": "fm_al",
    "entity": None,
    "group": None,
    "tags": [],
    "notes": None,
    "mode": "online",
    "init_timeout": 60,
    "finish_timeout": 300,
}
OPTIONS_OF_RUN = ("project", "entity", "group", "tags", "notes")  # taken from the run's tracker
DONE = "uploaded"


def connected_server() -> wandb.Api:
    """Returns the server, after it has answered and accepted the key.

    Raises:
        RunError: There is no key, or the server does not answer or refuses the key.
    """
    import wandb

    wandb.setup(settings=quiet_settings(mode="online", x_graphql_retry_max=RETRIES))
    keep_service_private()
    if not wandb.login(verify=False, prompt=False):
        raise RunError("there is no W&B API key: use `wandb login`, or set WANDB_API_KEY")
    try:
        return wandb.Api(timeout=20)
    except wandb.errors.CommError as error:
        raise RunError(f"W&B can't be used from here: {short_message(error)}") from None


def options_or_reason(run: StoredRun, wanted: dict[str, Any]) -> WandbOptions | str:
    """Decides how a run is to be uploaded.

    Args:
        run: The run.
        wanted: Options that replace the run's own.

    Returns:
        The options, or why there is nothing to upload.
    """
    if not run.rounds:
        return "without a finished round"
    if upload_mark(run.directory).covers(_progress(run) | wanted):
        return "uploaded before"
    tracker = run.tracked_config["tracker"]
    if tracker.get("_target_") != WANDB_TRACKER:
        if "project" not in wanted:
            return "without W&B (--project NAME uploads them)"
        return WandbOptions(**DEFAULT_OPTIONS | wanted)
    if missing := [f"tracker.{key}" for key in (*OPTIONS_OF_RUN, "mode") if key not in tracker]:
        path = run.directory / "config.yaml"
        raise RunError(f"{path} is damaged (lacks {', '.join(missing)}); {REWRITTEN}")
    if tracker["mode"] == "online" and holder(run.directory / "lock"):
        return "running and uploading by themselves"
    own = {key: tracker[key] for key in OPTIONS_OF_RUN}
    return WandbOptions(**DEFAULT_OPTIONS | own | wanted)


def upload(server: wandb.Api, directory: Path, wanted: dict[str, Any], scratch: Path) -> str:
    """Uploads what the server lacks of a run.

    Args:
        server: From `connected_server`.
        directory: The run's directory.
        wanted: Options that replace the run's own.
        scratch: Where wandb may put its files.

    Returns:
        What was done, as the command counts it.
    """
    try:
        with locked(directory / "wandb_sync.lock"):
            run = stored_run(directory)  # another process may have uploaded it meanwhile
            options = options_or_reason(run, wanted)
            if isinstance(options, str):
                return options
            with tempfile.TemporaryDirectory(dir=scratch, ignore_cleanup_errors=True) as folder:
                sent = _send(run, options, Path(folder))
            rows = len(run.rounds) + (run.result is not None)
            _confirm(server, f"{sent.entity}/{sent.project}/{sent.id}", rows)
            for log in (directory / "wandb").glob(f"offline-run-*/run-{sent.id}.wandb"):
                log.with_name(f"{log.name}.synced").touch()  # `wandb sync` skips it
            mark = UploadMark(
                project=options.project,
                entity=options.entity or sent.entity,
                group=options.group or sent.group,
                **_progress(run),
            )
            mark_uploaded(directory, mark)
            return DONE
    except RunLockedError:
        return "left to another fm-al-sync"


def short_message(error: Exception) -> str:
    """An error in one line."""
    text = " ".join(str(error).split())
    return text if isinstance(error, RunError) else f"{type(error).__name__}: {text[:300]}"


def _progress(run: StoredRun) -> dict[str, Any]:
    state = "finished" if run.result else "failed" if run.error else "unfinished"
    return {"rounds": len(run.rounds), "state": state}


def _send(run: StoredRun, options: WandbOptions, folder: Path) -> wandb.Run:
    assert run.provenance is not None  # a run with rounds has it
    source = run.result or run.provenance
    if source.lacks("class_names"):
        raise RunError(f"{run.directory / 'provenance.json'} names no classes; {RESTORE}")
    config = run.tracked_config
    view = WandbRun(
        options,
        TrackedRun(
            run.directory,
            name=_name(run.directory),
            group=config["experiment_name"],
            config=config,
            class_names=source.class_names,
            rounds=run.rounds,
            start=run.provenance.starts[-1],
        ),
        folder,
    )
    for record in run.rounds:
        view.log_round(record)
    if run.result is not None:
        view.log_result(run.result)
    elif run.error is None:
        view.run.mark_preempting()  # it is to be resumed
    view.finish(exit_code=0 if run.result is not None else 1)
    return view.run


def _name(directory: Path) -> str:
    """The run's path below its output_dir, wherever that is now: experiment, data, backbone,
    strategy, other options if there are any, seed."""
    directory = directory.resolve()
    return "/".join(directory.parts[-6 if "=" in directory.parent.name else -5 :])


def _confirm(server: wandb.Api, path: str, rows: int) -> None:
    """Raises RunError if the server lacks rows or the end of the run: wandb does not say that a
    server refused them."""
    there = server.run(path)
    deadline = time.monotonic() + CONFIRM_TIMEOUT
    while there.historyLineCount < rows or there.state == "running":
        if time.monotonic() > deadline:
            raise RunError(
                f"W&B has {there.historyLineCount} of {rows} rows ({there.state}); "
                "start again for the rest"
            )
        time.sleep(0.5)
        there.load(force=True)
