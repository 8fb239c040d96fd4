"""Tables, and how they are written as Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fm_al.files import atomic_write
from fm_al.report import text

LEVEL, UNTESTED = "°", "†"  # marks of a number beside the best one
# A page of LaTeX's article in \footnotesize.
PAGE_WIDTH = 74  # characters
PAGE_HEIGHT = 46  # lines
GAP = 2  # characters between columns


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: What is shown.
        value: The number to sort by, which CSV holds.
        spread: Its standard deviation, also in CSV.
        best: Whether it is the best of its column.
        mark: LEVEL if not significantly worse than the best, UNTESTED if not testable against it.
        seeds: Number of seeds in the mean, if rows differ in that.
    """

    text: str
    value: float | None = None
    spread: float | None = None
    best: bool = False
    mark: str = ""
    seeds: int | None = None


NO_NUMBER = Cell("-")


@dataclass(frozen=True)
class Table:
    """A table of the report.

    Attributes:
        name: Stem of its files.
        title: What it shows.
        columns: Names of the columns; the first column names the rows.
        rows: The cells.
        notes: What a reader must know to read it.
    """

    name: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = ()


def save(table: Table, folder: Path) -> None:
    """Write `<name>.md`, `<name>.tex` and `<name>.csv`."""
    for ending, written in (("md", markdown(table)), ("tex", latex(table)), ("csv", as_csv(table))):
        atomic_write(folder / f"{table.name}.{ending}", written.encode())


def markdown(table: Table) -> str:
    """The table in GitHub's Markdown, with its notes below."""

    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(cells) + " |\n"

    def shown(cell: Cell) -> str:
        shown = text.markdown_cell(cell.text)
        return (f"**{shown}**" if cell.best else shown) + cell.mark

    rows = [
        line(map(text.markdown_cell, table.columns)),
        line("---" if number == 0 else "---:" for number in range(len(table.columns))),
        *(line(map(shown, row)) for row in table.rows),
    ]
    notes = f"\n{text.markdown(sentence(table.notes))}\n" if table.notes else ""
    return f"{''.join(rows)}{notes}"


def sentence(notes: Sequence[str]) -> str:
    """A table's notes as one sentence."""
    joined = "; ".join(notes)
    return f"{joined[:1].upper()}{joined[1:]}."


def latex(table: Table) -> str:
    """The table in LaTeX, which needs the package booktabs.

    A wide table has several parts, one below the other. If these exceed a page, every part is a
    table of its own.
    """

    def shown(cell: Cell) -> str:
        shown = text.latex(cell.text)
        return (rf"\textbf{{{shown}}}" if cell.best else shown) + text.latex(cell.mark)

    def line(cells: Iterable[str]) -> str:
        return "  " + " & ".join(cells) + r" \\" + "\n"

    def tabular(columns: Sequence[int]) -> str:
        rows = [[row[number] for number in columns] for row in table.rows]
        return (
            f"  \\begin{{tabular}}{{l{'r' * (len(columns) - 1)}}}\n"
            "  \\toprule\n"
            f"{line(text.latex(table.columns[number]) for number in columns)}"
            "  \\midrule\n"
            f"{''.join(line(map(shown, row)) for row in rows)}"
            "  \\bottomrule\n"
            "  \\end{tabular}\n"
        )

    def float_of(caption: str, tabulars: Iterable[str]) -> str:
        return (
            "\\begin{table}\n"
            f"{caption}"
            "  \\centering\n"
            "  \\footnotesize\n"
            "  \\setlength{\\tabcolsep}{4pt}\n"
            + "\n  \\medskip\n\n".join(tabulars)
            + "\\end{table}\n"
        )

    title = text.latex(table.title)
    notes = text.latex(sentence(table.notes))
    caption = f"  \\caption{{{title}. {notes}}}\n  \\label{{tab:{table.name}}}\n"
    continued = f"  \\addtocounter{{table}}{{-1}}\n  \\caption{{{title} (continued).}}\n"
    tabulars = [tabular(columns) for columns in _parts(table)]
    if len(tabulars) * (len(table.rows) + 2) <= PAGE_HEIGHT:
        return float_of(caption, tabulars)
    first, *others = tabulars
    return float_of(caption, [first]) + "\n".join(
        ["", *(float_of(continued, [each]) for each in others)]
    )


def _parts(table: Table) -> list[list[int]]:
    """Divide the columns into few and even parts that fit a page; each has the first column."""
    texts = zip(table.columns, *([cell.text for cell in row] for row in table.rows), strict=True)
    first, *widths = (GAP + max(map(len, column)) for column in texts)
    for count in range(1, len(widths) + 1):
        each = math.ceil(len(widths) / count)
        starts = range(0, len(widths), each)
        if each == 1 or all(
            first + sum(widths[start : start + each]) <= PAGE_WIDTH + GAP for start in starts
        ):
            return [[0, *range(start + 1, min(start + each, len(widths)) + 1)] for start in starts]
    return [[0]]


def as_csv(table: Table) -> str:
    """The table as CSV, by `columns_of`; a missing number is empty."""
    written = columns_of(table)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(text.printable(name) for name, _ in written)
    rows = [list(row) for row in zip(*(values for _, values in written), strict=True)]
    writer.writerows(text.all_printable(rows))
    return out.getvalue()


def columns_of(table: Table) -> list[tuple[str, list[str | float | None]]]:
    """Columns by name, with numbers at full precision and None for missing ones.

    A column `<name> sd` holds standard deviations, and `<name> seeds` numbers of seeds if these
    differ. A column is text if any cell has a text but no number.
    """
    written: list[tuple[str, list[str | float | None]]] = []
    for number, column in enumerate(table.columns):
        cells = [row[number] for row in table.rows]
        if any(_is_text(cell) for cell in cells):
            written.append((column, [cell.text for cell in cells]))
        else:
            written.append((column, [cell.value for cell in cells]))
        for name, beside in (
            ("sd", [cell.spread for cell in cells]),
            ("seeds", [cell.seeds for cell in cells]),
        ):
            if any(value is not None for value in beside):
                written.append((f"{column} {name}", list(beside)))
    return written


def _is_text(cell: Cell) -> bool:
    return cell.value is None and cell.seeds is None and cell != NO_NUMBER
