"""What figures hold: their data, marks and files."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from matplotlib import style
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D
from matplotlib.text import Text
from scipy import stats

from fm_al.records.schema import Provenance, Result, Round
from fm_al.report import palette
from fm_al.report.curves import metric_figure
from fm_al.report.drawing import STYLE, Figure
from fm_al.report.export import inline_svg, save
from fm_al.report.figures import figures_of_setting
from fm_al.report.metrics import METRICS
from fm_al.report.overall_figures import penalty_figure, rank_figure
from fm_al.report.palette import KNOWN, Palette
from fm_al.report.runs import Run, Runs
from fm_al.report.selection import read_runs
from fm_al.report.statistics import Penalties, all_compared, by_mean, compared
from tests.helpers.made_runs import CLASSES, MASKED, make_run, make_trial

CONFIG = {"budget": {}}
PROVENANCE = Provenance.model_construct(software={}, starts=[])
ODD = 'fishermask (fraction=0.01) <b>&amp; "x" 100% $a$ ümlaut'


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp("trial")
    make_trial(folder)
    return read_runs(folder)


@pytest.fixture(scope="module")
def drawn(trial: Runs) -> dict[str, Figure]:
    published = {"fishermask": {30: 0.6, 10: 0.4}, "coreset": {10: 0.3}}
    return by_name(figures_of_setting(trial, "trial-", Palette.of(trial.groups), published))


def by_name(made: Sequence[Figure]) -> dict[str, Figure]:
    named = {figure.name: figure for figure in made}
    assert len(named) == len(made)
    return named


def setting_of(folder: Path, prefix: str = "") -> dict[str, Figure]:
    runs = read_runs(folder)
    return by_name(figures_of_setting(runs, prefix, Palette.of(runs.groups)))


def group_of(artist: Artist) -> str | None:
    gid = artist.get_gid()
    return None if gid is None else unquote(re.fullmatch(r"series-\d+-(.*)", gid)[1])


def lines(axes: Axes, group: str, label: str) -> list[Line2D]:
    return [
        line
        for line in axes.lines
        if group_of(line) == group and line.get_label().startswith(label)
    ]


def bands(axes: Axes) -> dict[str | None, PolyCollection]:
    return {group_of(band): band for band in axes.collections if isinstance(band, PolyCollection)}


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.mpl.findobj(Text)]


def accuracies(runs: Runs, group: str, key: str = "accuracy") -> pd.DataFrame:
    """seeds x rounds"""
    return pd.DataFrame({labels: runs.at(key, labels)[group] for labels in runs.labels})


def test_figures_of_a_setting(drawn: dict[str, Figure]) -> None:
    names = "accuracy balanced_accuracy macro_f1 area queries mask seconds"
    assert list(drawn) == [f"trial-{name}" for name in names.split()]
    for figure in drawn.values():
        assert figure.title
        assert figure.caption.endswith(".")


def panels(figure: Figure) -> dict[str, Axes]:
    """The axes of each group, by name in the order of the figure."""
    return {group: axes for axes in figure.mpl.axes if (group := group_of(axes)) is not None}


def lead(figure: Figure) -> Axes:
    """The axes of the differences to the reference."""
    axes = figure.mpl.axes[0]
    assert "curve minus that of" in axes.get_xlabel()
    return axes


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
        figure = metric_figure(runs, "", "accuracy", palette, {})
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


def test_one_round_queries_nothing(tmp_path: Path) -> None:
    make_run(tmp_path, "fishermask", 0, [0.5])
    assert list(setting_of(tmp_path)) == [*METRICS, "area", "seconds"]


def test_shares_of_a_query_are_of_all_of_it(trial: Runs, drawn: dict[str, Figure]) -> None:
    grid = drawn["trial-queries"].mpl.axes
    assert [group_of(axes) for axes in grid] == Palette.of(trial.groups).ordered(trial.groups)
    for axes in grid:
        stack = [patch.get_data() for patch in axes.patches]
        shares = np.array([data.values - data.baseline for data in stack])
        np.testing.assert_allclose(shares.sum(axis=0), 1)
        for data in stack:
            assert data.edges.tolist() == trial.labels
        counts = np.array(
            [
                [record.queried_classes for record in run.rounds[:-1]]
                for run in trial.of_group(str(group_of(axes)))
            ]
        )
        np.testing.assert_allclose(shares, counts.mean(axis=0).T / 20)  # all queries are of 20
        assert [patch.get_label() for patch in axes.patches] == CLASSES
    assert set(CLASSES) <= set(texts(drawn["trial-queries"]))


def test_many_classes_are_taken_together(tmp_path: Path) -> None:
    classes = [f"_class {number}" for number in range(30)]
    counts = [100 if 5 <= number < 24 else 1 for number in range(30)]
    rounds = [
        Round.model_construct(
            labelled=labels,
            accuracy=0.5,
            balanced_accuracy=0.5,
            macro_f1=0.5,
            queried_classes=counts if labels == 10 else [0] * 30,
        )
        for labels in (10, 10 + sum(counts))
    ]
    result = Result.model_construct(class_names=classes, seconds={"train": 1.0})
    runs = Runs([Run(tmp_path, "setting", "badge", 0, CONFIG, PROVENANCE, rounds, result, {})])
    queries = by_name(figures_of_setting(runs, "", Palette.of(runs.groups)))["queries"]
    [axes] = queries.mpl.axes
    names = [patch.get_label() for patch in axes.patches]
    assert names == [*classes[5:24], "11 other classes"]
    assert set(names) <= set(texts(queries))
    others = axes.patches[-1].get_data()
    assert (others.values - others.baseline).tolist() == pytest.approx([11 / sum(counts)])
    assert others.values.tolist() == pytest.approx([1])
    looks = {(patch.get_facecolor(), patch.get_hatch()) for patch in axes.patches}
    assert len(looks) == 20


def test_masks_are_shown_by_layer(trial: Runs, drawn: dict[str, Figure]) -> None:
    axes = drawn["trial-mask"].mpl.axes[0]
    assert group_of(axes) == "fishermask"
    assert [label.get_text() for label in axes.get_yticklabels()] == list(MASKED)
    assert axes.yaxis_inverted()
    shown = axes.collections[0].get_array()
    for number, record in enumerate(trial.of_group("fishermask")[0].rounds[:-1]):
        sizes = np.array(list(record.strategy["mask_sizes"].values()))
        np.testing.assert_allclose(shown[:, number], sizes / sizes.sum())


def mask_axes(trial: Runs, masks: Sequence[Sequence[dict[str, int]]]) -> Axes:
    """Of a group with these masks by seed and query."""
    old = trial.of_group("fishermask")[0]
    runs = [
        Run(
            old.directory,
            old.setting,
            old.group,
            seed,
            CONFIG,
            PROVENANCE,
            [*rounds, old.rounds[-1]],
            old.result,
            {},
        )
        for seed, of_seed in enumerate(masks)
        for rounds in [
            [
                record.model_copy(update={"strategy": {"mask_sizes": sizes} if sizes else {}})
                for record, sizes in zip(old.rounds[:-1], of_seed, strict=True)
            ]
        ]
    ]
    made = by_name(figures_of_setting(Runs(runs), "", Palette.of([old.group])))
    return made["mask"].mpl.axes[0]


def test_many_layers_are_taken_together_in_the_networks_order(trial: Runs) -> None:
    layers = ["stem.weight"]
    layers += [f"blocks.{block}.{part}.weight" for block in (10, 9, 2) for part in range(20)]
    sizes = dict.fromkeys(layers, 2) | {"stem.weight": 0}
    axes = mask_axes(trial, [[{}, sizes, sizes, sizes]])  # the first query without a mask
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["stem.weight", "blocks.10", "blocks.9", "blocks.2"]
    shown = axes.collections[0].get_array().filled(np.nan)
    np.testing.assert_allclose(shown[:, 1], [np.nan, 1 / 3, 1 / 3, 1 / 3])
    assert np.isnan(shown[:, 0]).all()


def test_layers_without_weights_are_left_out_of_records_and_have_their_place(trial: Runs) -> None:
    first = [{"stem": 1, "head": 3}, {"stem": 2, "body.10": 1, "head": 1}]
    second = [{"body.2": 1, "head": 3}, {"stem": 2, "body.2": 1, "body.3": 1, "head": 4}]
    axes = mask_axes(trial, [[*first, {"head": 1}, {}], [*second, {"head": 1}, {}]])
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["stem", "body.2", "body.3", "body.10", "head"]
    shown = axes.collections[0].get_array().filled(0)
    np.testing.assert_allclose(shown[:, 0], [0.125, 0.125, 0, 0, 0.75])
    np.testing.assert_allclose(shown[:, 1], [0.375, 0.0625, 0.0625, 0.125, 0.375])


def test_weights_of_a_module_stand_above_its_biases(trial: Runs) -> None:
    conv1, conv2 = "blocks.0.conv1.weight", "blocks.0.conv2.weight"
    weight, bias = "blocks.0.bn1.weight", "blocks.0.bn1.bias"
    late_weight, late_bias = "blocks.0.bn2.weight", "blocks.0.bn2.bias"
    first = {conv1: 1, weight: 1, conv2: 1, late_weight: 1}
    masks = [first, {conv1: 1, bias: 1}, {conv1: 1, late_bias: 1}, {bias: 1}]
    names = [label.get_text() for label in mask_axes(trial, [masks]).get_yticklabels()]
    assert names == [conv1, weight, bias, conv2, late_weight, late_bias]
    names = [
        label.get_text()
        for label in mask_axes(trial, [[{bias: 2}, {weight: 1}, {}, {}]]).get_yticklabels()
    ]
    assert names == [weight, bias]


def test_seconds_are_stacked_and_their_total_is_said(drawn: dict[str, Figure]) -> None:
    [axes] = drawn["trial-seconds"].mpl.axes
    assert axes.get_xlabel() == "seconds for a run"
    of_badge = [bar for bar in axes.patches if group_of(bar) == "badge"]
    assert [(bar.get_x(), bar.get_width()) for bar in of_badge] == [(0, 15), (15, 2.5), (17.5, 8)]
    assert texts(drawn["trial-seconds"]).count("25.5") == 4
    assert {"train", "evaluate", "query"} <= set(texts(drawn["trial-seconds"]))


def test_everything_of_a_group_has_its_look(trial: Runs, drawn: dict[str, Figure]) -> None:
    palette = Palette.of(trial.groups)
    area, accuracy = drawn["trial-area"], drawn["trial-accuracy"]
    for group, look in palette.looks.items():
        places = [area.mpl.axes[0], panels(accuracy)[group]]
        for axes in [*places, lead(accuracy)] if group != "random" else places:
            [mean] = lines(axes, group, "mean")
            assert mean.get_marker() == look.marker
            assert mean.get_color() == look.colour


def test_palette_has_looks_for_many_groups() -> None:
    groups = ["random", *(f"strategy{number}" for number in range(15)), "fishermask"]
    palette = Palette.of(groups)
    assert list(palette.looks) == [
        "fishermask",
        *groups[1:-1],
        "random",
    ]  # by number, not "1", "10"
    looks = list(palette.looks.values())
    assert len(set(looks)) == 17
    assert len({(look.dashes, look.marker) for look in looks}) == 17  # without colours


def test_strategies_look_the_same_in_every_report() -> None:
    few = Palette.of(["fishermask", "random", "margin"])
    many = Palette.of([*KNOWN, "aaa", "random", "fishermask (fraction=0.01)"])
    for group, look in few.looks.items():
        assert many.looks[group] == look
    assert few.looks["fishermask"].dashes == ()
    assert len(few.looks["random"].dashes) == 2
    assert len({look.colour for look in many.looks.values()}) >= len(KNOWN) + 1
    assert len({(look.dashes, look.marker) for look in many.looks.values()}) == len(many.looks)
    assert (
        few.looks["random"] not in Palette.of([str(number) for number in range(40)]).looks.values()
    )
    assert Palette.of(list(reversed(list(many.looks)))) == many


def lightness(colour: str) -> float:
    """L* of CIELAB."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return 116 * float(np.dot(linear, (0.2126, 0.7152, 0.0722))) ** (1 / 3) - 16


