"""Uploads runs to Weights & Biases from their records: `fm-al-sync DIR`.

Each run is a W&B run of its own, of the id in its directory, to which is added what the server
lacks; so a pass may break off anywhere, and the next one goes on from there. `wandb_uploaded.json`
in the run's directory says what the server is known to have; while no more than that is recorded,
later passes leave the run alone.

`wandb sync` is not needed beside it. Before it does no harm; afterwards it would give the server
all rows of an offline run a second time, and so is made to skip the folders of that run.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import Progress

from fm_al.config import check_node
from fm_al.errors import ArgumentParser, ConfigError, RunError, RunLockedError
from fm_al.files import write_json
from fm_al.records.discovery import runs_below
from fm_al.records.json_files import read_object
from fm_al.records.lock import holder, locked
from fm_al.records.reading import RESTORE, REWRITTEN, StoredRun, stored_run
from fm_al.tracking.wandb_run import (
    UPLOADED,
    TrackedRun,
    Tracker,
    WandbRun,
    WandbTracker,
    keep_service,
    quiet_settings,
)

if TYPE_CHECKING:
    import wandb

AT_ONCE = 8  # runs; each waits for the server most of the time
RETRIES = 2  # of a request that the server does not answer as it should
CONFIRMING = 30.0  # seconds in which the server should show what it was sent
WANDB_TRACKER = "fm_al.tracking.WandbTracker"  # as every run's config.yaml has it
# Of a run without options of its own. There is time: nothing waits for the end of an upload.
OPTIONS: dict[str, Any] = {
    "project": "fm_al",
    "entity": None,
    "group": None,
    "tags": [],
    "notes": None,
    "mode": "online",
    "init_timeout": 60,
    "finish_timeout": 300,
}
OF_A_RUN = ("project", "entity", "group", "tags", "notes")  # what is taken of a run's own options
DONE = "uploaded"


def sync(arguments: Sequence[str]) -> int:
    """`fm-al-sync DIR`; the exit code."""
    parser = ArgumentParser(
        prog="fm-al-sync",
        description="Uploads the runs below a folder to Weights & Biases, from their records: "
        "each run once, each round once. Runs that go on are uploaded as far as they have come; "
        "start it again for the rest, or if it was interrupted. What has been uploaded is skipped, "
        "unless its wandb_uploaded.json is removed.",
        epilog="The API key is wandb's own: `wandb login`, or WANDB_API_KEY.",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="outputs, or any folder below")
    parser.add_argument(
        "--project",
        metavar="NAME",
        help="upload to this project, also runs with tracker=none (default: tracker.project)",
    )
    parser.add_argument("--entity", metavar="NAME", help="user or team (default: tracker.entity)")
    parser.add_argument(
        "--group", metavar="NAME", help="group of all runs (default: tracker.group, or experiment)"
    )
    given = vars(parser.parse_args(arguments))
    folder: Path = given.pop("folder")
    if not folder.is_dir():
        raise ConfigError(f"{folder}: there is no such folder")
    wanted = {name: value for name, value in given.items() if value is not None}
    check_node("tracker", {"_target_": WANDB_TRACKER} | OPTIONS | wanted, Tracker)
    return upload_below(folder, wanted, Console(markup=False, highlight=False))


def upload_below(folder: Path, wanted: dict[str, Any], console: Console) -> int:
    """Uploads what the server lacks of the runs in a folder and below. wanted: options that stand
    in for the runs' own. Returns 1 if a run could not be uploaded, else 0."""
    outcomes: Counter[str] = Counter()
    failures: dict[Path, Exception] = {}
    lacking = []
    directories = runs_below(folder)
    for directory in directories:
        try:
            standing = _options(stored_run(directory), wanted)
        except Exception as error:  # of one run; the others are uploaded
            failures[directory] = error
            continue
        if isinstance(standing, str):
            outcomes[standing] += 1
        else:
            lacking.append(directory)
    _say(failures, console)  # here, since the server may not be there for the others
    if lacking:
        at_upload: dict[Path, Exception] = {}
        _upload_all(lacking, wanted, console, outcomes, at_upload)
        _say(at_upload, console)
        failures |= at_upload
    if failures:
        outcomes["failed"] = len(failures)
    counts = [f"{count} {outcome}" for outcome, count in outcomes.items()]
    if not outcomes[DONE]:
        counts.insert(0, "nothing was uploaded")
    if not directories:
        counts.append("there are no runs")
    console.print("; ".join(counts))
    return 1 if failures else 0


def _say(failures: dict[Path, Exception], console: Console) -> None:
    for directory, failure in failures.items():
        console.print(f"{directory}: {_one_line(failure)}", soft_wrap=True)


