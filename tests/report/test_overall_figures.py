"""Figures over all settings."""

from __future__ import annotations

import itertools
import json
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from fm_al.report.export import inline_svg
from fm_al.report.overall_figures import penalty_figure, rank_figure
from fm_al.report.statistics import Penalties
from tests.report.drawn_figures import ODD, group_of, texts


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