def test_colours_differ_in_grey() -> None:
    light = [lightness(colour) for colour in palette.COLOURS]
    assert min(abs(a - b) for a, b in itertools.combinations(light, 2)) > 4.5
    assert min(abs(a - b) for a, b in itertools.pairwise(light)) > 20
    assert max(light) < 78  # to be seen on white
    light = [lightness(colour) for colour in palette.FILLS]
    assert min(abs(a - b) for a, b in itertools.pairwise(light[:5])) > 30


def test_inline_svg_has_groups_by_name(tmp_path: Path, trial: Runs) -> None:
    runs = Runs(
        [replace(run, group=ODD) if run.group == "fishermask" else run for run in trial.runs]
    )
    made = figures_of_setting(runs, "odd-", Palette.of(runs.groups))
    for figure in made:
        root = ElementTree.fromstring(inline_svg(figure))
        series = [element for element in root.iter() if "data-groups" in element.attrib]
        assert {element.get("class") for element in series} == {"series"}
        groups = {json.loads(element.attrib["data-groups"])[0] for element in series}
        assert groups == ({ODD} if figure.name == "odd-mask" else set(runs.groups))
    [accuracy] = [figure for figure in made if figure.name == "odd-accuracy"]
    said = "".join(ElementTree.fromstring(inline_svg(accuracy)).itertext())
    assert "".join(ODD.split()) in "".join(said.split()), "in one line or several"
    save(accuracy, tmp_path)  # whose names are in the files' ids
    assert ElementTree.parse(tmp_path / "odd-accuracy.svg")


