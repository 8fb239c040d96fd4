"""The command line `fm-al-report DIR`."""

from __future__ import annotations

import argparse
import os
import re
import shlex
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rich.console import Console

from fm_al.errors import ArgumentParser, ConfigError, RunError
from fm_al.files import atomic_write
from fm_al.report.report import Report, report_of
from fm_al.report.runs import STRATEGY
from fm_al.report.selection import read_runs
from fm_al.report.summary_run import log_summary_runs, trackers_of
from fm_al.report.text import printable
from fm_al.report.writing import check_folder, markdown, write

MOST_NAMED = 10  # of the folders left out
OUTSIDE_BRACKETS = r",(?![^\[{]*[\]}])"


def report(arguments: Sequence[str]) -> None:
    """Run `fm-al-report`: write the report and print where it is."""
    options = parser().parse_args(arguments)
    made = report_from(options)
    out = _out(options)
    try:
        write(made, out)
        if options.markdown is not None:
            figures = os.path.relpath(out / "figures", options.markdown.parent)
            atomic_write(options.markdown, markdown(made, figures).encode())
    except OSError as error:
        raise RunError(f"the report cannot be written: {error}") from error
    console = Console(markup=False, highlight=False, soft_wrap=True)
    _print_findings(made, console)
    console.print(f"report: {out / 'index.html'}")
    if options.wandb:
        for url in log_summary_runs(made, out, _wandb_options(options)):
            console.print(f"logged to {url}")


def report_from(options: argparse.Namespace) -> Report:
    """Make the report that a command line asks for. Raises ConfigError."""
    _check_options(options)
    where, by = where_of(options.where), options.by.split(",")
    runs = read_runs(options.folder, where, by, up_to=options.up_to)
    if options.wandb:
        trackers_of(runs, _wandb_options(options))  # fails before minutes of drawing
    return report_of(
        runs,
        options.title or f"Runs in {options.folder}",
        _command(options),
        partial(_command_of_experiment, options),
        options.target,
        options.published,
        options.note,
    )


def _check_options(options: argparse.Namespace) -> None:
    if not options.folder.is_dir():
        raise ConfigError(f"{options.folder}: no such folder")
    check_folder(_out(options))
    for target in options.target:
        if not 0 < target <= 1:
            raise ConfigError(f"--target {target:g}: must be an accuracy, above 0 and at most 1")
    if options.markdown is not None:
        if not options.markdown.parent.is_dir():
            raise ConfigError(
                f"--markdown {options.markdown}: no such folder: {options.markdown.parent}"
            )
        if options.markdown.is_dir():
            raise ConfigError(f"--markdown {options.markdown}: is a folder; name a file in it")


def _command(options: argparse.Namespace) -> str:
    """The command that makes the whole report again."""
    output = [
        *([f"--title={options.title}"] if options.title else []),
        *(f"--note={note}" for note in options.note),
        *([f"--out={options.out}"] if options.out else []),
        *([f"--markdown={options.markdown}"] if options.markdown else []),
    ]
    return _joined(options, options.where, output)


def _command_of_experiment(options: argparse.Namespace, experiment: str, name: str) -> str:
    """The command that makes the report of one experiment, in a folder of its own."""
    others = [each for each in options.where if not each.startswith("experiment_name=")]
    out = options.folder / f"report-{name}"
    return _joined(options, [*others, f"experiment_name={experiment}"], [f"--out={out}"])


def _joined(options: argparse.Namespace, where: Sequence[str], output: Sequence[str]) -> str:
    by = [] if options.by == ",".join(STRATEGY) else [f"--by={options.by}"]
    up_to = [] if options.up_to is None else [f"--up-to={options.up_to}"]
    targets = ["--target", *(f"{target:g}" for target in options.target)] if options.target else []
    return shlex.join(
        [
            "fm-al-report",
            str(options.folder),
            *(["--where", *where] if where else []),
            *by,
            *up_to,
            *targets,
            *(["--published"] if options.published else []),
            *output,
        ]
    )


def _out(options: argparse.Namespace) -> Path:
    return options.out or options.folder / "report"


def _wandb_options(options: argparse.Namespace) -> dict[str, str | None]:
    return {"project": options.project, "entity": options.entity, "group": options.group}


def parser() -> ArgumentParser:
    """The parser of the command line."""
    parser = ArgumentParser(
        prog="fm-al-report",
        usage="%(prog)s DIR [option ...]",
        description="Write tables, statistics and figures of the finished runs below a folder. It"
        " compares strategies within each setting, paired by seed.",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="outputs, or any folder in it")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="folder to write the report to (default: DIR/report)",
    )
    parser.add_argument(
        "--where",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE[,VALUE]",
        help="use only runs with these values: strategy=bait,badge budget.per_round=70",
    )
    parser.add_argument(
        "--by",
        default=",".join(STRATEGY),
        metavar="KEY[,KEY]",
        help="compare the values of these keys, such as strategy.fraction (default: %(default)s)",
    )
    parser.add_argument(
        "--up-to",
        type=int,
        metavar="LABELS",
        help="cut runs after the round with this number of labels, as if started with that budget;"
        " unfinished runs that have such a round are used, too",
    )
    parser.add_argument(
        "--target",
        nargs="+",
        action="extend",
        type=float,
        default=[],
        metavar="ACCURACY",
        help="count the labels needed to reach these values of each metric",
    )
    parser.add_argument(
        "--published",
        action="store_true",
        help="show the paper's numbers beside the measured ones",
    )
    parser.add_argument("--title", metavar="TEXT", help="title of the report")
    parser.add_argument(
        "--note",
        action="append",
        default=[],
        metavar="TEXT",
        help="a note for the head of the report; may be repeated",
    )
    parser.add_argument(
        "--markdown",
        type=Path,
        metavar="FILE",
        help="also write the Markdown to this file",
    )
    parser.add_argument(
        "--wandb",
        action="store_true",
        help="also log tables and figures to W&B, as a summary run in the group of the runs",
    )
    for name in ("project", "entity", "group"):
        parser.add_argument(
            f"--{name}", metavar="NAME", help=f"{name} in W&B (default: tracker.{name} of the runs)"
        )
    return parser


def where_of(conditions: Sequence[str]) -> dict[str, list[str]]:
    """Values by key, from texts of the form KEY=VALUE[,VALUE]. Raises ConfigError."""
    where: dict[str, list[str]] = {}
    for text in conditions:
        key, joint, values = text.partition("=")
        if not joint or not key or not values:
            raise ConfigError(f"--where {text}: must be KEY=VALUE or KEY=VALUE,VALUE")
        where.setdefault(key, []).extend(re.split(OUTSIDE_BRACKETS, values))
    return where


def _print_findings(made: Report, console: Console) -> None:
    left_out = made.runs.left_out
    lines = [f"left out: {each.directory} {each.why}" for each in left_out[:MOST_NAMED]]
    if len(left_out) > MOST_NAMED:
        lines.append(f"and {len(left_out) - MOST_NAMED} more; the report lists them")
    lines += [*made.notices, *made.summary]
    lines += [f"{part.title}: {sentence}" for part in made.parts for sentence in part.sentences]
    for line in lines:
        console.print(printable(line))
