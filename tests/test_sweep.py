from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from fm_al.errors import RunError
from fm_al.sweep import LONGEST_NAME, PlannedRun, _told_apart, one_line, run_directory, summary

CHOICES = {"dataset": "digits", "imbalance": "none", "backbone": "cnn", "strategy": "badge"}
CONFIG = {"output_dir": "outputs", "experiment_name": "trial", "seed": 3}


def directory(*overrides: str) -> str:
    return run_directory(CONFIG, CHOICES, overrides).as_posix()


def test_the_path_names_what_was_composed() -> None:
    assert directory() == "outputs/trial/digits-none/cnn/badge/seed3"


def test_overrides_that_the_path_does_not_name_are_a_folder_sorted() -> None:
    assert directory("trainer=standard", "strategy=badge", "budget.total=40", "seed=3") == (
        "outputs/trial/digits-none/cnn/badge/budget.total=40,trainer=standard/seed3"
    )
    assert directory("dataset.order=class", "+strategy.k=2").split("/")[-2] == (
        "dataset.order=class,strategy.k=2"
    )


def test_places_device_and_tracker_are_not_in_the_path() -> None:
    assert directory(
        "device=cpu", "device.threads=1", "tracker=none", "data_dir=x", "output_dir=y",
        "download=false", "hydra.verbose=true", "hydra/launcher=basic", "experiment=demo",
    ) == directory()  # fmt: skip


def test_the_last_of_two_overrides_holds() -> None:
    assert directory("budget.total=40", "budget.total=50") == directory("budget.total=50")


@pytest.mark.parametrize(
    "override", ["dataset.root=../../../etc", "dataset.root=a b", f"strategy.x={'y' * 300}"]
)
def test_a_name_stays_one_folder_and_tells_values_apart(override: str) -> None:
    name = Path(directory(override)).parent
    assert name.parent.as_posix() == "outputs/trial/digits-none/cnn/badge"
    assert len(name.name) <= LONGEST_NAME + 9
    assert name != Path(directory(override.replace("=", "=z"))).parent


def test_the_path_is_the_same_for_a_single_run_and_in_a_sweep(compose) -> None:
    typed = ["strategy=margin", "budget.total=60"]
    composed = compose(*typed)
    choices = composed.hydra.runtime.choices
    single = PlannedRun.of(composed, choices, [*typed, "device=cpu"])
    swept = PlannedRun.of(composed, choices, ["budget.total=60", "strategy=margin", "seed=0"])
    assert single.directory == swept.directory


def test_the_summary_has_a_row_for_what_differs_in_more_than_the_seed() -> None:
    def result(accuracy: float) -> dict:
        figures = ("accuracy", "balanced_accuracy", "area_under_curve")
        return {**dict.fromkeys(figures, accuracy), "labelled": 40, "seconds": {"train": 2.0}}

    results = {
        Path("outputs/trial/digits-none/cnn/badge/seed0"): result(0.5),
        Path("outputs/trial/digits-none/cnn/badge/seed1"): result(0.7),
        Path("outputs/trial/digits-none/cnn/random/seed0"): result(0.4),
    }
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(summary(results))
    lines = [line for line in console.export_text().splitlines() if " 40 " in line]
    rows = [re.split("  +", line.strip()) for line in lines]
    badge, random = ["0.600 ± 0.141"] * 3, ["0.400"] * 3
    assert rows == [["badge", "2", "40", *badge], ["random", "1", "40", *random]]
    assert summary({}).row_count == 0


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ([], []),
        (["a/b/c"], ["c"]),
        (["a/b/c/k=1,j=2"], ["c"]),
        (["a/x/k=1", "a/y/k=1"], ["x", "y"]),
        (["a/x/k=1", "a/x/k=2", "a/y/k=1"], ["x/k=1", "x/k=2", "y/k=1"]),
        (["a/x", "a/x/k=2"], ["x", "x/k=2"]),
    ],
)
def test_settings_are_named_by_what_tells_them_apart(settings, names) -> None:
    assert _told_apart([Path(setting) for setting in settings]) == names


def test_errors_are_one_line_and_name_their_kind_where_it_is_not_ours() -> None:
    assert one_line(RunError("two\nlines")) == "two lines"
    assert one_line(KeyError("x")) == "KeyError: 'x'"
    assert json.dumps(one_line(RunError("plain"))) == '"plain"'
