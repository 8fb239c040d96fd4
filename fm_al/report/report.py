"""A report: what it consists of, and the folder that it is written to.

index.html       everything, on one page that opens from disk
report.md        the tables and what they say
tables/          each table as .md, .tex and .csv
figures/         each figure as .pdf, .svg and .png
"""

from __future__ import annotations

import os
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import joblib
import pandas as pd

from fm_al.errors import ConfigError
from fm_al.files import atomic_write
from fm_al.report import text, typeset
from fm_al.report.claim import claim, claim_together
from fm_al.report.drawing import Figure
from fm_al.report.export import inline_svg, save
from fm_al.report.figures import figures_of_setting
from fm_al.report.metrics import METRICS, equals_accuracy
from fm_al.report.overall_figures import penalty_figure, rank_figure
from fm_al.report.page import Section, SvgFigure, page
from fm_al.report.palette import Palette
from fm_al.report.published import Published, published
from fm_al.report.runs import Runs
from fm_al.report.statistics import (
    FEWEST_FOR_T,
    all_compared,
    missing_seeds,
    penalties,
    rankable,
    ranks,
)
from fm_al.report.tables import (
    beside_published,
    penalty_table,
    rank_table,
    spread_notes,
    tables_of_setting,
    test_image_count,
    wins,
)
from fm_al.report.typeset import Table

TOGETHER = "All settings"
GENERATOR = '<meta name="generator" content="fm-al-report">'  # by which a report is known
FILES = {"tables": (".md", ".tex", ".csv"), "figures": (".pdf", ".svg", ".png")}
LONGEST_SLUG = 60
SHORT_COMMIT = 7
FEWEST_FOR_PROCESSES = 3  # settings; fewer are drawn before other processes have started
T = TypeVar("T")


@dataclass(frozen=True)
class Part:
    """Of one setting, or of all together. command: that makes this part alone. sentences: what the
    numbers say."""

    title: str
    command: str
    tables: Sequence[Table]
    figures: Sequence[Figure]
    sentences: Sequence[str] = ()


@dataclass(frozen=True)
class Report:
    """runs: of all parts. command: that makes it. notices: what a reader has to know first.
    summary: what the numbers say, of all settings."""

    title: str
    command: str
    runs: Runs
    parts: Sequence[Part]
    palette: Palette
    notices: Sequence[str]
    summary: Sequence[str]


def report_of(
    runs: Runs,
    title: str,
    command: str,
    command_of: Callable[[str, str], str],
    targets: Sequence[float],
    with_published: bool,
    notes: Sequence[str] = (),
) -> Report:
    """command_of: what makes the report of one experiment alone, in a folder that ends with a name.
    targets: accuracies to count the labels for. with_published: whether published numbers stand
    beside those measured. notes: what else a reader has to know."""
    title, command = text.printable(title), text.printable(command)
    notes = [text.printable(note) for note in notes]
    palette, slugs = Palette.of(runs.groups), _slugs(runs.settings)
    notices = [*notes, *_notices(runs)]
    of_settings = {setting: runs.of(setting) for setting in runs.settings}
    experiments = Counter(map(_experiment, of_settings.values()))
    tasks = []
    for setting, of_setting in of_settings.items():
        experiment = _experiment(of_setting)
        beside: Published = {}
        if with_published:
            beside = published(experiment, of_setting.runs[0].options["dataset"])
            if not beside:
                notices.append(f"{setting}: no published numbers are known of it")
        is_alone = 1 == experiments[experiment] < len(slugs)
        of_part = command
        if is_alone:
            of_part = text.printable(command_of(experiment, slugs[setting]))
        prefix = f"{slugs[setting]}-" if len(slugs) > 1 else ""
        tasks.append((of_setting, of_part, prefix, palette, beside, targets))
    parts = _in_processes(_part, tasks, len(slugs))
    together = _together(runs, command, palette)
    if together.tables:
        parts.append(together)
    summary = claim_together(of_settings) if len(of_settings) > 1 else []
    return Report(title, command, runs, parts, palette, notices, summary)


