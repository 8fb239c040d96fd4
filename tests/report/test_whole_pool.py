"""Runs on the whole pool are upper bounds of settings, and not compared with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fm_al.errors import ConfigError
from fm_al.report.bound_tables import bound_level, bound_name, bound_row, bound_table
from fm_al.report.report import report_of
from fm_al.report.runs import Runs
from fm_al.report.selection import read_runs
from fm_al.report.tables import tables_of_setting
from fm_al.report.whole_pool import VARIES
from fm_al.report.writing import markdown
from tests.helpers.command_line import ROOT
from tests.helpers.made_runs import make_run
from tests.report.left_out import RISING
from tests.report.made_pages import change_provenance

POOL = [400, 400, 200]


def make_bound(folder: Path, seed: int, accuracy: float = 0.9, **named: Any) -> Path:
    budget = {"whole_pool": True} | named.pop("budget", {})
    overrides = named.pop("overrides", "budget.whole_pool=True")
    return make_run(
        folder, "random", seed, [accuracy], pool=POOL, budget=budget, overrides=overrides, **named
    )


def make_compared(folder: Path, seeds: int = 3, **named: Any) -> None:
    for seed in range(seeds):
        make_run(folder, "random", seed, [0.3, 0.4, 0.45], pool=POOL, **named)
        make_run(folder, "badge", seed, [0.3, 0.5, 0.72 + 0.01 * seed], pool=POOL, **named)


def test_a_run_on_the_whole_pool_is_no_group_and_bounds_its_setting(tmp_path: Path) -> None:
    make_compared(tmp_path)
    for seed in (1, 0):
        make_bound(tmp_path, seed)
    runs = read_runs(tmp_path)
    assert runs.groups == ["badge", "random"]
    assert runs.settings == ["trial"]
    assert [run.seed for run in runs.of("trial").bounds] == [0, 1]
    assert bound_name(runs.of("trial")) == "whole pool, 1,000 labels"
    assert not runs.left_out


def test_it_bounds_every_setting_that_differs_in_the_budget_alone(tmp_path: Path) -> None:
    make_compared(tmp_path)
    make_compared(tmp_path, experiment="longer", per_round=30)
    make_compared(tmp_path, experiment="elsewhere", dataset="mnist")
    bound = make_bound(tmp_path, 0)
    other = make_bound(tmp_path, 0, experiment="third", dataset="svhn")
    runs = read_runs(tmp_path)
    bounds = {setting: runs.of(setting).bounds for setting in runs.settings}
    assert {name: len(those) for name, those in bounds.items()} == {
        "trial": 1, "longer": 1, "elsewhere": 0,
    }  # fmt: skip
    assert bounds["longer"][0].directory == bound
    assert [each.directory for each in runs.left_out] == [other]
    assert "no other run here has its setting" in runs.left_out[0].why


def test_the_docs_name_all_in_which_a_bound_may_differ() -> None:
    docs = " ".join((ROOT / "docs" / "report.md").read_text().split())
    sentence = docs.partition("agrees with it in all but ")[2].partition(", one run for each")[0]
    named = {word.strip("`") for word in sentence.replace(" and ", ", ").split(", ")}
    assert named == {*VARIES} - {"features_content"}


def test_of_two_of_a_seed_the_one_of_the_experiment_is_used(tmp_path: Path) -> None:
    make_compared(tmp_path)
    for experiment in ("another", "trial", "zeroth"):
        make_bound(tmp_path, 0, experiment=experiment)
    runs = read_runs(tmp_path)
    (bound,) = runs.of("trial").bounds
    assert bound.flat["experiment_name"] == "trial"
    assert len(runs.left_out) == 2
    assert {each.why for each in runs.left_out} == {
        "was trained on the whole pool, as another run of its setting and seed was"
    }


def test_conditions_on_strategy_and_budget_keep_it_and_others_choose(tmp_path: Path) -> None:
    make_compared(tmp_path)
    for seed in (0, 1):
        make_bound(tmp_path, seed)
    where = {"strategy": ["badge"], "budget.per_round": ["20"], "seed": ["0"]}
    runs = read_runs(tmp_path, where)
    assert runs.groups == ["badge"]
    assert [run.seed for run in runs.of("trial").bounds] == [0]


def test_features_do_not_choose_the_bound(tmp_path: Path) -> None:
    make_compared(tmp_path)
    bound = make_bound(tmp_path, 0)
    added = {"features": {"_target_": "fm_al.features.pca.PCA"}, "features_content": "a"}
    for run in read_runs(tmp_path).of_group("badge"):
        change_provenance(run.directory, lambda there: there["decides"].update(added))
    assert [each.directory for each in read_runs(tmp_path).of("trial").bounds] == [bound]


def test_groups_that_differ_in_more_have_no_common_bound(tmp_path: Path) -> None:
    for ratio in (10, 20):
        make_run(
            tmp_path, "random", 0, RISING, imbalance={"ratio": ratio}, overrides=f"ratio={ratio}"
        )
    make_bound(tmp_path, 0, imbalance={"ratio": 20})
    runs = read_runs(tmp_path, by=["imbalance.ratio"])
    assert runs.of(runs.settings[0]).bounds == ()
    assert len(runs.left_out) == 1


def test_a_folder_of_nothing_else_has_nothing_to_compare(tmp_path: Path) -> None:
    make_bound(tmp_path, 0)
    with pytest.raises(ConfigError, match=r"no finished run .* but those on the whole pool"):
        read_runs(tmp_path)


@pytest.fixture
def bounded(tmp_path: Path) -> Runs:
    make_compared(tmp_path, further=True)
    for seed, accuracy in enumerate([0.9, 0.96]):
        make_bound(tmp_path, seed, accuracy, further=True)
    return read_runs(tmp_path)


def test_its_metrics_are_a_row_below_and_not_compared(bounded: Runs) -> None:
    runs = bounded.of("trial")
    (row,) = bound_row(runs, ["accuracy", "macro_f1"])
    assert [cell.text for cell in row] == [
        "whole pool, 1,000 labels", "0.930 ± 0.042", "0.910 ± 0.042",
    ]  # fmt: skip
    tables = {table.name: table for table in tables_of_setting(runs, "", [])}
    *compared, last = tables["metrics"].rows
    assert [each[0].text for each in compared] == ["badge", "random"]
    assert last[1] == row[1]
    assert not any(cell.best or cell.mark for cell in last)


def test_the_fraction_that_is_reached_is_paired_by_seed(bounded: Runs) -> None:
    (table,) = bound_table(bounded.of("trial"), "")
    assert table.name == "of_whole_pool"
    values = {row[0].text: row[1].value for row in table.rows}
    assert values["badge"] == pytest.approx((0.72 / 0.9 + 0.73 / 0.96) / 2)
    assert values["random"] == pytest.approx((0.45 / 0.9 + 0.45 / 0.96) / 2)
    assert "(2 of 3)" in table.notes[0]


def test_without_a_seed_in_common_no_fraction_is_told(tmp_path: Path) -> None:
    make_compared(tmp_path)
    make_bound(tmp_path, 9)
    (table,) = bound_table(read_runs(tmp_path).of("trial"), "")
    assert [cell.text for row in table.rows for cell in row[1:]] == ["-"] * 6


def test_the_line_has_the_interval_over_seeds(bounded: Runs, tmp_path: Path) -> None:
    level = bound_level(bounded.of("trial"), "accuracy")
    assert level is not None
    assert level.name == "whole pool, 1,000 labels"
    assert level.mean == pytest.approx(0.93)
    assert level.half == pytest.approx(12.706 * 0.03, rel=1e-3)
    make_compared(tmp_path / "more", seeds=1)
    make_bound(tmp_path / "more", 0)
    alone = bound_level(read_runs(tmp_path / "more").of("trial"), "accuracy")
    assert alone is not None
    assert alone.half is None
    make_compared(tmp_path / "none", seeds=1)
    assert bound_level(read_runs(tmp_path / "none").of("trial"), "accuracy") is None


@pytest.mark.usefixtures("without_figures")
def test_the_report_tells_of_it(bounded: Runs) -> None:
    made = report_of(bounded, "A trial", "fm-al-report .", lambda *_: "", [], False)
    written = markdown(made, "figures")
    assert "50 in total; upper bound: 2 runs on the whole pool, 1,000 labels; on cpu" in written
    assert "### Fraction of training on the whole pool that 50 labels reach" in written
