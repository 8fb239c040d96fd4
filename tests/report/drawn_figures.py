"""Find in a figure what is drawn of a group."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.lines import Line2D
from matplotlib.text import Text

from fm_al.records.schema import Provenance
from fm_al.report.drawing import Figure
from fm_al.report.figures import figures_of_setting
from fm_al.report.palette import Palette
from fm_al.report.runs import Runs
from fm_al.report.selection import read_runs

CONFIG = {"budget": {}}


PROVENANCE = Provenance.model_construct(software={}, starts=[])


ODD = 'fishermask (fraction=0.01) <b>&amp; "x" 100% $a$ ümlaut'


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


def panels(figure: Figure) -> dict[str, Axes]:
    """The axes of each group, by name in the order of the figure."""
    return {group: axes for axes in figure.mpl.axes if (group := group_of(axes)) is not None}


def lead(figure: Figure) -> Axes:
    """The axes of the differences to the reference."""
    axes = figure.mpl.axes[0]
    assert "curve minus that of" in axes.get_xlabel()
    return axes
