"""Pages with made-up runs, tables and figures."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fm_al.records.schema import Provenance, Result, Start
from fm_al.report.page import Section, SvgFigure, page
from fm_al.report.palette import Look, Palette
from fm_al.report.runs import LeftOut, Run, Runs
from fm_al.report.typeset import Cell, Table

HOSTILE = "<script>alert(1)</script>"


QUOTES = "\"'><img src=x onerror=alert(2)>"


GROUPS = ("random", "badge", "bait")


SVG = """
<svg xmlns="http://www.w3.org/2000/svg" width="900" height="300" viewBox="0 0 90 30">
<g class="series" data-groups='["random"]'><path d="M0 0L90 30" stroke="red"/></g>
<g class="series" data-groups='["badge"]'><path d="M0 30L90 0" stroke="blue"/></g></svg>
"""


def a_run(group: str = "random", seed: int = 0) -> Run:
    return made_up(Path(f"{group}/seed{seed}"), "cifar10", group, seed, {"seed": seed})


def made_up(
    directory: Path,
    setting: str,
    group: str,
    seed: int,
    config: dict[str, Any],
    software: dict[str, str | None] | None = None,
    starts: Sequence[Start] = (),
) -> Run:
    provenance = Provenance.model_construct(software=software or {}, starts=[*starts])
    result = Result.model_construct()
    return Run(
        directory,
        config={"seed": seed, **config},
        provenance=provenance,
        rounds=[],
        result=result,
        options={},
        setting=setting,
        group=group,
    )


def a_table(name: str = "accuracy", *rows: tuple[Cell, ...], columns: int = 9) -> Table:
    """By default of three groups, whose order by number is not the one by text."""
    made = [
        (Cell(group), *[Cell(f"{value:g} ± 1.25", value)] * columns)
        for group, value in zip(GROUPS, (9, 10, -2), strict=True)
    ]
    header = ["strategy", *(f"{100 * number} labels" for number in range(1, columns + 1))]
    return Table(name, "Accuracy", header, rows or made, ["over 5 seeds", "bold: best"])


def a_section(title: str = "cifar10", *tables: Table, svg: str = SVG) -> Section:
    drawing = SvgFigure("curves", "Learning curves", "Means over seeds.", svg)
    return Section(title, tables or [a_table()], [drawing], "fm-al-report outputs --where a=b")


def a_page(
    *sections: Section,
    legend: tuple[str, ...] = GROUPS,
    runs: Runs | None = None,
    notices: tuple[str, ...] = (),
    summary: tuple[str, ...] = (),
) -> str:
    looks = Palette.of(legend).looks
    runs = runs or Runs([a_run(group) for group in GROUPS])
    return page("Trial", "fm-al-report outputs", sections, looks, runs, notices, summary)


def change_provenance(directory: Path, change: Callable[[Any], object]) -> None:
    path = directory / "provenance.json"
    provenance = json.loads(path.read_text())
    change(provenance)
    path.write_text(json.dumps(provenance))


def hostile_page(name: str) -> str:
    row = (Cell(name), Cell(name, 0.5))
    table = Table(name, name, [name, name], [row], [name])
    section = Section(name, [table], [SvgFigure(name, name, name, SVG)], name, [name])
    config = {name: name, "strategy": name, "seed": 0}
    starts = [Start.model_construct(time=name, host=name, command=[name])]
    runs = Runs(
        [
            made_up(Path(name), name, name, 0, config, {name: name}, starts),
            made_up(Path(name), name, name, 0, {}, {}, starts),
        ],
        [LeftOut(Path(name), name)],
    )
    return page(name, name, [section, section], {name: Look(name, (), "o")}, runs, [name], [name])
