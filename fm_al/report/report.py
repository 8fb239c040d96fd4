"""Assemble a report from runs: the tables, figures and sentences of every setting."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from fm_al.report import text, typeset
from fm_al.report.claim import claim, claim_together
from fm_al.report.drawing import Figure
from fm_al.report.figures import figures_of_setting
from fm_al.report.notices import ALL_SETTINGS, notices_of
from fm_al.report.overall_figures import penalty_figure, rank_figure
from fm_al.report.overall_tables import penalty_table, rank_table, wins
from fm_al.report.palette import Palette
from fm_al.report.parallel import in_processes
from fm_al.report.published import Published, published_beside
from fm_al.report.runs import Runs
from fm_al.report.statistics import all_compared, penalties, rankable, ranks
from fm_al.report.tables import beside_published, tables_of_setting
from fm_al.report.typeset import Table

LONGEST_SLUG = 60  # characters


@dataclass(frozen=True)
class Part:
    """A part of a report: one setting, or all settings together.

    Attributes:
        title: The setting.
        command: The command that makes this part alone.
        tables: Its tables.
        figures: Its figures.
        sentences: What the numbers say.
    """

    title: str
    command: str
    tables: Sequence[Table]
    figures: Sequence[Figure]
    sentences: Sequence[str] = ()


@dataclass(frozen=True)
class Report:
    """A report, not yet written.

    Attributes:
        title: Its title.
        command: The command that makes it.
        runs: The runs of all parts.
        parts: One for each setting, and one for all if there is something to count over settings.
        palette: Looks of the groups.
        notices: What a reader must know first.
        summary: What the numbers say over all settings.
    """

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
    """Make a report.

    Args:
        runs: The runs to report on.
        title: Title of the report.
        command: The command that makes it.
        command_of: Returns the command for one experiment alone, given the experiment and the end
            of the folder's name.
        targets: Accuracies to count the labels for.
        with_published: Show the numbers that the paper published.
        notes: What else a reader must know.
    """
    title, command = text.printable(title), text.printable(command)
    notes = [text.printable(note) for note in notes]
    palette, slugs = Palette.of(runs.groups), _slugs(runs.settings)
    notices = [*notes, *notices_of(runs)]
    of_settings = {setting: runs.of(setting) for setting in runs.settings}
    experiments = Counter(map(_experiment, of_settings.values()))
    tasks = []
    for setting, of_setting in of_settings.items():
        experiment = _experiment(of_setting)
        beside: Published = {}
        if with_published:
            beside = published_beside(of_setting)
            if not beside:
                notices.append(f"{setting}: no published numbers are known")
        is_alone = 1 == experiments[experiment] < len(slugs)
        of_part = command
        if is_alone:
            of_part = text.printable(command_of(experiment, slugs[setting]))
        prefix = f"{slugs[setting]}-" if len(slugs) > 1 else ""
        tasks.append((of_setting, of_part, prefix, palette, beside, targets))
    parts = in_processes(_part, tasks, len(slugs))
    together = _together(runs, command, palette)
    if together.tables:
        parts.append(together)
    summary = claim_together(of_settings) if len(of_settings) > 1 else []
    return Report(title, command, runs, parts, palette, notices, summary)


def _part(
    runs: Runs,
    command: str,
    prefix: str,
    palette: Palette,
    beside: Published,
    targets: Sequence[float],
) -> Part:
    """The part of one setting. prefix: start of file names. beside: published numbers."""
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
    """The part that counts over settings."""
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
    return Part(ALL_SETTINGS, command, all_tables, drawn)


def _slugs(settings: Sequence[str]) -> dict[str, str]:
    """A start of file names for each setting."""
    slugs: dict[str, str] = {}
    for setting in settings:
        slug = re.sub(r"[^a-z0-9_]+", "-", setting.lower()).strip("-")[:LONGEST_SLUG]
        taken = sum(other.partition("--")[0] == slug for other in slugs.values())
        slugs[setting] = f"{slug}--{taken + 1}" if taken else slug
    return slugs
