"""Tables of means over seeds, which mark the best groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from fm_al.report.comparison_tables import SAME_DIFFERENCE
from fm_al.report.metrics import LOWER, is_lower_better
from fm_al.report.runs import Runs
from fm_al.report.statistics import (
    ALPHA,
    FEWEST_FOR_T,
    by_mean,
    common_seeds,
    missing_seeds,
    standing,
)
from fm_al.report.text import listed
from fm_al.report.typeset import LEVEL, NO_NUMBER, UNTESTED, Cell, Table

AREA = "areas are divided by the range of labels, so each is a mean"
AREA_OF_SHARE = f"{AREA} in [0, 1]"


def by_area(runs: Runs) -> list[str]:
    """The groups, the largest area under the accuracy curve first; see `by_mean`."""
    return by_mean(runs.area("accuracy"))


def mean_cell(values: pd.Series, form: str = "{:.3f}") -> Cell:
    """Mean ± standard deviation, without missing values."""
    there = values.dropna()
    if there.empty:
        return NO_NUMBER
    mean = float(there.mean())
    if len(there) == 1:
        return Cell(form.format(mean), mean)
    spread = float(there.std(ddof=1))
    return Cell(f"{form.format(mean)} ± {form.format(spread)}", mean, spread)


def means_table(
    runs: Runs,
    name: str,
    title: str,
    frames: Mapping[str, pd.DataFrame],
    more_notes: Sequence[str] = (),
    below: Sequence[Sequence[Cell]] = (),
) -> Table:
    """A row for each group and a column for each frame, which marks the best groups.

    Args:
        runs: The runs of one setting.
        name: Stem of the table's files.
        title: What it shows.
        frames: Seeds x groups, by column. Lower is better where the name says so, see
            `is_lower_better`.
        more_notes: Notes after those on means, marks and seeds.
        below: Rows of what is not compared.
    """
    standings = [
        standing(-frame if is_lower_better(column) else frame) for column, frame in frames.items()
    ]
    groups, rows = by_area(runs), []
    has_few = has_constant = False
    for group in groups:
        row = [Cell(group)]
        for frame, stands in zip(frames.values(), standings, strict=True):
            cell = mean_cell(frame[group])
            is_best = group in stands.best and len(groups) > 1
            is_untested = cell != NO_NUMBER and group in stands.untested | stands.constant
            has_few |= is_untested and group in stands.untested
            has_constant |= is_untested and group in stands.constant
            mark = LEVEL if group in stands.level else UNTESTED if is_untested else ""
            row.append(Cell(cell.text, cell.value, cell.spread, is_best, mark))
        rows.append(row)
    notes = _notes(runs, frames)
    reasons = [f"fewer than {FEWEST_FOR_T} pairs"] * has_few + [SAME_DIFFERENCE] * has_constant
    if reasons:
        notes.append(f"{UNTESTED}: cannot be tested against the best ({', '.join(reasons)})")
    notes += _lacking_seeds(runs) + _unrecorded(runs, frames)
    if any(map(is_lower_better, frames)):
        notes.append(f"{LOWER.strip()}: lower is better")
    columns = [compared_by(runs), *frames]
    return Table(name, title, columns, [*rows, *below], [*notes, *more_notes])


def _unrecorded(runs: Runs, frames: Mapping[str, pd.DataFrame]) -> list[str]:
    """Notes on columns that some runs have no number for, since an older version recorded them."""
    there = runs.final("accuracy").notna()
    columns: dict[int, list[str]] = {}
    for column, frame in frames.items():
        if 0 < (lacking := int((there & frame.isna()).to_numpy().sum())) < there.to_numpy().sum():
            columns.setdefault(lacking, []).append(column.removesuffix(LOWER))
    return [
        f"{listed(names)}: not recorded by {lacking} of {len(runs.runs)} runs"
        for lacking, names in columns.items()
    ]


def _notes(runs: Runs, frames: Mapping[str, pd.DataFrame]) -> list[str]:
    """What the values of a table of means are, and how its best groups were chosen."""
    seeds = runs.seeds
    notes = [f"mean ± standard deviation over {len(seeds)} seed{'s' * (len(seeds) > 1)}"]
    if len(runs.groups) < 2:
        return notes
    apart = [
        column.removesuffix(LOWER)
        for column, frame in frames.items()
        if common_seeds(frame).empty and frame.notna().to_numpy().any()
    ]
    if apart:
        of_these = f" of {listed(apart)}" * (len(apart) < len(frames))
        notes.append(f"no best{of_these} is marked, since no seed is common to all")
    if len(apart) == len(frames):
        return notes
    if len(seeds) < FEWEST_FOR_T:
        return [*notes, "bold: best of its column; too few seeds to test differences"]
    notes.append(
        f"bold: best of its column; {LEVEL}: not significantly worse (paired t-test over "
        f"seeds, {ALPHA}, Holm over all pairs)"
    )
    if any(missing_seeds(frame) for frame in frames.values()):
        notes.append(
            "the best is chosen by the seeds that all have, among groups with enough seeds to test"
        )
    return notes


def _lacking_seeds(runs: Runs) -> list[str]:
    """A note on every group that lacks runs."""
    return [
        f"{group} lacks seed{'s' * (len(lacks) > 1)} {', '.join(map(str, lacks))}, so it has fewer "
        "pairs"
        for group, lacks in missing_seeds(runs.final("accuracy")).items()
    ]


def compared_by(runs: Runs) -> str:
    return ", ".join(runs.by)
