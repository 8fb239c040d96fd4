"""The picture of the verdict: how every strategy compares with FisherMask, and how many rare images
it finds."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure as MplFigure
from matplotlib.lines import Line2D

from fm_al.report.drawing import STYLE, Figure, finished, new_figure
from fm_al.report.verdict.effects import Effect
from fm_al.report.verdict.families import FAMILIES, FISHER, OTHER, family_of
from fm_al.report.verdict.records import FISHERMASK
from fm_al.report.verdict.standings import Standings
from fm_al.report.verdict.words import signed, spoken

WIDE = 7.4  # inches
ROW = 0.185  # inches
FAR = 0.1  # of area; groups further behind are drawn at the edge
INK = "#404040"
COLOURS = dict(
    zip(
        [*FAMILIES, OTHER],
        ("#D55E00", "#A8073C", "#0B6FA4", "#6A4FC0", "#00805F", INK, "#8A8A8A"),
        strict=True,
    )
)
MARKERS = "os^Dv"  # of the data sets


@style.context(STYLE)
def standings_figure(standings: Standings) -> Figure:
    """Draw a row for each strategy, the largest mean area at the top."""
    groups = standings.groups
    versus = {each.second: each.turned for each in standings.against(FISHERMASK)}
    title = (
        f"FisherMask among {len(groups)} strategies and variants: {standings.places(FISHERMASK)}"
    )
    mpl = new_figure(WIDE, 1.3 + ROW * len(groups))
    left, right = mpl.subplots(1, 2, sharey=True, width_ratios=[2.3, 1])
    mpl.suptitle(title, fontsize=8, fontweight="bold", x=0.01, ha="left")
    _draw_differences(left, standings, versus)
    _draw_shares(right, standings)
    left.set_yticks(range(len(groups)), [spoken(group) for group in groups])
    left.set_ylim(len(groups) - 0.4, -0.6)
    for axes in (left, right):
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
        axes.set_axisbelow(True)
    for group, label in zip(groups, left.get_yticklabels(), strict=True):
        label.set_color(COLOURS[family_of(group)])
        if family_of(group) == FISHER:
            label.set_fontweight("bold")
    _add_legend(mpl, standings)
    caption = (
        f"Left: the area under the accuracy curve to {standings.labels} labels minus that of "
        "FisherMask as published, paired by seed: the mean over the data sets with its 95% "
        "interval, filled if significant, and small the mean of each data set. Intervals cover "
        "seeds, not data sets. Arrows: further behind, by the number beside them. Right: the share "
        f"of the {standings.labels} labels that are of rare classes; the dashed line is their "
        "share in the pool."
    )
    return finished("standings", title, caption, mpl)


def _draw_differences(axes: Axes, standings: Standings, versus: Mapping[str, Effect]) -> None:
    near = [each for each in versus.values() if each.difference > -FAR]
    edge = min(-0.01, *(end for each in near for end in each.interval or (each.difference,)))
    for row, group in enumerate(standings.groups):
        if group == FISHERMASK:
            axes.plot([0], [row], "o", ms=5.5, c=COLOURS[FISHER], zorder=4)
        elif versus[group].difference > -FAR:
            _draw_row(axes, standings, row, versus[group])
        else:
            _draw_far(axes, row, versus[group], edge)
    axes.axvline(0, c=COLOURS[FISHER], lw=1, ls=(0, (3, 2)))
    axes.set_xlabel("area minus that of FisherMask as published")


def _draw_row(axes: Axes, standings: Standings, row: int, found: Effect) -> None:
    colour = COLOURS[family_of(found.first)]
    for frame, marker in zip(standings.frames, MARKERS, strict=False):
        mean = float((frame[found.first] - frame[found.second]).mean())
        axes.plot([mean], [row], marker, ms=3.6, mfc="white", mec=colour, mew=0.8)
    if found.interval is not None:
        axes.plot(found.interval, [row, row], c=colour, lw=1.8, solid_capstyle="butt", zorder=3)
    fill = colour if found.is_significant else "white"
    axes.plot([found.difference], [row], "o", ms=5.5, mfc=fill, mec=colour, mew=1.2, zorder=4)


def _draw_far(axes: Axes, row: int, found: Effect, edge: float) -> None:
    colour = COLOURS[family_of(found.first)]
    axes.plot([edge], [row], "<", ms=5.5, mfc=colour, mec=colour, zorder=4)
    axes.annotate(
        signed(found.difference),
        (edge, row),
        xytext=(6, 0),
        textcoords="offset points",
        va="center",
        fontsize=7,
    )


def _draw_shares(axes: Axes, standings: Standings) -> None:
    groups = standings.groups
    share = standings.rare_share.mean(axis=1)
    colours = [COLOURS[family_of(group)] for group in groups]
    axes.barh(range(len(groups)), share[groups], 0.55, color=colours, alpha=0.75, lw=0)
    for row, group in enumerate(groups):
        axes.text(share[group] + 0.01, row, f"{share[group]:.0%}", va="center", fontsize=7)
    axes.axvline(standings.pool_share, c=INK, lw=1, ls=(0, (3, 2)))
    axes.set_xlim(0, min(1, 1.18 * float(share.max())))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.set_xlabel("labels of rare classes")


def _add_legend(mpl: MplFigure, standings: Standings) -> None:
    there = {family_of(group) for group in standings.groups}
    families = [name for name in COLOURS if name in there]
    handles = [Line2D([], [], c=COLOURS[name], marker="o", lw=2, ms=5) for name in families]
    handles += [
        Line2D([], [], ls="", marker=marker, ms=3.5, mfc="white", mec=INK, mew=0.7)
        for marker, _ in zip(MARKERS, standings.names, strict=False)
    ]
    mpl.legend(handles, [*families, *standings.names], loc="outside lower center", ncols=4)
