"""Figures over the number of labels: their data and marks."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from matplotlib import style
from scipy import stats

from fm_al.report.curves import metric_figure
from fm_al.report.drawing import STYLE, Figure
from fm_al.report.figures import figures_of_setting
from fm_al.report.metrics import measure
from fm_al.report.palette import Palette
from fm_al.report.runs import Runs
from fm_al.report.selection import read_runs
from fm_al.report.statistics import all_compared, by_mean, compared
from tests.helpers.made_runs import make_run, make_trial
from tests.report.drawn_figures import (
    accuracies,
    bands,
    by_name,
    group_of,
    lead,
    lines,
    panels,
    setting_of,
    texts,
)

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1"])
def test_a_panel_shows_the_mean_of_its_group_before_those_of_the_others(
    trial: Runs, drawn: dict[str, Figure], metric: str
) -> None:
    shown = panels(drawn[f"trial-{metric}"])
    assert list(shown) == by_mean(trial.area(metric)), "the best comes first"
    for group, axes in shown.items():
        [mean] = lines(axes, group, "mean")
        assert mean.get_xdata().tolist() == trial.labels
        assert mean.get_drawstyle() == "default"
        for other in trial.groups:
            label = "mean" if other == group else "reference" if other == "random" else "other"
            [line] = lines(axes, other, label)
            np.testing.assert_allclose(line.get_ydata(), accuracies(trial, other, metric).mean())
            assert other == group or line.get_linewidth() < mean.get_linewidth()


def test_differences_to_random_are_those_of_the_table(
    trial: Runs, drawn: dict[str, Figure]
) -> None:
    axes, areas = lead(drawn["trial-accuracy"]), trial.area("accuracy")
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == [group for group in by_mean(areas) if group != "random"]
    said = {group_of(text): text for text in axes.texts}
    for row, group in enumerate(names):
        expected = compared(areas, group, "random")
        [mean], [interval] = lines(axes, group, "mean"), lines(axes, group, "interval")
        assert mean.get_xydata().tolist() == [[pytest.approx(expected.difference), row]]
        assert interval.get_xdata() == pytest.approx(expected.interval)
        [seeds] = lines(axes, group, "seeds")
        np.testing.assert_allclose(seeds.get_xdata(), areas[group] - areas["random"])
        assert said[group].get_text() == f"{expected.difference:+.3f}"
    winners = {
        pair.winner for pair in all_compared(areas) if pair.against("random") and pair.winner
    }
    assert winners == {group for group in names if said[group].get_fontweight() == "bold"}
    assert winners


def test_without_random_groups_are_compared_with_the_last(tmp_path: Path) -> None:
    for seed in range(3):
        make_run(tmp_path, "badge", seed, [0.3, 0.5, 0.6])
        make_run(tmp_path, "bait", seed, [0.3, 0.6, 0.7 + seed / 50])
    figure = setting_of(tmp_path)["accuracy"]
    assert lead(figure).get_xlabel() == "area under the accuracy curve minus that of badge (0.475)"
    assert "minus that of badge" in figure.caption


def test_bands_are_students_intervals(trial: Runs, drawn: dict[str, Figure]) -> None:
    for group, axes in panels(drawn["trial-accuracy"]).items():
        assert set(bands(axes)) == {group}
        values = accuracies(trial, group)
        low, high = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
        vertices = bands(axes)[group].get_paths()[0].vertices
        for number, labels in enumerate(trial.labels):
            there = vertices[vertices[:, 0] == labels, 1]
            assert there.min() == pytest.approx(low[number])
            assert there.max() == pytest.approx(high[number])


def test_two_seeds_are_lines_and_have_no_band(tmp_path: Path) -> None:
    for seed in range(2):
        make_run(tmp_path, "random", seed, [0.3 + 0.05 * seed, 0.5, 0.6])
    figure = setting_of(tmp_path)["accuracy"]
    axes = panels(figure)["random"]
    assert not bands(axes)
    assert [line.get_ydata()[0] for line in lines(axes, "random", "seed")] == [0.3, 0.35]
    assert axes.get_ylim() == pytest.approx((0.285, 0.615))
    assert "seeds where they are too few for an interval" in figure.caption


def test_published_values_are_hollow_and_beside_accuracy_alone(drawn: dict[str, Figure]) -> None:
    published = {
        group: lines(axes, group, "published")
        for group, axes in panels(drawn["trial-accuracy"]).items()
    }
    assert [group for group, those in published.items() if those] == ["fishermask"]
    [shown] = published["fishermask"]
    assert shown.get_xydata().tolist() == [[10, 0.4], [30, 0.6]]
    assert shown.get_markerfacecolor() == "white"
    assert shown.get_linestyle() == ":"
    assert texts(drawn["trial-accuracy"]).count("published") == 1
    assert "published" in drawn["trial-accuracy"].caption
    for other in ("trial-balanced_accuracy", "trial-macro_f1", "trial-area"):
        assert "published" not in texts(drawn[other])


@pytest.mark.parametrize("groups", [1, 2, 4, 5, 15])
def test_any_number_of_groups_has_a_panel_each_and_a_key(groups: int, tmp_path: Path) -> None:
    for number in range(groups):
        for seed in range(3):
            make_run(tmp_path, f"strategy{number}", seed, [0.3 + seed / 50 + number / 100])
    runs = read_runs(tmp_path)
    palette = Palette.of(runs.groups)
    with warnings.catch_warnings(), style.context(STYLE):
        warnings.simplefilter("error")
        figure = metric_figure(runs, "", measure("accuracy"), palette, {})
    assert sorted(panels(figure)) == sorted(runs.groups)
    assert texts(figure).count("95% interval") == 1


def test_long_names_are_broken_into_lines(tmp_path: Path) -> None:
    for strategy in ("random", "badge"):
        make_run(tmp_path, strategy, 0, [0.3, 0.5], options={"name": "word " * 20})
    runs = read_runs(tmp_path, by=["strategy", "strategy.name"])
    figure = by_name(figures_of_setting(runs, "", Palette.of(runs.groups)))["accuracy"]
    titles = [axes.get_title(loc="left") for axes in panels(figure).values()]
    assert all(max(map(len, title.splitlines())) < 40 for title in titles)


def test_area_has_every_seed_and_the_best_on_top(trial: Runs, drawn: dict[str, Figure]) -> None:
    [axes] = drawn["trial-area"].mpl.axes
    areas = trial.area("accuracy")
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == areas.mean().sort_values(ascending=False).index.to_list()
    assert axes.yaxis_inverted()
    for row, group in enumerate(names):
        [seeds], [mean] = lines(axes, group, "seeds"), lines(axes, group, "mean")
        [interval] = lines(axes, group, "interval")
        np.testing.assert_array_equal(seeds.get_xdata(), areas[group])
        assert mean.get_xydata().tolist() == [[pytest.approx(areas[group].mean()), row]]
        expected = stats.t.interval(0.95, 4, areas[group].mean(), stats.sem(areas[group]))
        assert interval.get_xdata().tolist() == pytest.approx(expected)
        assert group_of(axes.get_yticklabels()[row]) == group


def test_one_seed_has_no_interval(tmp_path: Path) -> None:
    make_trial(tmp_path, seeds=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = setting_of(tmp_path)
    axes = panels(drawn["accuracy"])["badge"]
    assert not axes.collections
    assert "interval" not in drawn["accuracy"].caption
    assert len(lines(axes, "badge", "mean")) == 1
    assert not lines(lead(drawn["accuracy"]), "badge", "interval")
    assert not lines(drawn["area"].mpl.axes[0], "badge", "interval")


def test_a_group_may_lack_a_seed(tmp_path: Path) -> None:
    for strategy, seeds in (("random", (0, 1, 2)), ("badge", (0, 2)), ("entropy", (1,))):
        for seed in seeds:
            make_run(tmp_path, strategy, seed, [0.1, 0.2 + 0.1 * seed])
    drawn = setting_of(tmp_path)
    assert "mask" not in drawn
    shown, axes = panels(drawn["accuracy"]), lead(drawn["accuracy"])
    [mean] = lines(shown["badge"], "badge", "mean")
    assert mean.get_ydata().tolist() == pytest.approx([0.1, 0.3])
    assert len(lines(shown["badge"], "badge", "seed")) == 2
    assert [group for group, panel in shown.items() if bands(panel)] == ["random"]
    assert len(lines(axes, "badge", "seeds")[0].get_xdata()) == 2
    assert not lines(axes, "badge", "interval"), "two pairs are too few"
    assert "1 to 3 seeds" in drawn["accuracy"].caption


def test_seeds_that_do_not_vary_have_no_interval(tmp_path: Path) -> None:
    for seed in range(3):
        make_run(tmp_path, "badge", seed, [0.3, 0.5, 0.7])
        make_run(tmp_path, "random", seed, [0.3, 0.5 + seed / 100, 0.6 + seed / 50])
    runs = read_runs(tmp_path)
    drawn = by_name(figures_of_setting(runs, "", Palette.of(runs.groups)))
    shown = panels(drawn["accuracy"])
    assert not bands(shown["badge"])
    assert bands(shown["random"])["random"].get_paths()[0].vertices[:, 0].min() == 30, (
        "the first do not vary"
    )
    assert not lines(drawn["area"].mpl.axes[0], "badge", "interval")
    assert lines(drawn["area"].mpl.axes[0], "random", "interval")
