"""`fm-al-status DIR`: a table of the runs below a folder."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from fm_al.errors import ArgumentParser, ConfigError
from fm_al.launch.status import (
    UNDER_WAY,
    RunStatus,
    count_states,
    last_line,
    short_names,
    statuses_below,
)
from fm_al.records.naming import run_names

WIDE = 200  # characters a line, in a file
LONGEST_PAUSE = 86400.0  # seconds: a day
STYLES = {
    "running": "cyan",
    "failed": "red",
    "stale": "yellow",
    "ending": "yellow",
    "damaged": "red",
}


def show(arguments: Sequence[str]) -> None:
    """`fm-al-status DIR`. Raises ConfigError for arguments that make no sense."""
    parser = ArgumentParser(
        prog="fm-al-status", description="Shows how the runs in a folder stand."
    )
    parser.add_argument(
        "folder", type=Path, metavar="DIR", help="outputs, an experiment's folder, or any below"
    )
    parser.add_argument(
        "--every",
        type=float,
        metavar="SECONDS",
        help="refresh the table until all runs have ended",
    )
    given = parser.parse_args(arguments)
    folder: Path = given.folder
    if not folder.is_dir():
        raise ConfigError(f"{folder}: there is no such folder")
    if given.every is not None and not 0 < given.every <= LONGEST_PAUSE:
        raise ConfigError(
            f"--every {given.every:g}: should be greater than 0 and at most {LONGEST_PAUSE:g}"
        )
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console.width = WIDE
    statuses = statuses_below(folder)
    if not statuses:
        raise ConfigError(f"{folder}: no runs are here or below")
    if given.every is None or not console.is_terminal:
        console.print(_overview(statuses))
    else:
        statuses = _watch(folder, statuses, given.every, console)
    console.print(troubles(statuses), end="", soft_wrap=True)


def _overview(statuses: Sequence[RunStatus], most_rows: int | None = None) -> RenderableType:
    """The table with a line above and, if rows are left out, a line below."""
    shared = os.path.commonpath([status.directory for status in statuses]) or os.curdir
    header = f"{count_states(statuses)}\nin {shared}"
    left_out = 0 if most_rows is None else max(0, len(statuses) - most_rows)
    footer = f"and {left_out} more" if left_out else ""
    return Group(Text(header), table(statuses[:most_rows]), Text(footer))


def _watch(
    folder: Path, statuses: list[RunStatus], every: float, console: Console
) -> list[RunStatus]:
    """Refresh the table until no run is under way. every: seconds between two looks."""
    room = max(1, console.height - 8)
    with Live(_overview(statuses, room), console=console, auto_refresh=False) as live:
        while any(status.state in UNDER_WAY for status in statuses):
            time.sleep(every)
            statuses = statuses_below(folder) or statuses
            live.update(_overview(statuses, room), refresh=True)
    return statuses


def table(statuses: Sequence[RunStatus]) -> Table:
    """A row for each run."""
    rows = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    rows.add_column("run", overflow="fold")
    for column in ("state", "round", "labels", "accuracy"):
        rows.add_column(column, no_wrap=True, justify="left" if column == "state" else "right")
    rows.add_column("", overflow="fold")
    directories = [status.directory for status in statuses]
    configs = [status.result_config for status in statuses]
    names = run_names(directories, configs, short_names(directories))
    for name, status in zip(names, statuses, strict=True):
        rows.add_row(
            name,
            Text(status.state, STYLES.get(status.state, "")),
            f"{status.rounds}/{status.of_rounds}" if status.of_rounds else "",
            "" if status.labelled is None else str(status.labelled),
            "" if status.accuracy is None else f"{status.accuracy:.3f}",
            status.detail if status.state in (*UNDER_WAY, "ending", "new", "finished") else "",
        )
    return rows


def troubles(statuses: Sequence[RunStatus]) -> str:
    """What is wrong with damaged, failed and stale runs."""
    return "".join(
        f"{status.state}: {status.directory}\n  {status.detail}\n"
        + (f"  log: {status.log}\n{last_line(status.log)}" if status.log else "")
        for status in statuses
        if status.state in ("damaged", "failed", "stale")
    )