def _in_processes(
    function: Callable[..., T], tasks: Sequence[tuple[Any, ...]], settings: int
) -> list[T]:
    """What a function returns for the arguments of each task, in their order."""
    processes = joblib.cpu_count() if settings >= FEWEST_FOR_PROCESSES else 1
    return joblib.Parallel(processes)(joblib.delayed(function)(*task) for task in tasks)


def _part(
    runs: Runs,
    command: str,
    prefix: str,
    palette: Palette,
    beside: Published,
    targets: Sequence[float],
) -> Part:
    """Of one setting. prefix: of files. beside: published numbers."""
    return Part(
        runs.settings[0],
        command,
        [*tables_of_setting(runs, prefix, targets), *beside_published(runs, prefix, beside)],
        figures_of_setting(runs, prefix, palette, beside),
        claim(runs, beside),
    )


def _experiment(runs: Runs) -> str:
    return str(runs.runs[0].config["experiment_name"])


def _together(runs: Runs, command: str, palette: Palette) -> Part:
    """What counts settings."""
    groups = palette.ordered(runs.groups)
    of_settings = {setting: runs.of(setting) for setting in runs.settings}
    after_first = {
        setting: {labels: each.at("accuracy", labels) for labels in each.labels_after_first}
        for setting, each in of_settings.items()
    }
    beaten = penalties(after_first, groups)
    compared = {
        setting: all_compared(each.area("accuracy")) for setting, each in of_settings.items()
    }
    all_tables, drawn = [wins(compared, groups)] if any(compared.values()) else [], []
    if beaten.tested.any(axis=None):
        table = penalty_table(beaten)
        all_tables.insert(0, table)
        note = typeset.sentence(table.notes)
        drawn.append(penalty_figure(beaten, table.title, note))
    means = {name: rankable(each.area("accuracy")).mean() for name, each in of_settings.items()}
    if ranked := ranks(pd.DataFrame(means, index=groups).T):
        table = rank_table(ranked, list(of_settings), groups)
        all_tables.append(table)
        if ranked.critical_difference is not None:
            note = typeset.sentence(table.notes)
            drawn.append(rank_figure(ranked.mean, ranked.critical_difference, table.title, note))
    return Part(TOGETHER, command, all_tables, drawn)


def _notices(runs: Runs) -> list[str]:
    """Each once, with the settings that it holds of."""
    of_notice: dict[str, list[str]] = {}
    for setting in runs.settings:
        for notice in _notices_of_setting(runs.of(setting), runs.groups):
            of_notice.setdefault(notice, []).append(setting)
    return [
        f"{TOGETHER if 1 < len(runs.settings) == len(those) else ', '.join(those)}: {notice}"
        for notice, those in of_notice.items()
    ]


def _notices_of_setting(runs: Runs, groups: Sequence[str]) -> Iterator[str]:
    """groups: of all settings."""
    frame = runs.final("accuracy")
    if same := [name for key, name in METRICS.items() if equals_accuracy(runs, key)]:
        yield (
            f"{' and '.join(same)} is accuracy, as the test images have as many of each class, and "
            "is left out"
        )
    if not runs.start_alike and len(runs.groups) > 1:
        yield (
            f"by {', '.join(runs.by)}, runs of one seed start from different labels, so that pairs "
            "have no more than their seed in common"
        )
    for what, values in (("devices", _devices(runs)), ("commits of fm_al", _commits(runs))):
        if len(values) > 1:
            yield f"runs are of different {what}: {', '.join(values)}"
    if runs.differ_at_first:
        yield (
            "some strategies were trained before their first query and others not, so they are "
            f"compared from {runs.labels[0]} labels on"
        )
    if others := [group for group in groups if group not in frame]:
        yield f"there are no runs of {', '.join(others)}, which other settings have"
    for group, lacks in missing_seeds(frame).items():
        yield f"{group} lacks seed{'s' * (len(lacks) > 1)} {', '.join(map(str, lacks))}"
    for what, values, images in (
        (f"accuracy at {runs.labels[-1]} labels", frame, test_image_count(runs)),
        ("area under the accuracy curve", runs.area("accuracy"), None),
    ):
        for note in spread_notes(all_compared(values), images):
            yield f"{what}: {note}"
    if few := [group for group in frame.columns if frame[group].count() < FEWEST_FOR_T]:
        yield f"too few seeds to test {', '.join(few)}; it takes {FEWEST_FOR_T}"