def test_inline_svgs_stand_beside_each_other(drawn: dict[str, Figure]) -> None:
    ids: list[str] = []
    for figure in drawn.values():
        text = inline_svg(figure)
        assert text == inline_svg(figure)
        assert not re.search(r"<\?xml|<!DOCTYPE|<metadata|<style|xlink|DejaVu", text)
        root = ElementTree.fromstring(text)
        assert root.get("role") == "img"
        assert root.get("aria-label") == figure.title
        assert root.get("width") == "100%"
        assert root.get("height") is None
        assert re.fullmatch(r"0 0 [\d.]+ [\d.]+", root.get("viewBox", ""))
        of_figure = [element.attrib["id"] for element in root.iter() if "id" in element.attrib]
        assert all(each.startswith(f"{figure.name}-") for each in of_figure)
        ids += of_figure
        referred = [
            name
            for element in root.iter()
            for value in element.attrib.values()
            for name in re.findall(r"url\(#(.*?)\)|^#(\S+)$", value)
            if not re.fullmatch(r"#[0-9a-f]{6}", value)
        ]
        assert referred
        assert {"".join(name) for name in referred} <= set(of_figure)
    assert len(ids) == len(set(ids))


def test_text_stays_text_inline_and_is_sans_serif(drawn: dict[str, Figure]) -> None:
    text = inline_svg(drawn["trial-accuracy"])
    assert ">labels</text>" in text
    assert "sans-serif" in text


