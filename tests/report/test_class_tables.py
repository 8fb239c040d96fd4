"""Tables of the labels' classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from fm_al.report.class_tables import class_tables
from fm_al.report.runs import Runs
from fm_al.report.selection import read_runs
from fm_al.report.typeset import Table
from tests.helpers.made_runs import make_run

RISING = [0.3, 0.5, 0.7]
LABELS = {"badge": [[30, 10, 10], [32, 8, 10], [25, 15, 10]], "random": [[46, 2, 2]] * 3}


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    for group, of_seeds in LABELS.items():
        for seed, counts in enumerate(of_seeds):
            directory = make_run(tmp_path, group, seed, RISING, pool=[900, 50, 50])
            path = directory / "rounds.jsonl"
            *before, last = path.read_text().splitlines()
            changed = last.replace(
                '"labelled_classes": [48, 1, 1]', f'"labelled_classes": {counts}'
            )
            assert changed != last
            path.write_text("\n".join([*before, changed, ""]))
    return read_runs(tmp_path)


def tables(runs: Runs) -> dict[str, Table]:
    return {table.name: table for table in class_tables(runs, "")}


def cells(table: Table) -> dict[str, list[str]]:
    return {row[0].text: [cell.text for cell in row[1:]] for row in table.rows}


def test_labels_of_each_class_stand_beside_the_pool(runs: Runs) -> None:
    table = tables(runs)["class_labels"]
    assert table.title == "Labels of each class at 50 labels"
    assert table.columns == ["strategy", "plane", "car", "bird"]
    assert cells(table) == {
        "badge": ["29.0 ± 3.6", "11.0 ± 3.6", "10.0 ± 0.0"],
        "random": ["46.0 ± 0.0", "2.0 ± 0.0", "2.0 ± 0.0"],
        "the pool": ["900", "50", "50"],
    }


def test_shares_have_students_interval(runs: Runs) -> None:
    table = tables(runs)["tier_labels"]
    assert table.columns[1:] == [
        "majority labels", "majority share", "minority labels", "minority share",
    ]  # fmt: skip
    shares = np.array([0.4, 0.36, 0.5])
    low, high = stats.t.interval(0.95, 2, shares.mean(), stats.sem(shares))
    shown = cells(table)
    assert shown["badge"][2:] == ["21.0 ± 3.6", f"42.0% ({100 * low:.1f} to {100 * high:.1f})"]
    assert shown["random"][3] == "8.0%", "without spread there is no interval"
    assert shown["the pool"] == ["900", "90.0%", "100", "10.0%"]
    of_badge = next(row for row in table.rows if row[0].text == "badge")
    assert of_badge[4].value == pytest.approx(0.42)
    assert of_badge[4].spread == pytest.approx(shares.std(ddof=1))
    assert "less than half of the largest class's images" in " ".join(table.notes)


def test_accuracy_on_a_tier_is_the_mean_over_its_classes(runs: Runs) -> None:
    table = tables(runs)["tier_accuracy"]
    assert table.columns[1:] == ["majority", "majority, area", "minority", "minority, area"]
    # Of a made round the classes' accuracies are a, a + 0.1 and a - 0.1.
    assert cells(table)["random"] == ["0.700 ± 0.000", "0.500 ± 0.000"] * 2


def test_records_that_do_not_count_the_pool_have_no_such_table(tmp_path: Path) -> None:
    make_run(tmp_path, "random", 0, RISING)
    assert class_tables(read_runs(tmp_path), "") == []


def test_level_classes_have_no_tiers(tmp_path: Path) -> None:
    make_run(tmp_path, "random", 0, RISING, pool=[50, 50, 50])
    assert list(tables(read_runs(tmp_path))) == ["class_labels"]
