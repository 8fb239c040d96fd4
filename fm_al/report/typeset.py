"""A table, and how it is set in Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fm_al.files import write_whole

LEVEL = "°"


@dataclass(frozen=True)
class Cell:
    """text: what is shown. value: the number that it is sorted by and that CSV has, with `spread`
    beside it. best: the best of its column. level: not significantly worse than the best."""

    text: str
    value: float | None = None
    spread: float | None = None
    best: bool = False
    level: bool = False


@dataclass(frozen=True)
class Table:
    """name: of its files. title: what it is of. columns: one for each cell of a row; the first one
    names the rows. notes: what has to be known to read it."""

    name: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = ()


def save(table: Table, folder: Path) -> None:
    """<name>.md, <name>.tex and <name>.csv."""
    for ending, text in (("md", markdown(table)), ("tex", latex(table)), ("csv", as_csv(table))):
        write_whole(folder / f"{table.name}.{ending}", text.encode())


def markdown(table: Table) -> str:
    """As a table of GitHub's Markdown, with its notes below."""

    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(cells) + " |\n"

    def shown(cell: Cell) -> str:
        text = _literal(cell.text)
        return (f"**{text}**" if cell.best else text) + LEVEL * cell.level

    rows = [
        line(map(_literal, table.columns)),
        line("---" if number == 0 else "---:" for number in range(len(table.columns))),
        *(line(map(shown, row)) for row in table.rows),
    ]
    notes = f"\n{sentence(table.notes)}\n" if table.notes else ""
    return f"{''.join(rows)}{notes}"


def _literal(text: str) -> str:
    return re.sub(r"([|*_<\\])", r"\\\1", text)


def sentence(notes: Sequence[str]) -> str:
    """A table's notes."""
    text = "; ".join(notes)
    return f"{text[:1].upper()}{text[1:]}."


def latex(table: Table) -> str:
    """As a table of LaTeX's, which needs the package booktabs."""

    def shown(cell: Cell) -> str:
        text = _escaped(cell.text)
        return (rf"\textbf{{{text}}}" if cell.best else text) + r"$^\circ$" * cell.level

    def line(cells: Iterable[str]) -> str:
        return "  " + " & ".join(cells) + r" \\" + "\n"

    return (
        "\\begin{table}\n"
        f"  \\caption{{{_escaped(table.title)}. {_escaped(sentence(table.notes))}}}\n"
        f"  \\begin{{tabular}}{{l{'r' * (len(table.columns) - 1)}}}\n"
        "  \\toprule\n"
        f"{line(map(_escaped, table.columns))}"
        "  \\midrule\n"
        f"{''.join(line(map(shown, row)) for row in table.rows)}"
        "  \\bottomrule\n"
        "  \\end{tabular}\n"
        "\\end{table}\n"
    )


LATEX = {
    "\\": r"\textbackslash{}",
    "±": r"$\pm$",
    "°": r"$^\circ$",
    "<": r"$<$",
    ">": r"$>$",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
} | {character: f"\\{character}" for character in "&%$#_{}"}


def _escaped(text: str) -> str:
    return "".join(LATEX.get(character, character) for character in text)


def as_csv(table: Table) -> str:
    """Numbers at full precision, a standard deviation beside each mean; text where there is no
    number."""
    spreads = [
        any(row[number].spread is not None for row in table.rows)
        for number in range(len(table.columns))
    ]
    header: list[str] = []
    for column, has_spread in zip(table.columns, spreads, strict=True):
        header += [column, f"{column} sd"] if has_spread else [column]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    for row in table.rows:
        values: list[str | float | None] = []
        for cell, has_spread in zip(row, spreads, strict=True):
            values.append(cell.text if cell.value is None else cell.value)
            if has_spread:
                values.append(cell.spread)
        writer.writerow(values)
    return out.getvalue()