def _upload_all(
    directories: list[Path],
    wanted: dict[str, Any],
    console: Console,
    outcomes: Counter[str],
    failures: dict[Path, Exception],
) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="fm-al-sync-", ignore_cleanup_errors=True) as scratch,
        Progress(console=console, transient=True, disable=not console.is_terminal) as progress,
    ):
        os.environ["WANDB_DIR"] = scratch  # wandb's client makes a folder for each run it asks for
        server = connected_server()
        task = progress.add_task("uploading", total=len(directories))
        pool = ThreadPoolExecutor(AT_ONCE)
        try:
            uploads: dict[Future[str], Path] = {
                pool.submit(_upload, server, directory, wanted, Path(scratch)): directory
                for directory in directories
            }
            for upload in as_completed(uploads):
                try:
                    outcomes[upload.result()] += 1
                except Exception as error:
                    failures[uploads[upload]] = error
                    connected_server()  # the others will fare better, unless the server is gone
                progress.advance(task)
        finally:
            pool.shutdown(cancel_futures=True)


def connected_server() -> wandb.Api:
    """The server, which has answered and takes the key. Raises RunError if it has not."""
    import wandb

    wandb.setup(settings=quiet_settings(mode="online", x_graphql_retry_max=RETRIES))
    keep_service()
    if not wandb.login(verify=False, prompt=False):
        raise RunError("there is no W&B API key: use `wandb login`, or set WANDB_API_KEY")
    try:
        return wandb.Api(timeout=20)
    except wandb.errors.CommError as error:
        raise RunError(f"W&B can't be used from here: {_one_line(error)}") from None


def _options(run: StoredRun, wanted: dict[str, Any]) -> WandbTracker | str:
    """How a run is to be uploaded, or why there is nothing to upload."""
    if not run.rounds:
        return "without a finished round"
    if _mark(run.directory).items() >= (_standing(run) | wanted).items():
        return "uploaded before"
    tracker = run.tracked_config["tracker"]
    if tracker.get("_target_") != WANDB_TRACKER:
        if "project" not in wanted:
            return "without W&B (--project NAME uploads them)"
        return WandbTracker(**OPTIONS | wanted)
    if lacks := [f"tracker.{key}" for key in (*OF_A_RUN, "mode") if key not in tracker]:
        path = run.directory / "config.yaml"
        raise RunError(f"{path} is damaged (lacks {', '.join(lacks)}); {REWRITTEN}")
    if tracker["mode"] == "online" and holder(run.directory / "lock"):
        return "going on and uploading by themselves"
    own = {key: tracker[key] for key in OF_A_RUN}
    return WandbTracker(**OPTIONS | own | wanted)


def _standing(run: StoredRun) -> dict[str, Any]:
    state = "finished" if run.result else "failed" if run.error else "unfinished"
    return {"rounds": len(run.rounds), "state": state}


def _mark(directory: Path) -> dict[str, Any]:
    """What the server is known to have of a run."""
    advice = "remove it to upload the run again"
    return read_object(directory / UPLOADED, advice) or {}


def _upload(server: wandb.Api, directory: Path, wanted: dict[str, Any], scratch: Path) -> str:
    """Uploads what the server lacks of a run; returns what there was to do."""
    try:
        with locked(directory / "wandb_sync.lock"):
            run = stored_run(directory)  # another process may have uploaded it meanwhile
            options = _options(run, wanted)
            if isinstance(options, str):
                return options
            with tempfile.TemporaryDirectory(dir=scratch, ignore_cleanup_errors=True) as folder:
                sent = _send(run, options, Path(folder))
            rows = len(run.rounds) + (run.result is not None)
            _confirm(server, f"{sent.entity}/{sent.project}/{sent.id}", rows)
            for log in (directory / "wandb").glob(f"offline-run-*/run-{sent.id}.wandb"):
                log.with_name(f"{log.name}.synced").touch()  # `wandb sync` leaves it alone
            mark = {
                "project": options.project,
                "entity": options.entity or sent.entity,
                "group": options.group or sent.group,
            }
            write_json(directory / UPLOADED, mark | _standing(run))
            return DONE
    except RunLockedError:
        return "left to another fm-al-sync"


def _send(run: StoredRun, options: WandbTracker, folder: Path) -> wandb.Run:
    assert run.provenance is not None  # or the rounds would be nobody's
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
            launch=run.provenance.starts[-1],
        ),
        folder,
    )
    for record in run.rounds:
        view.log_round(record)
    if run.result is not None:
        view.log_result(run.result)
    elif run.error is None:
        view.run.mark_preempting()  # it is to go on
    view.finish(exit_code=0 if run.result is not None else 1)
    return view.run


def _name(directory: Path) -> str:
    """A run's directory below its output_dir, wherever that is now: experiment, data, backbone,
    strategy, overrides where there are any, seed."""
    directory = directory.resolve()
    return "/".join(directory.parts[-6 if "=" in directory.parent.name else -5 :])


def _confirm(server: wandb.Api, path: str, rows: int) -> None:
    """Raises RunError if the server lacks rows, or the end of the run: wandb does not say so when a
    server refused them."""
    there = server.run(path)
    deadline = time.monotonic() + CONFIRMING
    while there.historyLineCount < rows or there.state == "running":
        if time.monotonic() > deadline:
            raise RunError(
                f"W&B has {there.historyLineCount} of {rows} rows ({there.state}); "
                "start again for the rest"
            )
        time.sleep(0.5)
        there.load(force=True)


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, RunError) else f"{type(error).__name__}: {text[:300]}"
