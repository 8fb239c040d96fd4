"""The report as one HTML file, which opens from disk and loads nothing else."""

from __future__ import annotations

import json
import math
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

import jinja2
from markupsafe import Markup

from fm_al.records.naming import flattened
from fm_al.report.palette import Look
from fm_al.report.runs import Runs
from fm_al.report.text import printable
from fm_al.report.typeset import Table
from fm_al.report.values import format_value

LACKING = "–"


@dataclass(frozen=True)
class SvgFigure:
    """A figure inside the page.

    Attributes:
        name: Stem of its files.
        title: What it shows.
        caption: What a reader must know to read it.
        svg: A trusted `<svg>` element. What it draws of groups has the class `series`, and their
            names in `data-groups`.
    """

    name: str
    title: str
    caption: str
    svg: str


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        title: Its setting.
        tables: Its tables.
        figures: Its figures.
        command: The command that makes this part alone.
        remarks: Sentences to start with.
    """

    title: str
    tables: Sequence[Table]
    figures: Sequence[SvgFigure]
    command: str
    remarks: Sequence[str] = ()


@dataclass(frozen=True)
class Provenance:
    """What the runs of a setting were made with.

    Attributes:
        setting: Its name.
        runs: Number of runs.
        seeds: Their seeds.
        groups: Their groups.
        shared: Values that all runs share, by dotted key.
        differing: Values in which runs differ, by key and group.
        software: Number of runs by package and version.
        hosts: Number of starts by host.
        commands: Commands that started runs, the earliest first.
        first, last: Time of the first and the last start, ISO 8601.
    """

    setting: str
    runs: int
    seeds: Sequence[int]
    groups: Sequence[str]
    shared: Mapping[str, str]
    differing: Mapping[str, Mapping[str, str]]
    software: Mapping[str, Mapping[str, int]]
    hosts: Mapping[str, int]
    commands: Sequence[str]
    first: str | None
    last: str | None


def provenance_of(runs: Runs) -> Provenance:
    """Collect the provenance of one setting's runs."""
    of_group = {
        group: [flattened(run.config) for run in runs.of_group(group)] for group in runs.groups
    }
    every = [flat for flats in of_group.values() for flat in flats]
    shared, differing = {}, {}
    for key in sorted({key for flat in every for key in flat} - {"seed"}):
        if len(values := _values(key, every)) == 1:
            shared[key] = values[0]
        else:
            differing[key] = {
                group: ", ".join(_values(key, flats)) for group, flats in of_group.items()
            }
    starts = [start for run in runs.runs for start in run.provenance.starts]
    starts.sort(key=lambda start: start.time or "")
    software = [run.provenance.software for run in runs.runs]
    return Provenance(
        runs.runs[0].setting,
        len(runs.runs),
        runs.seeds,
        runs.groups,
        shared,
        differing,
        {
            name: Counter(format_value(each.get(name)) for each in software)
            for name in dict.fromkeys(name for each in software for name in each)
        },
        Counter(sorted(start.host for start in starts if start.host)),
        list(dict.fromkeys(shlex.join(start.command) for start in starts)),
        starts[0].time if starts else None,
        starts[-1].time if starts else None,
    )


def _values(key: str, flats: Iterable[Mapping[str, object]]) -> list[str]:
    """The distinct values of a key, as a user would type them."""
    values = {
        json.dumps(flat[key], sort_keys=True) if key in flat else "": (
            format_value(flat[key]) if key in flat else LACKING
        )
        for flat in flats
    }
    return list(values.values())


def page(
    title: str,
    command: str,
    sections: Sequence[Section],
    looks: Mapping[str, Look],
    runs: Runs,
    notices: Sequence[str],
    summary: Sequence[str],
) -> str:
    """Make the HTML, which links to `tables/` and `figures/` beside it.

    Args:
        title: Title of the report.
        command: The command that makes it.
        sections: Its parts.
        looks: Looks by group.
        runs: All runs.
        notices: What a reader must know first.
        summary: Sentences about all sections.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fm_al.report", "."),
        autoescape=True,
        finalize=_printable,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "counted": _counted,
        "trusted": Markup,
        "finite": math.isfinite,
        "json": json.dumps,
        "double": lambda length: 2 * length,
    }
    return environment.get_template("page.html").render(
        title=title,
        command=command,
        sections=sections,
        looks=looks,
        groups_of={group: [group] for group in looks}
        | {f"{one} - {other}": [one, other] for one, other in permutations(looks, 2)},
        runs=runs,
        provenances=[provenance_of(runs.of(setting)) for setting in runs.settings],
        notices=notices,
        summary=summary,
        what="strategy" if tuple(runs.by) == ("strategy",) else "group",
    )


def _printable(value: object) -> object:
    """A value of the template in printable form; HTML stays as it is."""
    return value if isinstance(value, Markup) else printable(str(value))


def _counted(number: int, noun: str) -> str:
    if number != 1:
        noun = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number} {noun}"
