"""The command line `fm-al-verdict FOLDER`."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from fm_al.errors import ArgumentParser, ConfigError, RunError
from fm_al.files import atomic_write
from fm_al.report.export import save_png
from fm_al.report.text import printable
from fm_al.report.verdict.page import Verdict, verdict_of
from fm_al.report.verdict.records import FOLDERS, read_records


def verdict(arguments: Sequence[str]) -> None:
    """Run `fm-al-verdict`: write the page and print the verdict in a sentence."""
    options = parser().parse_args(arguments)
    made = verdict_from(options.folder, options.page, options.out)
    try:
        _write(made, options.page, options.out)
    except OSError as error:
        raise RunError(f"the verdict cannot be written: {error}") from error
    console = Console(markup=False, highlight=False, soft_wrap=True)
    console.print(printable(made.summary))
    console.print(f"verdict: {options.page}")


def verdict_from(folder: Path, page: Path, out: Path) -> Verdict:
    """Make the verdict that a command line asks for. Raises ConfigError."""
    if not page.parent.is_dir() or page.is_dir():
        raise ConfigError(f"--page {page}: must be a file in a folder that exists")
    arguments = [str(folder), f"--page={page}", f"--out={out}"]
    command = shlex.join(["fm-al-verdict", *arguments])
    return verdict_of(read_records(folder), command, os.path.relpath(out, page.parent))


def _write(made: Verdict, page: Path, out: Path) -> None:
    (out / "figures").mkdir(parents=True, exist_ok=True)
    for figure in made.figures:
        save_png(figure, out / "figures")
    for name, tables in made.long_tables.items():
        atomic_write(out / f"{name}.md", tables.encode())
    atomic_write(page, made.page.encode())


def parser() -> ArgumentParser:
    """The parser of the command line."""
    parser = ArgumentParser(
        prog="fm-al-verdict",
        usage="%(prog)s FOLDER --page FILE --out FOLDER",
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
    return parser
