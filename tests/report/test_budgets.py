"""Budgets and starts in words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fm_al.report.budgets import budgets_in_words
from fm_al.report.notices import notices_of
from fm_al.report.runs import Runs
from fm_al.report.selection import read_runs
from tests.helpers.made_runs import make_run
from tests.report.made_pages import change_provenance

BALANCED = {"_target_": "fm_al.starts.balanced.BalancedStart"}
TYPICLUST = {
    "_target_": "fm_al.starts.strategy.StrategyStart",
    "strategy": {"_target_": "fm_al.strategies.typiclust.TypiClust", "max_candidates": None},
}


def make(folder: Path, strategy: str = "random", **budget: Any) -> Path:
    """A run whose queries are of this budget."""
    sizes = budget.pop("sizes")
    directory = make_run(folder, strategy, 0, [0.3 + 0.01 * each for each in range(len(sizes) + 1)])
    labels = [10 + sum(sizes[:number]) for number in range(len(sizes) + 1)]
    path = directory / "rounds.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    for record, count, size in zip(records, labels, [*sizes, 0], strict=True):
        record |= {"labelled": count, "queried": list(range(size)), "queried_classes": [size, 0, 0]}
    path.write_text("".join(f"{json.dumps(each)}\n" for each in records))
    result = json.loads((directory / "result.json").read_text()) | {"labelled": labels[-1]}
    (directory / "result.json").write_text(json.dumps(result))
    change_provenance(
        directory, lambda there: there["decides"]["budget"].update(total=labels[-1], **budget)
    )
    return directory


@pytest.mark.parametrize(
    ("budget", "sizes", "words"),
    [
        ({}, [20, 20], "10 initial labels, 20 per round, 50 in total"),
        ({"per_round": [20, 20, 40, 80]}, [20, 20, 40, 80], "20, 20, 40, 80 per round, 170 in"),
        ({"per_round": [20, 40]}, [20, 40, 40, 5], "20, 40, 40, 5 per round"),
        ({"per_round": 20, "growth": 2.0}, [20, 40, 80], "20, 40, 80 per round, 150 in total"),
        ({"per_round": 1, "growth": 2}, [2**n for n in range(9)], "8, 16, 32, 64, …, 256 per"),
        ({"per_round": [20, 40]}, [], "10 initial labels, 0 per round, 10 in total"),
        ({"start": BALANCED}, [20], "10 initial labels (start: balanced), 20 per round"),
        ({"start": TYPICLUST}, [20], "10 initial labels (start: typiclust), 20 per round"),
    ],
)
def test_a_budget_is_told(
    tmp_path: Path, budget: dict[str, Any], sizes: list[int], words: str
) -> None:
    make(tmp_path, sizes=sizes, **budget)
    runs = read_runs(tmp_path)
    assert not runs.left_out
    assert words in budgets_in_words(runs.of("trial"))


def test_schedules_of_several_budgets_are_in_brackets_the_shortest_first(tmp_path: Path) -> None:
    for number, (per_round, sizes) in enumerate(
        [([10, 30], [10, 30]), (20, [20, 20]), ([10, 20, 10], [10, 20, 10]), (10, [10] * 4)]
    ):
        make(tmp_path / str(number), sizes=sizes, per_round=per_round)
    runs = read_runs(tmp_path, by=["budget.per_round"])
    words = "10 initial labels, 10 or 20 or [10, 30] or [10, 20, 10] per round, 50 in total"
    assert budgets_in_words(runs.of("trial")) == words


def test_rounds_that_do_not_follow_the_schedule_are_damaged(tmp_path: Path) -> None:
    make_run(tmp_path, "badge", 0, [0.3, 0.5])
    make(tmp_path, sizes=[20, 40, 80], per_round=20, growth=1.5)
    (left_out,) = read_runs(tmp_path).left_out
    assert "its budget is of 5" in left_out.why


def test_a_start_that_knows_the_classes_is_told_as_an_oracles(tmp_path: Path) -> None:
    directory = make(tmp_path, sizes=[20], start=BALANCED)
    assert not any("oracle" in notice for notice in notices_of(read_runs(tmp_path)))
    change_provenance(directory, lambda there: there.update(start_uses_classes=True))
    assert (
        "trial: an oracle setting: the first labels (start: balanced) were chosen by the classes "
        "of the whole pool, which no real labelling knows"
    ) in notices_of(read_runs(tmp_path))


def test_starts_are_compared_by_name_and_decide_the_first_labels(tmp_path: Path) -> None:
    make(tmp_path / "a", sizes=[20])
    make(tmp_path / "b", sizes=[20], start=TYPICLUST)
    apart = read_runs(tmp_path)
    assert apart.settings == ["trial (start=random)", "trial (start=typiclust)"]
    runs = read_runs(tmp_path, by=["budget.start"])
    assert runs.groups == ["random", "typiclust"]
    assert not runs.start_alike
    only = read_runs(tmp_path, {"budget.start": ["typiclust"]})
    assert [run.options["budget.start"] for run in only.runs] == ["typiclust"]


def test_growth_of_1_is_compared_and_chosen_though_records_leave_it_out(tmp_path: Path) -> None:
    make(tmp_path / "a", sizes=[20, 20])
    make(tmp_path / "b", sizes=[20, 40], growth=2)
    runs = read_runs(tmp_path, by=["budget.growth", "budget.total"])
    assert runs.groups == ["growth=1 total=50", "growth=2 total=70"]
    assert not runs.left_out
    for text in ("1", "1.0"):
        (chosen,) = read_runs(tmp_path, {"budget.growth": [text]}).runs
        assert chosen.rounds[-1].labelled == 50
    assert len(read_runs(tmp_path, {"budget.whole_pool": ["false"]}).runs) == 2


def test_settings_are_named_by_growth_of_1(tmp_path: Path) -> None:
    make(tmp_path / "a", sizes=[20, 40, 20], per_round=[20, 40, 20])
    make(tmp_path / "b", sizes=[20, 40, 20], growth=2, per_round=[20, 40, 20])
    assert read_runs(tmp_path).settings == ["trial (growth=1)", "trial (growth=2)"]


def test_budgets_with_and_without_what_has_no_effect_are_one_setting(tmp_path: Path) -> None:
    start = {"_target_": "fm_al.starts.random.RandomStart"}
    make(tmp_path, sizes=[20])
    make(tmp_path, "badge", sizes=[20], growth=1.0, whole_pool=False, start=None)
    make(tmp_path, "margin", sizes=[20], growth=1, start=start)
    runs = read_runs(tmp_path)
    assert (runs.settings, len(runs.runs)) == (["trial"], 3)


def of_strategy(target: str, **options: Any) -> dict[str, Any]:
    start = "fm_al.starts.strategy.StrategyStart"
    return {"_target_": start, "strategy": {"_target_": target} | options}


def test_a_start_is_named_once_and_one_of_the_users_own_by_its_class(tmp_path: Path) -> None:
    starts = [
        {"_target_": "mine.First"},
        {"_target_": "mine.Second"},
        of_strategy("fm_al.strategies.coreset.Coreset"),
        of_strategy("mine.Spread"),
        {"_target_": "mine.Third", "strategy": {"_target_": "fm_al.strategies.coreset.Coreset"}},
    ]
    for number, start in enumerate(starts):
        make(tmp_path / str(number), sizes=[20], start=start)
    for size in (20, 30):
        make(tmp_path / f"of_{size}", sizes=[size], per_round=size, start=BALANCED)
    assert read_runs(tmp_path).settings == [
        f"trial (per_round={size}, start={name})"
        for size, name in (
            (20, "First"), (20, "Second"), (20, "Spread"), (20, "Third"), (20, "balanced"),
            (20, "coreset"), (30, "balanced"),
        )
    ]  # fmt: skip
    of_20 = read_runs(tmp_path, {"budget.per_round": ["20"]}, ["budget.start"])
    names = ["First", "Second", "Spread", "Third", "balanced", "coreset"]
    assert of_20.groups == names
    (chosen,) = read_runs(tmp_path, {"budget.start": ["Second"]}).runs
    assert "(start: Second)" in budgets_in_words(Runs([chosen]))


def test_options_of_a_strategy_that_starts_tell_settings_apart(tmp_path: Path) -> None:
    for power in (1, 2):
        start = of_strategy("mine.Spread", power=power)
        make(tmp_path / str(power), sizes=[20], start=start)
    assert read_runs(tmp_path).settings == ["trial (power=1)", "trial (power=2)"]
