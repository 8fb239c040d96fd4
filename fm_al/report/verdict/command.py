"""The command line `fm-al-verdict FOLDER`."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from fm_al.errors import ArgumentParser, ConfigError, RunError
from fm_al.files import atomic_write
from fm_al.report.export import save
from fm_al.report.text import printable
from fm_al.report.verdict.page import Verdict, verdict_of
from fm_al.report.verdict.records import FOLDERS, read_records


def verdict(arguments: Sequence[str]) -> None:
    """Run `fm-al-verdict`: write the page and print the verdict in a sentence."""
    options = parser().parse_args(arguments)
    made = verdict_from(options)
    try:
        _write(made, options.page, options.out)
    except OSError as error:
        raise RunError(f"the verdict cannot be written: {error}") from error
    console = Console(markup=False, highlight=False, soft_wrap=True)
    console.print(printable(made.summary))
    console.print(f"verdict: {options.page}")


def verdict_from(options: argparse.Namespace) -> Verdict:
    """Make the verdict that a command line asks for. Raises ConfigError."""
    page, out = options.page, options.out
    if not page.parent.is_dir() or page.is_dir():
        raise ConfigError(f"--page {page}: must be a file in a folder that exists")
    arguments = [
        str(options.folder),
        f"--page={page}",
        f"--out={out}",
        *(f"--note={note}" for note in options.note),
    ]
    command = shlex.join(["fm-al-verdict", *arguments])
    folder = os.path.relpath(out, page.parent)
    return verdict_of(read_records(options.folder), command, folder, options.note)


def _write(made: Verdict, page: Path, out: Path) -> None:
    tables = {out / f"{name}.md": tables for name, tables in made.long_tables.items()}
    figures = {out / "figures" / f"{figure.name}.png": figure for figure in made.figures}
    there = [*out.glob("*.md"), *out.glob("figures/*.png")]
    if strange := sorted(str(path) for path in there if path not in tables | figures):
        raise ConfigError(f"--out {out}: has files that are not of this verdict: {strange[0]}")
    (out / "figures").mkdir(parents=True, exist_ok=True)
    for figure in made.figures:
        save(figure, out / "figures", ["png"])
    for path, table in tables.items():
        atomic_write(path, table.encode())
    atomic_write(page, made.page.encode())


def parser() -> ArgumentParser:
    """The parser of the command line."""
    parser = ArgumentParser(
        prog="fm-al-verdict",
        usage="%(prog)s FOLDER --page FILE --out FOLDER [--note TEXT ...]",
        description="Judge the claims of the FisherMask paper by finished runs, in folders named "
        f"{', '.join(FOLDERS)}; docs/reproducing.md has the commands that make them.",
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where these folders are")
    parser.add_argument(
        "--page", type=Path, required=True, metavar="FILE", help="Markdown file for the verdict"
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="folder for its figures and long tables",
    )
    parser.add_argument(
        "--note",
        action="append",
        default=[],
        metavar="TEXT",
        help="what a reader must know about the runs; may be repeated",
    )
    return parser
