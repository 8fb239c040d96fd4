"""Worst class, calibration error and Brier score: where they are, and which way is better."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from fm_al.report.metrics import further_metrics_of
from fm_al.report.notices import notices_of
from fm_al.report.selection import read_runs
from fm_al.report.tables import tables_of_setting
from fm_al.report.typeset import Table, latex
from tests.helpers.made_runs import make_run

NAMES = ["worst class", "ECE ↓", "Brier score ↓"]


def tables_of(folder: Path) -> dict[str, Table]:
    runs = read_runs(folder)
    return {table.name: table for table in tables_of_setting(runs.of(runs.settings[0]), "", [])}


def without(directory: Path, rounds: list[int], *fields: str) -> None:
    """Take fields out of rounds, and out of the result if the last is among them."""
    path = directory / "rounds.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    for number in rounds:
        for name in fields:
            del records[number][name]
    path.write_text("".join(f"{json.dumps(each)}\n" for each in records))


FIELDS = ("worst_class_accuracy", "expected_calibration_error", "brier_score")


@pytest.fixture
def better(tmp_path: Path) -> Path:
    """Badge is better in all, which for two metrics is lower."""
    for seed in range(4):
        gap = 0.1 + 0.003 * (seed % 2)
        make_run(tmp_path, "random", seed, [0.3, 0.4, 0.5], further=True)
        make_run(tmp_path, "badge", seed, [0.3, 0.4 + gap, 0.5 + gap], further=True)
    return tmp_path


def test_the_best_is_the_lowest_where_lower_is_better(better: Path) -> None:
    tables = tables_of(better)
    for name in ("metrics", "areas"):
        table = tables[name]
        assert table.columns == ["strategy", "accuracy", "balanced accuracy", "macro-F1", *NAMES]
        badge, random = table.rows
        assert badge[0].text == "badge"
        assert all(cell.best for cell in badge[1:])
        assert not any(cell.best or cell.mark for cell in random[1:])
        assert badge[-1].value < random[-1].value
        assert "↓: lower is better" in table.notes
    assert "mean in [0, 1]" not in " ".join(tables["areas"].notes), "a Brier score is up to 2"
    assert r"ECE $\downarrow$" in latex(tables["metrics"])


def test_records_of_earlier_versions_are_reported_as_before(tmp_path: Path) -> None:
    make_run(tmp_path, "random", 0, [0.3, 0.4])
    tables = tables_of(tmp_path)
    assert "metrics" not in tables
    assert tables["areas"].columns == ["strategy", "accuracy", "balanced accuracy", "macro-F1"]


def test_runs_that_lack_a_metric_are_left_out_of_its_mean_and_counted(better: Path) -> None:
    runs = read_runs(better)
    last = next(run for run in runs.of_group("badge") if run.seed == 3)
    without(last.directory, [0, 1, 2], *FIELDS)
    tables = tables_of(better)
    badge, random = tables["metrics"].rows
    of_three = [0.3 - (0.6 + 0.003 * odd) / 4 for odd in (0, 1, 0)]
    assert badge[-2].value == pytest.approx(sum(of_three) / 3)
    assert badge[-2].best
    assert random[-2].value == pytest.approx(0.3 - 0.5 / 4)
    note = "worst class, ECE and Brier score: not recorded by 1 of 8 runs"
    assert note in tables["metrics"].notes
    assert note in tables["areas"].notes


def test_a_run_resumed_since_has_the_last_value_and_no_area(better: Path) -> None:
    for run in read_runs(better).of_group("badge"):
        without(run.directory, [0], *FIELDS)
    tables = tables_of(better)
    assert all(row[-1].value is not None for row in tables["metrics"].rows)
    badge, random = tables["areas"].rows
    assert (badge[-1].text, badge[-1].mark, badge[-1].best) == ("-", "", False)
    assert random[-1].best
    assert "worst class, ECE and Brier score: not recorded by 4 of 8 runs" in tables["areas"].notes


CHOSEN = "the best is chosen by the seeds that all have, among groups with enough seeds to test"
UNTESTED = "†: cannot be tested against the best (fewer than 3 pairs)"


def test_a_mark_for_too_few_recorded_values_is_explained(tmp_path: Path) -> None:
    for seed in range(3):
        make_run(tmp_path, "random", seed, [0.3, 0.4, 0.5 + 0.01 * seed**2], further=True)
        make_run(tmp_path, "badge", seed, [0.3, 0.4, 0.6 + 0.01 * seed], further=True)
    for run in read_runs(tmp_path).of_group("random")[:2]:
        without(run.directory, [0, 1, 2], *FIELDS)
    tables = tables_of(tmp_path)
    for name in ("metrics", "areas"):
        badge, random = tables[name].rows
        assert badge[-1].best
        assert random[-1].mark == "†"
        assert {CHOSEN, UNTESTED} < {*tables[name].notes}
    assert not {CHOSEN, UNTESTED} & {*tables["accuracy"].notes}


def test_without_a_mark_none_is_explained(better: Path) -> None:
    for run in read_runs(better).of_group("badge"):
        without(run.directory, [0, 1, 2], *FIELDS)
    notes = tables_of(better)["metrics"].notes
    assert CHOSEN in notes
    assert UNTESTED not in notes


def test_a_metric_without_a_recorded_seed_in_common_has_no_best(tmp_path: Path) -> None:
    for seed in range(2):
        for strategy in ("random", "badge"):
            gap = 0.1 * (strategy == "badge")
            run = make_run(tmp_path, strategy, seed, [0.3, 0.4 + gap], further=True)
            if (strategy == "badge") == seed:
                without(run, [0, 1], *FIELDS)
    table = tables_of(tmp_path)["metrics"]
    assert [cell.best for cell in table.rows[0][1:]] == [True] * 3 + [False] * 3
    assert (
        "no best of worst class, ECE and Brier score is marked, since no seed is common to all"
    ) in table.notes


def test_a_mark_is_explained_though_no_group_has_seeds_for_a_test(tmp_path: Path) -> None:
    make_run(tmp_path, "random", 0, [0.3, 0.4])
    make_run(tmp_path, "badge", 0, [0.3, 0.5])
    table = tables_of(tmp_path)["accuracy"]
    assert table.rows[1][-1].mark == "†"
    assert UNTESTED in table.notes


def test_a_worst_class_that_is_never_right_is_left_out_and_told(tmp_path: Path) -> None:
    for strategy in ("random", "badge"):
        path = make_run(tmp_path, strategy, 0, [0.3, 0.4], further=True) / "rounds.jsonl"
        records = [json.loads(line) for line in path.read_text().splitlines()]
        changed = [json.dumps(each | {"worst_class_accuracy": 0.0}) for each in records]
        path.write_text("\n".join([*changed, ""]))
    runs = read_runs(tmp_path)
    assert [*further_metrics_of(runs)] == ["expected_calibration_error", "brier_score"]
    told = "trial: the accuracy of the worst class is left out: it is 0 in every round"
    assert told in notices_of(runs)
    assert NAMES[0] not in tables_of(tmp_path)["metrics"].columns


def test_an_absent_metric_reads_as_nan(tmp_path: Path) -> None:
    make_run(tmp_path, "random", 0, [0.3, 0.4])
    frame = read_runs(tmp_path).of("trial").final("brier_score")
    assert math.isnan(frame["random"][0])
