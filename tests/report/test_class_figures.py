"""Figures of the labels' classes, and the line of the upper bound: their data and marks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fm_al.report.drawing import Figure
from fm_al.report.palette import Palette
from fm_al.report.runs import Runs
from fm_al.report.selection import read_runs
from tests.helpers.made_runs import make_run, make_trial
from tests.report.drawn_figures import group_of, lines, panels, setting_of, texts

pytestmark = pytest.mark.slow

POOL = [100, 1000, 100]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("counted")
    make_trial(folder, pool=POOL)
    for seed, accuracy in enumerate((0.9, 0.92, 0.97)):
        make_run(
            folder, "random", seed, [accuracy], pool=POOL, budget={"whole_pool": True},
            overrides="budget.whole_pool=True",
        )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def counted(folder: Path) -> dict[str, Figure]:
    return setting_of(folder)


@pytest.fixture(scope="module")
def runs(folder: Path) -> Runs:
    return read_runs(folder)


def test_what_is_drawn_where_the_pool_is_counted(counted: dict[str, Figure]) -> None:
    names = "accuracy balanced_accuracy macro_f1 area minority_accuracy minority_share"
    assert list(counted) == [*names.split(), "class_labels", "queries", "mask", "seconds"]


def test_the_bound_is_a_line_in_every_panel(counted: dict[str, Figure]) -> None:
    for metric, mean in (("accuracy", 0.93), ("macro_f1", 0.91), ("minority_accuracy", 0.88)):
        for axes in panels(counted[metric]).values():
            (level,) = [line for line in axes.lines if line.get_label() == "level"]
            assert level.get_ydata() == pytest.approx([mean] * 2)
            assert axes.get_ylim()[1] > mean
        assert texts(counted[metric]).count("whole pool, 1,200 labels") == 1
        assert "whole pool, 1,200 labels: mean of 3 seeds" in counted[metric].caption
    assert "whole pool" not in "".join(texts(counted["area"]))


def test_the_share_of_rare_classes_is_drawn_with_that_of_the_pool(
    counted: dict[str, Figure], runs: Runs
) -> None:
    figure = counted["minority_share"]
    assert figure.title == "Minority share over labels"
    for group, axes in panels(figure).items():
        (mean,) = lines(axes, group, "mean")
        # Of a made round all labels but two are of the first class.
        expected = [(labels - 1) / labels for labels in runs.of("trial").labels]
        assert mean.get_ydata() == pytest.approx(expected)
        (level,) = [line for line in axes.lines if line.get_label() == "level"]
        assert level.get_ydata() == pytest.approx([200 / 1200] * 2)


def test_labels_of_each_class_are_by_frequency(counted: dict[str, Figure], runs: Runs) -> None:
    figure = counted["class_labels"]
    *grid, bar = figure.mpl.axes
    assert [group_of(axes) for axes in grid] == Palette.of(runs.groups).ordered(runs.groups)
    assert [label.get_text() for label in grid[0].get_yticklabels()] == ["car", "plane", "bird"]
    for axes in grid:
        assert axes.yaxis_inverted()
        shown = axes.collections[0].get_array()
        labels = np.array(runs.of("trial").labels)
        np.testing.assert_allclose(shown, [0 * labels + 1, labels - 2, 0 * labels + 1])
    assert bar.get_ylabel() == "labels"
    assert "White lines are between majority and minority classes." in figure.caption


def test_one_round_collects_nothing(tmp_path: Path) -> None:
    make_run(tmp_path, "random", 0, [0.5], pool=POOL)
    names = "accuracy balanced_accuracy macro_f1 area seconds"
    assert list(setting_of(tmp_path)) == names.split()


def test_level_classes_have_no_rare_ones(tmp_path: Path) -> None:
    make_run(tmp_path, "random", 0, [0.5, 0.6], pool=[45, 50, 50])
    drawn = setting_of(tmp_path)
    axes = drawn["class_labels"].mpl.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["plane", "car", "bird"]
    assert "class_labels" in drawn
    assert not any("minority" in name or "tail" in name for name in drawn)
    assert "White lines" not in drawn["class_labels"].caption
