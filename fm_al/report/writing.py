"""Write a report to a folder.

index.html       everything, on one page that opens from disk
report.md        the tables, and the first figure of each part
tables/          each table as .md, .tex and .csv
figures/         each figure as .pdf, .svg and .png
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from urllib.parse import quote

from fm_al.errors import ConfigError
from fm_al.files import atomic_write
from fm_al.report import text, typeset
from fm_al.report.budgets import budgets_in_words
from fm_al.report.drawing import Figure
from fm_al.report.export import inline_svg, save
from fm_al.report.notices import commits_of, devices_of
from fm_al.report.page import Section, SvgFigure, page
from fm_al.report.parallel import in_processes
from fm_al.report.report import Report
from fm_al.report.runs import Runs

GENERATOR = '<meta name="generator" content="fm-al-report">'  # identifies a report
FILES = {"tables": (".md", ".tex", ".csv"), "figures": (".pdf", ".svg", ".png")}


def check_folder(folder: Path) -> None:
    """Raise ConfigError if the report cannot go there: it is no folder, or not a report's."""
    there = next(each for each in (folder, *folder.absolute().parents) if os.path.lexists(each))
    if not there.is_dir():
        raise ConfigError(f"{folder}: {there} is not a folder; choose another with --out")
    index = folder / "index.html"
    is_report = index.is_file() and GENERATOR.encode() in index.read_bytes()
    if there == folder and any(folder.iterdir()) and not is_report:
        raise ConfigError(
            f"{folder}: contains files that are not a report's; choose another folder with --out"
        )
    for name in FILES:
        if os.path.lexists(folder / name) and not (folder / name).is_dir():
            raise ConfigError(
                f"{folder}: {folder / name} is not a folder; choose another with --out"
            )


def write(report: Report, folder: Path) -> None:
    """Write a report, in place of an earlier one.

    Args:
        report: What to write.
        folder: Where to; created if it does not exist.

    Raises:
        ConfigError: As `check_folder`.
    """
    check_folder(folder)
    index = folder / "index.html"
    folder.mkdir(parents=True, exist_ok=True)
    # First, so that the next report recognizes the folder even if this one is interrupted.
    atomic_write(
        index, f"{GENERATOR}<p>This report is incomplete: writing it was interrupted.".encode()
    )
    for name, endings in FILES.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for old in (folder / name).iterdir():
            if old.suffix in endings:
                old.unlink()
    for part in report.parts:
        for table in part.tables:
            typeset.save(table, folder / "tables")
    drawn = [figure for part in report.parts for figure in part.figures]
    place = (folder / "figures").resolve()  # other processes may have another current folder
    tasks = [(figure, place) for figure in drawn]
    svgs = dict(zip(drawn, in_processes(_saved, tasks, len(report.runs.settings)), strict=True))
    atomic_write(folder / "report.md", markdown(report, "figures").encode())
    sections = [
        Section(
            part.title,
            part.tables,
            [SvgFigure(each.name, each.title, each.caption, svgs[each]) for each in part.figures],
            part.command,
            part.sentences,
        )
        for part in report.parts
    ]
    html = page(
        report.title,
        report.command,
        sections,
        report.palette.looks,
        report.runs,
        report.notices,
        report.summary,
    )
    atomic_write(index, html.encode())


def _saved(figure: Figure, folder: Path) -> str:
    """Save a figure and return its inline SVG."""
    save(figure, folder)
    return inline_svg(figure)


def markdown(report: Report, figures_folder: str) -> str:
    """The report as Markdown: the tables, and the first figure of each part.

    Args:
        report: What to write.
        figures_folder: Path of the figures, relative to the Markdown file.
    """
    of = text.markdown
    lines = [f"# {of(report.title)}", "", f"Written by {text.markdown_code(report.command)}.", ""]
    if report.summary:
        lines += [of(" ".join(report.summary)), ""]
    lines += [f"- {_summary(report.runs.of(setting))}" for setting in report.runs.settings]
    lines += [f"- {of(notice)}" for notice in report.notices]
    lines += [f"- {of(f'left out: {each.directory} {each.why}')}" for each in report.runs.left_out]
    for part in report.parts:
        lines += ["", f"## {of(part.title)}", ""]
        if part.sentences:
            lines += [of(" ".join(part.sentences)), ""]
        for figure in part.figures[:1]:
            path = quote(f"{figures_folder}/{figure.name}.png")
            lines += [f"![{of(figure.title)}]({path})", "", of(figure.caption)]
        for table in part.tables:
            lines += ["", f"### {of(table.title)}", "", typeset.markdown(table).rstrip()]
    return "\n".join(lines) + "\n"


def _summary(runs: Runs) -> str:
    """Runs, budget, device, software and commands of one setting, in Markdown."""
    made = [run.provenance for run in runs.runs]
    versions = sorted({str(each.software["torch"]) for each in made})
    commits = f", fm_al at {', '.join(commits_of(runs))}" * bool(commits_of(runs))
    commands = sorted({shlex.join(start.command) for each in made for start in each.starts})
    facts = (
        f"{runs.runs[0].setting}: {len(made)} run{'s' * (len(made) > 1)}, "
        f"seed{'s' * (len(runs.seeds) > 1)} {', '.join(map(str, runs.seeds))}; "
        f"{budgets_in_words(runs)}; on {', '.join(devices_of(runs))}, "
        f"torch {', '.join(versions)}{commits}; started by "
    )
    return text.markdown(facts) + ", ".join(map(text.markdown_code, commands))