def test_files_are_the_same_each_time(
    trial: Runs, drawn: dict[str, Figure], tmp_path: Path
) -> None:
    anew = by_name(figures_of_setting(trial, "trial-", Palette.of(trial.groups)))
    for name, made in (("once", drawn), ("again", anew)):
        folder = tmp_path / name
        folder.mkdir()
        save(made["trial-area"], folder)
        save(made["trial-queries"], folder)
    once = {path.name: path.read_bytes() for path in (tmp_path / "once").iterdir()}
    again = {path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()}
    endings = ("pdf", "svg", "png")
    assert set(once) == {f"trial-{name}.{end}" for name in ("area", "queries") for end in endings}
    assert once == again
    assert b"FontFile2" in once["trial-area.pdf"]
    assert b"CreationDate" not in once["trial-area.pdf"]
    assert b"<text" not in once["trial-area.svg"]  # outlines, which need no font


def test_penalties_are_shown_with_their_means() -> None:
    names = ["badge", "_odd $x$", "random"]
    matrix = pd.DataFrame(
        [[np.nan, 0.25, 3], [1.5, np.nan, 2], [0, 0.75, np.nan]], names, names, float
    )
    beaten = Penalties(matrix, matrix.notna().astype(int))
    figure = penalty_figure(beaten, "Penalties", "Over 3 settings.")
    assert (figure.name, figure.title) == ("penalty", "Penalties")
    assert figure.caption.endswith("Over 3 settings.")
    [axes] = figure.mpl.axes
    said = {text.get_position(): text.get_text() for text in axes.texts}
    rows = [
        ["–", "0.25", "3.00"],
        ["1.50", "–", "2.00"],
        ["0.00", "0.75", "–"],
        ["0.75", "0.50", "2.50"],
    ]
    for row, cells in zip([0, 1, 2, 3.2], rows, strict=True):
        assert [said[column, row] for column in range(3)] == cells
    below = [label.get_text() for label in axes.get_yticklabels()]
    assert below == [*names, "lost, mean"]
    assert [label.get_text() for label in axes.get_xticklabels()] == names


