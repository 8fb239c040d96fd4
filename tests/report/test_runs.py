"""Which runs a report is of, what is compared in it, and what is named and left out."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest

from fm_al.errors import ConfigError
from fm_al.report.command import where_of
from fm_al.report.runs import Runs
from fm_al.report.selection import read_runs
from fm_al.report.values import by_numbers
from tests.helpers.made_runs import make_run, make_trial
from tests.report.left_out import RISING, whys


def test_runs_are_frames_of_seeds_and_groups(tmp_path: Path) -> None:
    for seed in (0, 2, 10):
        make_run(tmp_path, "random", seed, [0.3, 0.5, 0.1 + 0.05 * seed])
        make_run(tmp_path, "badge", seed, [0.3, 0.6, 0.7])
    runs = read_runs(tmp_path)
    assert runs.settings == ["trial"]
    assert runs.groups == ["badge", "random"]
    one = runs.of("trial")
    assert (one.seeds, one.labels) == ([0, 2, 10], [10, 30, 50])
    assert one.final("accuracy")["random"].to_dict() == {0: 0.1, 2: 0.2, 10: 0.6}
    assert one.at("accuracy", 30)["badge"].tolist() == [0.6] * 3
    assert one.area("accuracy")["badge"].tolist() == pytest.approx([(0.45 + 0.65) / 2] * 3)
    assert one.at("macro_f1", 10)["badge"].tolist() == pytest.approx([0.28] * 3)


def test_a_missing_seed_is_a_gap_and_never_shifts_the_others(tmp_path: Path) -> None:
    for seed in (0, 1, 2):
        make_run(tmp_path, "random", seed, RISING)
    for seed in (0, 2):
        make_run(tmp_path, "badge", seed, [0.3, 0.5, 0.8 + seed / 100])
    final = read_runs(tmp_path).of("trial").final("accuracy")
    assert final["badge"].tolist()[::2] == pytest.approx([0.8, 0.82])
    assert math.isnan(final["badge"].tolist()[1])


@pytest.mark.parametrize(
    ("by", "is_alike"),
    [
        ("strategy", True),
        ("backbone", True),
        ("budget.per_round", True),
        ("dataset.crop_padding", True),
        ("dataset", False),
        ("dataset.order", False),
        ("imbalance", False),
        ("imbalance.ratio", False),
        ("budget.initial", False),
        ("strategy,imbalance.pool.3", False),
    ],
)
def test_runs_of_a_seed_start_alike_unless_what_is_compared_decides_the_start(by, is_alike) -> None:
    assert Runs([], by=by.split(",")).start_alike == is_alike


def test_without_a_finished_run_it_is_one_line_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no finished run in this folder or below$"):
        read_runs(tmp_path)
    make_run(tmp_path, "random", 1, RISING, finished=False)
    with pytest.raises(
        ConfigError, match=r"no finished run .*; .*seed1 is not finished: 2 rounds so far"
    ):
        read_runs(tmp_path)


def test_experiments_and_what_else_differs_are_settings(tmp_path: Path) -> None:
    make_trial(tmp_path, "first", seeds=1)
    make_trial(tmp_path, "second", seeds=1)
    assert read_runs(tmp_path).settings == ["first", "second"]
    make_run(tmp_path, "random", 0, RISING, experiment="first", dataset="svhn")
    assert read_runs(tmp_path).settings == [
        "first/cifar10-step", "first/svhn-step", "second/cifar10-step"
    ]  # fmt: skip


def test_settings_of_one_path_are_told_apart_by_their_values(tmp_path: Path) -> None:
    for ratio in (10, 5):
        make_run(
            tmp_path, "random", 0, RISING,
            imbalance={"ratio": ratio}, overrides=f"imbalance.ratio={ratio}",
        )  # fmt: skip
    assert read_runs(tmp_path).settings == ["trial (ratio=5)", "trial (ratio=10)"]


def test_a_strategy_with_several_options_in_one_setting_is_several_groups(tmp_path: Path) -> None:
    make_run(tmp_path, "random", 0, RISING)
    for fraction in (0.002, 0.01):
        make_run(
            tmp_path, "fishermask", 0, RISING,
            options={"fraction": fraction, "mask": "standard"},
            overrides=f"strategy.fraction={fraction}",
        )  # fmt: skip
    runs = read_runs(tmp_path)
    assert runs.settings == ["trial"]
    assert runs.groups == ["fishermask (fraction=0.002)", "fishermask (fraction=0.01)", "random"]


def test_options_that_differ_between_settings_leave_a_strategy_one_group(tmp_path: Path) -> None:
    for experiment, fraction in (("first", 0.002), ("second", 0.003)):
        options = {"fraction": fraction}
        make_run(tmp_path, "fishermask", 0, RISING, experiment=experiment, options=options)
    assert read_runs(tmp_path).groups == ["fishermask"]


def test_training_before_the_first_query_belongs_to_the_strategy(tmp_path: Path) -> None:
    for strategy in ("random", "bait"):
        directory = make_run(tmp_path, strategy, 0, RISING)
        provenance = json.loads((directory / "provenance.json").read_text())
        provenance["decides"]["budget"]["train_before_first_query"] = strategy == "bait"
        (directory / "provenance.json").write_text(json.dumps(provenance))
    runs = read_runs(tmp_path)
    assert runs.settings == ["trial"]
    assert runs.of("trial").labels == [30, 50], "the first round is of untrained networks"
    assert runs.of("trial").labels_after_first == [30, 50]
    alone = read_runs(tmp_path, {"strategy": ["bait"]})
    assert (alone.labels, alone.labels_after_first) == ([10, 30, 50], [30, 50])


def with_features(run: Path, extractor: str) -> None:
    provenance = json.loads((run / "provenance.json").read_text())
    target = f"fm_al.features.{extractor}.Features"
    provenance["decides"] |= {"features": {"_target_": target}, "features_content": extractor}
    (run / "provenance.json").write_text(json.dumps(provenance))


def test_features_belong_to_the_strategy_that_reads_them(tmp_path: Path) -> None:
    make_run(tmp_path, "random", 0, RISING)
    with_features(make_run(tmp_path, "typiclust", 0, RISING), "pca")
    assert read_runs(tmp_path).settings == ["trial"]
    assert read_runs(tmp_path).groups == ["random", "typiclust"]
    with_features(make_run(tmp_path, "typiclust", 0, RISING, overrides="features=file"), "file")
    groups = ["random", "typiclust (features=file)", "typiclust (features=pca)"]
    assert read_runs(tmp_path).groups == groups


def test_features_that_the_first_labels_were_chosen_by_belong_to_the_setting(
    tmp_path: Path,
) -> None:
    typiclust = {"_target_": "fm_al.strategies.typiclust.TypiClust"}
    target = "fm_al.starts.strategy.StrategyStart"
    start = {"start": {"_target_": target, "strategy": typiclust}}
    for extractor in ("pca", "file"):
        name = f"features={extractor}"
        run = make_run(tmp_path, "random", 0, RISING, overrides=name, budget=start)
        with_features(run, extractor)
    runs = read_runs(tmp_path)
    assert len(runs.settings) == 2
    assert runs.groups == ["random"]


def test_what_is_compared_can_be_any_key(tmp_path: Path) -> None:
    make_run(tmp_path, "random", 0, RISING)
    for fraction in (0.01, 0.002):
        for oversampling in (0, 1):
            make_run(
                tmp_path, "fishermask", 0, RISING,
                options={"fraction": fraction, "oversampling": oversampling},
                overrides=f"strategy.fraction={fraction},strategy.oversampling={oversampling}",
            )  # fmt: skip
    runs = read_runs(tmp_path, by=["strategy.fraction"])
    assert runs.groups == ["fraction=0.002", "fraction=0.01"]
    assert runs.settings == ["trial (oversampling=0)", "trial (oversampling=1)"]
    assert whys(runs) == {"random/seed0": "has no strategy.fraction to compare by"}
    both = read_runs(tmp_path, by=["strategy", "budget.total"])
    assert both.groups[-1] == "random total=50"


def test_budgets_are_compared_at_the_labels_that_all_have(tmp_path: Path) -> None:
    make_run(tmp_path, "random", 0, [0.1, 0.2, 0.3, 0.4], per_round=10)
    make_run(tmp_path / "wide", "random", 0, [0.1, 0.35, 0.5], per_round=20)
    runs = read_runs(tmp_path, by=["budget.per_round", "budget.total"])
    (setting,) = runs.settings
    one = runs.of(setting)
    assert one.labels == [10, 30]
    assert one.at("accuracy", 30).loc[0].tolist() == [0.3, 0.35]
    assert one.area("accuracy").loc[0].tolist() == pytest.approx([0.2, 0.225])
    make_run(tmp_path / "late", "random", 0, [0.1, 0.2], initial=15, per_round=30)
    with pytest.raises(ConfigError, match=r"--by budget.*: .* have no number of labels in common"):
        read_runs(tmp_path, by=["budget.initial", "budget.per_round", "budget.total"])


def test_where_strategies_are_not_compared_they_name_settings(tmp_path: Path) -> None:
    for strategy in ("bait", "fishermask"):
        for weighting in ("fisher", "uniform"):
            make_run(
                tmp_path, strategy, 0, RISING,
                options={"weighting": weighting, f"of_{strategy}": 1},
                overrides=f"strategy.weighting={weighting}",
            )  # fmt: skip
    runs = read_runs(tmp_path, by=["strategy.weighting"])
    assert runs.settings == ["bait", "fishermask"]
    assert runs.groups == ["weighting=fisher", "weighting=uniform"]


def test_a_setting_is_not_named_by_what_is_compared_or_by_its_device(tmp_path: Path) -> None:
    for ratio, strategies, device in ((1, ["badge", "random"], "cpu"), (5, ["random"], "cuda")):
        for strategy in strategies:
            make_run(
                tmp_path, strategy, 0, RISING, device=device,
                imbalance={"ratio": ratio}, overrides=f"imbalance.ratio={ratio}",
            )  # fmt: skip
    assert read_runs(tmp_path).settings == ["trial (ratio=1)", "trial (ratio=5)"]


def test_what_is_missing_and_what_is_null_are_two_settings(tmp_path: Path) -> None:
    make_run(tmp_path, "random", 0, RISING)
    make_run(tmp_path / "new", "random", 0, RISING, imbalance={"classes": None})
    assert read_runs(tmp_path).settings == ["trial (classes=null)", "trial (classes=–)"]


def test_long_names_are_cut_and_stay_apart(tmp_path: Path) -> None:
    for number in range(3):
        options = {f"{'x' * 60}_{key}": number for key in range(5)}
        make_run(tmp_path / str(number), "random", 0, RISING, imbalance=options)
    settings = read_runs(tmp_path).settings
    assert len(settings) == 3
    assert max(map(len, settings)) < 110


def test_a_strategy_is_told_apart_only_in_the_settings_where_it_has_to_be(tmp_path: Path) -> None:
    make_run(tmp_path, "fishermask", 0, RISING, experiment="figure", options={"fraction": 1})
    for fraction in (1, 2):
        make_run(
            tmp_path, "fishermask", 0, RISING, experiment="ablation",
            options={"fraction": fraction}, overrides=f"strategy.fraction={fraction}",
        )  # fmt: skip
    runs = read_runs(tmp_path)
    assert runs.of("figure").groups == ["fishermask"]
    assert runs.of("ablation").groups == ["fishermask (fraction=1)", "fishermask (fraction=2)"]


def test_runs_are_chosen_by_any_key(tmp_path: Path) -> None:
    make_trial(tmp_path, seeds=3)
    make_trial(tmp_path, "other", seeds=2)

    def chosen(**where: str) -> int:
        return len(read_runs(tmp_path, {key: text.split(",") for key, text in where.items()}).runs)

    assert chosen(experiment_name="other") == 8
    assert chosen(strategy="badge,random") == 10
    assert chosen(strategy="badge", seed="0,2") == 3
    assert chosen(dataset="cifar10", imbalance="step", backbone="resnet18_quarter") == 20
    assert chosen(**{"trainer.optimizer.lr": "1e-3"}) == 20
    assert chosen(**{"budget.train_before_first_query": "true"}) == 20
    with pytest.raises(
        ConfigError, match=r"--where seed=7: matches none of 20 finished runs; seed is 0, 1, 2$"
    ):
        chosen(seed="7")
    with pytest.raises(
        ConfigError, match=r"; with experiment_name=other strategy=badge, seed is 0, 1$"
    ):
        chosen(experiment_name="other", strategy="badge", seed="2")
    with pytest.raises(
        ConfigError, match=r"--where strategi: no run has this key; did you mean strategy"
    ):
        chosen(strategi="badge")
    with pytest.raises(
        ConfigError, match=r"--by budget.totl: no run has this key; did you mean budget.total"
    ):
        read_runs(tmp_path, by=["budget.totl"])


def test_where_no_run_matches_the_closest_of_a_dozen_values_comes_first(tmp_path: Path) -> None:
    for seed in range(15):
        make_run(tmp_path, "random", seed, RISING)
    make_run(tmp_path, "badge", 0, RISING)
    make_run(tmp_path, "fishermask", 0, RISING, options={"fraction": 0.1})
    listed = {
        "strategy=rnadom": "strategy is random, badge, fishermask",
        "strategy=x": "strategy is badge, fishermask, random",
        "strategy.fraction=1": "strategy.fraction is 0.1",
        "strategy=badge strategy.fraction=1": "with strategy=badge, no run has strategy.fraction",
        "seed=22,142": "seed is 2, 14, 0, 1, 3, 4, 5, 6, 7, 8, 9, 10 and 3 more",
    }
    for typed, line in listed.items():
        with pytest.raises(ConfigError) as raised:
            read_runs(tmp_path, where_of(typed.split()))
        assert str(raised.value) == f"--where {typed}: matches none of 17 finished runs; {line}"


def test_runs_that_are_the_same_but_for_the_device_are_named_with_the_remedy(tmp_path) -> None:
    make_run(tmp_path, "random", 0, RISING)
    make_run(tmp_path, "badge", 0, RISING)
    make_run(tmp_path / "elsewhere", "badge", 0, [0.3, 0.5, 0.6], device="cuda")
    runs = read_runs(tmp_path)
    assert runs.groups == ["random"]
    assert len(runs.left_out) == 2
    assert "they differ in device.kind; choose one with --where" in runs.left_out[0].why
    assert read_runs(tmp_path, {"device.kind": ["cpu"]}).groups == ["badge", "random"]


def test_of_a_copy_one_is_taken_and_the_other_named(tmp_path: Path) -> None:
    directory = make_run(tmp_path, "badge", 0, RISING)
    shutil.copytree(directory, tmp_path / "backup" / directory.relative_to(tmp_path))
    shutil.copytree(directory, tmp_path / "a backup")
    runs = read_runs(tmp_path)
    assert [run.directory for run in runs.runs] == [directory]
    assert [each.why for each in runs.left_out] == [f"is a copy of {directory}"] * 2


def test_a_data_set_keeps_its_name_where_folders_were_given_others(tmp_path: Path) -> None:
    make_run(
        tmp_path / "outputs", "badge", 0, RISING, experiment="imbalanced_mnist", dataset="mnist"
    )
    (tmp_path / "outputs" / "imbalanced_mnist").rename(tmp_path / "outputs" / "in_may")
    (run,) = read_runs(tmp_path).runs
    assert run.options["dataset"] == "mnist"


def test_values_with_commas_of_their_own_can_be_chosen(tmp_path: Path) -> None:
    make_run(tmp_path, "fishermask", 0, RISING, options={"depths": [2, 2], "of": {"a": 1, "b": 2}})
    make_run(tmp_path, "fishermask", 1, RISING, options={"depths": [3, 4], "of": {}})
    for text in ("strategy.depths=[2,2],[9,9]", "strategy.depths=[2, 2]", "strategy.of={}"):
        seeds = read_runs(tmp_path, where_of([text])).seeds
        assert seeds == ([1] if "of" in text else [0])


def test_seeds_are_not_compared(tmp_path: Path) -> None:
    make_run(tmp_path, "badge", 0, RISING)
    with pytest.raises(ConfigError, match="--by seed: runs are paired by seed; choose"):
        read_runs(tmp_path, by=("seed",))


def test_where_nothing_is_left_it_says_why(tmp_path: Path) -> None:
    make_run(tmp_path, "random", 0, RISING)
    make_run(tmp_path, "fishermask", 0, RISING, options={"fraction": 0.1})
    with pytest.raises(ConfigError, match=r"no run is left to report on; .* has no strategy.fract"):
        read_runs(tmp_path, {"strategy": ["random"]}, by=["strategy.fraction"])


def test_folders_that_were_renamed_are_read_by_what_they_hold(tmp_path: Path) -> None:
    directory = make_run(tmp_path, "badge", 0, RISING)
    shutil.copytree(directory, tmp_path / "copies" / "mine")
    runs = read_runs(tmp_path / "copies")
    assert (runs.groups, runs.settings) == (["badge"], ["trial"])


def test_a_thousand_runs_are_read(tmp_path: Path) -> None:
    make_trial(tmp_path, seeds=250)
    runs = read_runs(tmp_path)
    assert len(runs.runs) == 1000
    assert runs.of("trial").final("accuracy").shape == (250, 4)


def test_names_are_sorted_by_the_numbers_in_them() -> None:
    names = ["f=0.01", "f=0.002", "badge", "f=10", "f=9"]
    assert sorted(names, key=by_numbers) == ["badge", "f=0.002", "f=0.01", "f=9", "f=10"]
