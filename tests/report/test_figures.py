"""What figures hold: their data, marks and files."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.axes import Axes

from fm_al.records.schema import Result, Round
from fm_al.report.drawing import Figure
from fm_al.report.export import inline_svg, save
from fm_al.report.figures import figures_of_setting
from fm_al.report.metrics import METRICS
from fm_al.report.palette import Palette
from fm_al.report.runs import Run, Runs
from tests.helpers.made_runs import CLASSES, MASKED, make_run
from tests.report.drawn_figures import (
    CONFIG,
    ODD,
    PROVENANCE,
    by_name,
    group_of,
    lead,
    lines,
    panels,
    setting_of,
    texts,
)

pytestmark = pytest.mark.slow


def test_figures_of_a_setting(drawn: dict[str, Figure]) -> None:
    names = "accuracy balanced_accuracy macro_f1 area queries mask seconds"
    assert list(drawn) == [f"trial-{name}" for name in names.split()]
    for figure in drawn.values():
        assert figure.title
        assert figure.caption.endswith(".")


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
    runs = Runs(
        [
            Run(
                tmp_path,
                config={"seed": 0, **CONFIG},
                provenance=PROVENANCE,
                rounds=rounds,
                result=result,
                options={},
                setting="setting",
                group="badge",
            )
        ]
    )
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
            config={**CONFIG, "seed": seed},
            provenance=PROVENANCE,
            rounds=[*rounds, old.rounds[-1]],
            result=old.result,
            options={},
            setting=old.setting,
            group=old.group,
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


def test_no_torch_and_no_pyplot() -> None:
    code = (
        "import sys, fm_al.report.figures; print({'torch', 'matplotlib.pyplot'} & {*sys.modules})"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert printed.stdout.strip() == "set()"