RANKS = {"a": 1.2, "b": 2.0, "c": 2.9, "d": 3.9, "e": 5.0, "f": 6.0}


@pytest.mark.parametrize("critical_difference", [0.5, 0.85, 1.0, 1.05, 1.8, 2.5, 9.0])
def test_bars_connect_those_that_differ_by_less(critical_difference: float) -> None:
    shuffled = pd.Series(RANKS).loc[list("fbdace")]
    figure = rank_figure(shuffled, critical_difference, "Ranks", "Of 5 settings.")
    [axes] = figure.mpl.axes
    bars = [line for line in axes.lines if line.get_label() == "connected"]
    spans = [tuple(bar.get_xdata()) for bar in bars]
    for one, other in itertools.combinations(RANKS.values(), 2):
        connected = any(low <= one and other <= high for low, high in spans)
        assert connected == (other - one < critical_difference)
    for one, other in itertools.combinations(bars, 2):
        if one.get_ydata()[0] == other.get_ydata()[0]:
            first, second = sorted([one.get_xdata(), other.get_xdata()], key=min)
            assert max(first) < min(second)
    [scale] = [line for line in axes.lines if line.get_label() == "critical"]
    assert np.ptp(scale.get_xdata()) == pytest.approx(critical_difference)
    assert figure.caption.endswith("Of 5 settings.")


def test_ranks_are_where_they_belong() -> None:
    figure = rank_figure(pd.Series(RANKS | {ODD: 1.2}), 1.0, "Ranks", "")
    [axes] = figure.mpl.axes
    for group, rank in RANKS.items():
        [elbow] = [line for line in axes.lines if group_of(line) == group]
        assert elbow.get_xdata()[0] == rank
        assert any(group in text and f"{rank:.2f}" in text for text in texts(figure))
    rows = [line.get_ydata()[-1] for line in axes.lines if group_of(line) is not None]
    ends = [line.get_xdata()[-1] for line in axes.lines if group_of(line) is not None]
    assert len(set(zip(ends, rows, strict=True))) == 7  # no name covers another
    series = ElementTree.fromstring(inline_svg(figure)).iterfind(".//*[@data-groups]")
    assert {json.loads(element.attrib["data-groups"])[0] for element in series} == {*RANKS, ODD}


def test_no_torch_and_no_pyplot() -> None:
    code = (
        "import sys, fm_al.report.figures; print({'torch', 'matplotlib.pyplot'} & {*sys.modules})"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert printed.stdout.strip() == "set()"


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
