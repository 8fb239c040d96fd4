"""What tables hold, and how they are set in Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from fm_al.report.published import published
from fm_al.report.selection import read_runs
from fm_al.report.tables import by_area, tables_of_setting
from fm_al.report.typeset import Cell, Table, as_csv, latex, markdown
from tests.helpers.made_runs import make_run
from tests.report.made_reports import frozen, markdown_of


def test_csv_has_full_precision_and_deviations_beside_means(tmp_path: Path) -> None:
    runs = read_runs(frozen(tmp_path))
    tables = {table.name: table for table in tables_of_setting(runs, "", [])}
    rows = list(csv.DictReader(as_csv(tables["accuracy"]).splitlines()))
    first = rows[0]
    assert first["strategy"] == by_area(runs)[0]
    frame = runs.at("accuracy", 85)[first["strategy"]]
    assert float(first["85"]) == frame.mean()
    assert float(first["85 sd"]) == frame.std(ddof=1)
    alone = next(row for row in rows if row["strategy"] == "coreset")
    assert (alone["85"], alone["85 sd"]) == ("0.5", "")


def test_csv_says_of_how_many_seeds_a_mean_is(tmp_path: Path) -> None:
    for seed, last in enumerate((0.9, 0.9, 0.6)):
        make_run(tmp_path, "margin", seed, [0.3, 0.5, last])
        make_run(tmp_path, "random", seed, [0.3, 0.4, 0.5])
    tables = {table.name: table for table in tables_of_setting(read_runs(tmp_path), "", [0.8])}
    margin, random = csv.DictReader(as_csv(tables["labels_needed_accuracy"]).splitlines())
    assert (margin["labels for 0.8"], margin["labels for 0.8 seeds"]) == ("50.0", "2")
    assert (random["labels for 0.8"], random["labels for 0.8 seeds"]) == ("", "0")
    assert (random["saved for 0.8"], margin["saved for 0.8"]) == ("", "")
    assert margin["saved for random's last seeds"] == "3"


ODD = Table(
    "t",
    "50% of a_b & c",
    ["x|y", "5^2"],
    [[Cell("a|b_*<"), Cell("1 ± 2", 1.0, 2.0, True)], [Cell("c - t-test"), Cell("-1.5", -1.5)]],
    ["x_y"],
)


def test_odd_characters_are_literal_in_markdown_and_latex() -> None:
    assert markdown(ODD) == (
        "| x\\|y | 5^2 |\n| --- | ---: |\n| a\\|b\\_\\*\\< | **1 ± 2** |\n"
        "| c - t-test | -1.5 |\n\nX_y.\n"
    )
    written = latex(ODD)
    assert r"\caption{50\% of a\_b \& c. X\_y.}" in written
    assert r"a\textbar{}b\_{*}$<$ & \textbf{1 $\pm$ 2} \\" in written
    assert r"x\textbar{}y & 5\textasciicircum{}2 \\" in written
    assert r"c - t-test & $-$1.5 \\" in written
    for rule in ("toprule", "midrule", "bottomrule"):
        assert rf"\{rule}" in written


def rows_and_heads(rows: int, columns: int, text: str) -> Table:
    cells = [Cell(f"{text}{number}", number) for number in range(columns)]
    return Table("wide", "Wide", [f"h{number}" for number in range(columns)], [cells] * rows)


def test_a_wide_latex_table_has_parts_that_fit_a_page() -> None:
    written = latex(rows_and_heads(3, 15, "0.123 ± 0.4"))
    assert written.count(r"\begin{table}") == written.count(r"\label{tab:wide}") == 1
    heads = [line for line in written.splitlines() if "h" in line and "&" in line]
    assert [head.count("&") for head in heads] == [4, 4, 4, 2]
    assert all(head.strip().startswith("h0 & ") for head in heads)
    assert written.count(r"\begin{tabular}{lrrrr}") == 3
    assert set(re.findall(r"h\d+", written)) == {f"h{number}" for number in range(15)}
    assert latex(rows_and_heads(3, 15, "1")).count(r"\begin{tabular}") == 1


def test_parts_that_are_too_high_for_a_page_are_tables_of_their_own() -> None:
    written = latex(rows_and_heads(30, 15, "0.123 ± 0.4"))
    assert written.count(r"\begin{table}") == written.count(r"\end{table}") == 4
    assert written.count(r"\caption{Wide. ") == written.count(r"\label{tab:wide}") == 1
    assert written.count(r"\caption{Wide (continued).}") == 3
    assert written.count(r"\addtocounter{table}{-1}") == 3


def test_a_strategy_needs_no_labels_for_a_target_that_its_seed_has_not(tmp_path: Path) -> None:
    """random's last accuracy is known of seed 0 alone."""
    make_run(tmp_path, "random", 0, [0.3, 0.4, 0.5])
    for seed, last in enumerate((0.9, 0.9, 0.2)):
        make_run(tmp_path, "badge", seed, [0.3, 0.3, last])
    for seed in (1, 2):
        make_run(tmp_path, "margin", seed, [0.3, 0.3, 0.4])
    tables = {table.name: table for table in tables_of_setting(read_runs(tmp_path), "", [])}
    table = tables["labels_needed_accuracy"]
    needed = {row[0].text: row[1].text for row in table.rows}
    assert needed == {"random": "50 (1 of 1)", "badge": "50 (1 of 1)", "margin": "-"}


def test_seconds_are_of_whole_runs(tmp_path: Path) -> None:
    runs = read_runs(frozen(tmp_path))
    (table,) = (each for each in tables_of_setting(runs, "", []) if each.name == "seconds")
    values = {row[0].text: [cell.value for cell in row[1:]] for row in table.rows}
    assert values["random"] == [6.0, 1.5, 4.0, 11.5]


@pytest.mark.usefixtures("without_figures")
def test_one_strategy_is_compared_with_none(tmp_path: Path) -> None:
    for seed in range(3):
        make_run(tmp_path, "random", seed, [0.3, 0.5])
    written = markdown_of(tmp_path)
    assert "### Accuracy by number of labels" in written
    for absent in ("### Differences", "## All settings", "bold", "Wins"):
        assert absent not in written


@pytest.mark.usefixtures("without_figures")
def test_what_can_not_be_tested_with_the_best_is_marked_so(tmp_path: Path) -> None:
    for seed in range(4):
        make_run(tmp_path, "margin", seed, [0.3, 0.5 + seed / 100])
        if seed < 2:
            make_run(tmp_path, "bait", seed, [0.3, 0.1])
    written = markdown_of(tmp_path)
    assert "| **0.515 ± 0.013** |" in written
    assert "| 0.100 ± 0.000† |" in written
    assert "†: cannot be tested against the best (fewer than 3 pairs)" in written


def test_published_numbers_are_those_of_the_figure() -> None:
    figure = published("imbalanced_cifar10", "cifar10")
    assert figure["random"][15] == 0.252
    assert published("imbalanced_cifar10_as_published", "cifar10_jpeg") == figure
    assert published("imbalanced_cifar10", "svhn") == {}
    assert published("imbalanced_fashion_mnist", "fashion_mnist") == {}
    assert published("balanced_cifar100", "cifar100") == {}
    assert set(published("imbalanced_mnist", "mnist")) == {
        "bait", "coreset", "entropy", "fishermask", "random"
    }  # fmt: skip
