"""`fm-al-report DIR`."""

from __future__ import annotations

import argparse
import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from fm_al.errors import ArgumentParser, ConfigError, RunError
from fm_al.files import atomic_write
from fm_al.report.report import Report, check_folder, markdown, report_of, write
from fm_al.report.runs import STRATEGY
from fm_al.report.selection import read_runs
from fm_al.report.summary_run import log_summary_runs, trackers_of
from fm_al.report.text import printable

MOST_NAMED = 10  # of the folders left out
OUTSIDE_BRACKETS = r",(?![^\[{]*[\]}])"


def report(arguments: Sequence[str]) -> None:
    """Writes the report and says where."""
    given = parser().parse_args(arguments)
    made = report_from(given)
    out = _out(given)
    try:
        write(made, out)
        if given.markdown is not None:
            figures = os.path.relpath(out / "figures", given.markdown.parent)
            atomic_write(given.markdown, markdown(made, figures).encode())
    except OSError as error:
        raise RunError(f"the report can't be written: {error}") from error
    console = Console(markup=False, highlight=False, soft_wrap=True)
    _say(made, console)
    console.print(f"report: {out / 'index.html'}")
    if given.wandb:
        for url in log_summary_runs(made, out, _wanted_of_wandb(given)):
            console.print(f"logged to {url}")


def report_from(given: argparse.Namespace) -> Report:
    """What was asked for. Raises ConfigError."""
    folder: Path = given.folder
    if not folder.is_dir():
        raise ConfigError(f"{folder}: there is no such folder")
    check_folder(_out(given))
    where = where_of(given.where)
    for target in given.target:
        if not 0 < target <= 1:
            raise ConfigError(f"--target {target:g}: should be an accuracy, above 0 and at most 1")
    by = tuple(given.by.split(","))
    if given.markdown is not None:
        if not given.markdown.parent.is_dir():
            raise ConfigError(
                f"--markdown {given.markdown}: there is no folder {given.markdown.parent}"
            )
        if given.markdown.is_dir():
            raise ConfigError(f"--markdown {given.markdown}: is a folder; name a file in it")
    options = [
        *([f"--by={given.by}"] if by != STRATEGY else []),
        *(["--target", *(f"{target:g}" for target in given.target)] if given.target else []),
        *(["--published"] if given.published else []),
    ]
    words = [
        *([f"--title={given.title}"] if given.title else []),
        *(f"--note={note}" for note in given.note),
        *([f"--out={given.out}"] if given.out else []),
        *([f"--markdown={given.markdown}"] if given.markdown else []),
    ]

    def command(where: Sequence[str], *words: str) -> str:
        chosen = ["--where", *where] if where else []
        return shlex.join(["fm-al-report", str(folder), *chosen, *options, *words])

    def command_of(experiment: str, name: str) -> str:
        others = [each for each in given.where if not each.startswith("experiment_name=")]
        out = folder / f"report-{name}"
        return command([*others, f"experiment_name={experiment}"], f"--out={out}")

    runs = read_runs(folder, where, by)
    if given.wandb:
        trackers_of(runs, _wanted_of_wandb(given))  # for its error, before minutes of drawing
    return report_of(
        runs,
        given.title or f"Runs in {folder}",
        command(given.where, *words),
        command_of,
        given.target,
        given.published,
        given.note,
    )


def _out(given: argparse.Namespace) -> Path:
    return given.out or given.folder / "report"


def _wanted_of_wandb(given: argparse.Namespace) -> dict[str, str | None]:
    return {"project": given.project, "entity": given.entity, "group": given.group}


def parser() -> ArgumentParser:
    """Of the command line."""
    parser = ArgumentParser(
        prog="fm-al-report",
        usage="%(prog)s DIR [option ...]",
        description="Tables, statistics and figures of the finished runs below a folder. Strategies"
        " are compared within each setting, paired by seed.",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="outputs, or any folder below")
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="where the report goes (default: DIR/report)"
    )
    parser.add_argument(
        "--where",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE[,VALUE]",
        help="only runs of these values: strategy=bait,badge budget.per_round=70",
    )
    parser.add_argument(
        "--by",
        default=",".join(STRATEGY),
        metavar="KEY[,KEY]",
        help="what is compared, such as strategy.fraction (default: %(default)s)",
    )
    parser.add_argument(
        "--target",
        nargs="+",
        action="extend",
        type=float,
        default=[],
        metavar="ACCURACY",
        help="say how many labels each needs to reach these",
    )
    parser.add_argument(
        "--published", action="store_true", help="beside the numbers that the paper published"
    )
    parser.add_argument("--title", metavar="TEXT", help="of the report")
    parser.add_argument(
        "--note",
        action="append",
        default=[],
        metavar="TEXT",
        help="what else a reader has to know; may be given several times",
    )
    parser.add_argument(
        "--markdown", type=Path, metavar="FILE", help="write the Markdown there as well"
    )
    parser.add_argument(
        "--wandb",
        action="store_true",
        help="log tables and figures to a summary run in the group of the runs",
    )
    for name in ("project", "entity", "group"):
        parser.add_argument(f"--{name}", metavar="NAME", help=f"of W&B (default: tracker.{name})")
    return parser


def where_of(given: Sequence[str]) -> dict[str, list[str]]:
    """The values of each key. given: each as KEY=VALUE[,VALUE]. Raises ConfigError."""
    where: dict[str, list[str]] = {}
    for text in given:
        key, joint, values = text.partition("=")
        if not joint or not key or not values:
            raise ConfigError(f"--where {text}: should be KEY=VALUE, or KEY=VALUE,VALUE")
        where.setdefault(key, []).extend(re.split(OUTSIDE_BRACKETS, values))
    return where


def _say(made: Report, console: Console) -> None:
    left_out = made.runs.left_out
    lines = [f"left out: {each.directory} {each.why}" for each in left_out[:MOST_NAMED]]
    if len(left_out) > MOST_NAMED:
        lines.append(f"and {len(left_out) - MOST_NAMED} more, named in the report")
    lines += [*made.notices, *made.summary]
    lines += [f"{part.title}: {sentence}" for part in made.parts for sentence in part.sentences]
    for line in lines:
        console.print(printable(line))