def check_folder(folder: Path) -> None:
    """Raises ConfigError where no report can go: the folder is none, or holds something that no
    report wrote."""
    there = next(each for each in (folder, *folder.absolute().parents) if os.path.lexists(each))
    if not there.is_dir():
        raise ConfigError(f"{folder}: {there} is no folder; name another place with --out")
    index = folder / "index.html"
    is_report = index.is_file() and GENERATOR.encode() in index.read_bytes()
    if there == folder and any(folder.iterdir()) and not is_report:
        raise ConfigError(
            f"{folder}: holds something that no report wrote; name another folder with --out"
        )
    for name in FILES:
        if os.path.lexists(folder / name) and not (folder / name).is_dir():
            raise ConfigError(
                f"{folder}: {folder / name} is no folder; name another place with --out"
            )


def write(report: Report, folder: Path) -> None:
    """Writes the folder, made where there is none; tables and figures of an earlier report go.

    Raises ConfigError as `check_folder` does."""
    check_folder(folder)
    index = folder / "index.html"
    folder.mkdir(parents=True, exist_ok=True)
    # First, so that a folder whose writing broke off is known for a report by the next one.
    atomic_write(index, f"{GENERATOR}<p>This report was not written to its end.".encode())
    for name, endings in FILES.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for old in (folder / name).iterdir():
            if old.suffix in endings:
                old.unlink()
    for part in report.parts:
        for table in part.tables:
            typeset.save(table, folder / "tables")
    drawn = [figure for part in report.parts for figure in part.figures]
    place = (folder / "figures").resolve()  # other processes may be elsewhere
    tasks = [(figure, place) for figure in drawn]
    svgs = dict(zip(drawn, _in_processes(_saved, tasks, len(report.runs.settings)), strict=True))
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
    """Its inline SVG."""
    save(figure, folder)
    return inline_svg(figure)


def markdown(report: Report, figures_folder: str) -> str:
    """The tables, and the first figure of each part. figures_folder: where figures are, from the
    file that this is written to."""
    of = text.markdown
    lines = [f"# {of(report.title)}", "", f"Written by {text.markdown_code(report.command)}.", ""]
    if report.summary:
        lines += [of(" ".join(report.summary)), ""]
    lines += [f"- {_in_words(report.runs.of(setting))}" for setting in report.runs.settings]
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


def _in_words(runs: Runs) -> str:
    """Of one setting, in Markdown."""
    made = [run.provenance for run in runs.runs]
    budgets = [run.config["budget"] for run in runs.runs]
    initial, per_round, total = (
        " or ".join(map(str, sorted({budget[key] for budget in budgets})))
        for key in ("initial", "per_round", "total")
    )
    versions = sorted({str(each.software["torch"]) for each in made})
    commits = f", fm_al at {', '.join(_commits(runs))}" * bool(_commits(runs))
    commands = sorted({shlex.join(start.command) for each in made for start in each.starts})
    facts = (
        f"{runs.runs[0].setting}: {len(made)} run{'s' * (len(made) > 1)}, "
        f"seed{'s' * (len(runs.seeds) > 1)} {', '.join(map(str, runs.seeds))}; {initial} labels at "
        f"first, {per_round} a round, {total} in the end; on {', '.join(_devices(runs))}, torch "
        f"{', '.join(versions)}{commits}; started by "
    )
    return text.markdown(facts) + ", ".join(map(text.markdown_code, commands))


def _devices(runs: Runs) -> list[str]:
    return sorted({run.config["device"]["kind"] for run in runs.runs})


def _commits(runs: Runs) -> list[str]:
    commits = {run.provenance.software.get("git_commit") for run in runs.runs}
    return sorted(commit[:SHORT_COMMIT] for commit in commits if commit)


def _slugs(settings: Sequence[str]) -> dict[str, str]:
    """A name for files of each."""
    slugs: dict[str, str] = {}
    for setting in settings:
        slug = re.sub(r"[^a-z0-9_]+", "-", setting.lower()).strip("-")[:LONGEST_SLUG]
        taken = sum(other.partition("--")[0] == slug for other in slugs.values())
        slugs[setting] = f"{slug}--{taken + 1}" if taken else slug
    return slugs
