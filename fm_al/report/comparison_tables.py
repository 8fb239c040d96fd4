"""Tables of the differences between every two groups, and what limits their tests."""

from __future__ import annotations

from collections.abc import Sequence

from fm_al.report.runs import Runs
from fm_al.report.statistics import ALPHA, FEWEST_FOR_T, FEWEST_FOR_WILCOXON, Comparison
from fm_al.report.typeset import NO_NUMBER, Cell, Table

SAME_DIFFERENCE = "their difference is the same for every seed"
MOST_PAIRS = 3  # that a note names
COARSE = 2  # test images; a smaller spread is a step or two of what can be measured


def comparisons(
    name: str, title: str, compared: Sequence[Comparison], test_images: int | None = None
) -> Table:
    """A row for every two groups.

    Args:
        name: Stem of the table's files.
        title: What is compared.
        compared: The comparisons.
        test_images: How many images an accuracy is a fraction of; None for other values.
    """
    rows = []
    for each in compared:
        ends = each.interval or (None, None)
        rows.append(
            [
                Cell(each.name),
                *(_signed(value) for value in (each.difference if each.pairs else None, *ends)),
                _p(each.t_test),
                _p(each.t_test_corrected, is_bold=True),
                _p(each.wilcoxon),
                _p(each.wilcoxon_corrected, is_bold=True),
                Cell(str(each.pairs), each.pairs),
            ]
        )
    t_tests = sum(each.t_test is not None for each in compared)
    wilcoxons = sum(each.wilcoxon is not None for each in compared)
    notes = [
        "paired over seeds; from, to: 95% confidence interval of this pair alone; tests are "
        f"two-sided; Holm: corrected for {t_tests} t-tests and {wilcoxons} Wilcoxon tests",
    ]
    if any(each.pairs < FEWEST_FOR_T for each in compared):
        notes.append(f"a t-test needs at least {FEWEST_FOR_T} pairs")
    notes += spread_notes(compared, test_images)
    if wilcoxons < len(compared):
        notes.append(
            f"Wilcoxon's test needs {FEWEST_FOR_WILCOXON} pairs that differ, since fewer cannot "
            f"give a p-value below {ALPHA}; a corrected one needs more"
        )
    tests = ["t-test", "t-test, Holm", "Wilcoxon", "Wilcoxon, Holm"]
    columns = ["pair", "difference", "from", "to", *tests, "pairs"]
    return Table(name, title, columns, rows, notes)


def spread_notes(compared: Sequence[Comparison], test_images: int | None) -> list[str]:
    """Warn of comparisons whose differences vary too little over seeds; see `comparisons`."""
    notes = []
    if constant := [each.name for each in compared if each.is_constant]:
        notes.append(
            f"no interval and no test for {_few(constant)}, because the difference is the same for "
            "every seed"
        )
    if test_images and (
        coarse := [
            each.name
            for each in compared
            if each.t_test is not None and 0 < (each.spread or 0) < COARSE / test_images
        ]
    ):
        notes.append(
            f"accuracy is too coarse to test {_few(coarse)} well: over seeds the difference varies "
            f"by less than {COARSE} of {test_images} test images (one is {1 / test_images:.2g})"
        )
    return notes


def _few(names: Sequence[str]) -> str:
    more = len(names) - MOST_PAIRS
    return ", ".join(names[:MOST_PAIRS]) + (f" and {more} more" if more > 0 else "")


def test_image_count(runs: Runs) -> int | None:
    """Number of test images; None if runs differ in it or do not record it."""
    counts = {
        sum(run.provenance.test_counts) or sum(map(sum, run.result.confusion_matrix))
        for run in runs.runs
    }
    return (counts.pop() or None) if len(counts) == 1 else None


def _signed(value: float | None) -> Cell:
    return NO_NUMBER if value is None else Cell(f"{value:+.4f}", value)


def _p(value: float | None, is_bold: bool = False) -> Cell:
    if value is None:
        return NO_NUMBER
    text = f"{value:.3f}" if value >= 0.001 else "<0.001"
    return Cell(text, value, best=is_bold and value < ALPHA)
