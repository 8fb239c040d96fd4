"""The command `fm-al-sync DIR`: upload all runs below a folder to Weights & Biases.

`wandb_uploaded.json` in a run's directory says what the server is known to have. A run without news
since then is skipped.

`wandb sync` is not needed. Before `fm-al-sync` it does no harm. Afterwards it would send all rows
of an offline run a second time, so the folders of uploaded runs are marked for it to skip.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from fm_al.config import check_node
from fm_al.errors import ArgumentParser, ConfigError
from fm_al.records.discovery import runs_below
from fm_al.records.reading import stored_run
from fm_al.tracking.tracker import Tracker
from fm_al.tracking.upload import (
    DEFAULT_OPTIONS,
    DONE,
    WANDB_TRACKER,
    connected_server,
    options_or_reason,
    short_message,
    upload,
)

AT_ONCE = 8  # runs; an upload mostly waits for the server


def sync(arguments: Sequence[str]) -> int:
    """Runs `fm-al-sync` with these arguments; returns the exit code."""
    parser = ArgumentParser(
        prog="fm-al-sync",
        description="Uploads the runs below a folder to Weights & Biases, from their records: "
        "each run once, each round once. Running runs are uploaded as far as they have come. Start "
        "it again for the rest, or if it was interrupted. What was uploaded is skipped, unless you "
        "remove the run's wandb_uploaded.json.",
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
    check_node("tracker", {"_target_": WANDB_TRACKER} | DEFAULT_OPTIONS | wanted, Tracker)
    return upload_below(folder, wanted, Console(markup=False, highlight=False))


def upload_below(folder: Path, wanted: dict[str, Any], console: Console) -> int:
    """Uploads what the server lacks of the runs in a folder and below it.

    Args:
        folder: Where to look for runs.
        wanted: Options that replace the runs' own.
        console: Where to print what was done.

    Returns:
        1 if a run could not be uploaded, else 0.
    """
    outcomes: Counter[str] = Counter()
    failures: dict[Path, Exception] = {}
    to_upload = []
    directories = runs_below(folder)
    for directory in directories:
        try:
            options = options_or_reason(stored_run(directory), wanted)
        except Exception as error:  # of one run; the others are uploaded
            failures[directory] = error
            continue
        if isinstance(options, str):
            outcomes[options] += 1
        else:
            to_upload.append(directory)
    _print_failures(failures, console)  # before connecting, which may fail
    if to_upload:
        during_upload: dict[Path, Exception] = {}
        _upload_all(to_upload, wanted, console, outcomes, during_upload)
        _print_failures(during_upload, console)
        failures |= during_upload
    if failures:
        outcomes["failed"] = len(failures)
    counts = [f"{count} {outcome}" for outcome, count in outcomes.items()]
    if not outcomes[DONE]:
        counts.insert(0, "nothing was uploaded")
    if not directories:
        counts.append("there are no runs")
    console.print("; ".join(counts))
    return 1 if failures else 0


def _print_failures(failures: dict[Path, Exception], console: Console) -> None:
    for directory, failure in failures.items():
        console.print(f"{directory}: {short_message(failure)}", soft_wrap=True)


def _upload_all(
    directories: list[Path],
    wanted: dict[str, Any],
    console: Console,
    outcomes: Counter[str],
    failures: dict[Path, Exception],
) -> None:
    """Adds to the outcomes and failures."""
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
                pool.submit(upload, server, directory, wanted, Path(scratch)): directory
                for directory in directories
            }
            for each in as_completed(uploads):
                try:
                    outcomes[each.result()] += 1
                except Exception as error:
                    failures[uploads[each]] = error
                    connected_server()  # raises if the server is gone, which ends the pass
                progress.advance(task)
        finally:
            pool.shutdown(cancel_futures=True)
