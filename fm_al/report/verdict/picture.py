"""The picture of the verdict: what each strategy gains, and how many rare images it finds."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure as MplFigure
from matplotlib.lines import Line2D

from fm_al.report.drawing import STYLE, Figure, finished, new_figure
from fm_al.report.runs import REFERENCE
from fm_al.report.verdict.claims import PAPERS
from fm_al.report.verdict.families import FAMILIES, FISHER, OTHER, family_of
from fm_al.report.verdict.standings import Standings
from fm_al.report.verdict.words import ordinal, spoken

WIDE = 7.4  # inches
ROW = 0.185  # inches
COLOURS = dict(
    zip(
        [*FAMILIES, OTHER],
        ("#D55E00", "#A8073C", "#0B6FA4", "#6A4FC0", "#00805F", "#404040", "#8A8A8A"),
        strict=True,
    )
)
MARKERS = "os^Dv"  # of the data sets


@style.context(STYLE)
def standings_figure(standings: Standings, title: str) -> Figure:
    """Draw a row for each strategy, the largest gain over random at the top."""
    groups = [group for group in standings.groups if group != REFERENCE]
    mpl = new_figure(WIDE, 1.3 + ROW * len(groups))
    gain, rare = mpl.subplots(1, 2, sharey=True, width_ratios=[2.3, 1])
    mpl.suptitle(title, fontsize=10, fontweight="bold", x=0.01, ha="left")
    _draw_gains(gain, standings, groups)
    _draw_shares(rare, standings, groups)
    gain.set_yticks(range(len(groups)), [spoken(group) for group in groups])
    gain.set_ylim(len(groups) - 0.4, -0.6)
    for axes in (gain, rare):
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
        axes.set_axisbelow(True)
    for group, label in zip(groups, gain.get_yticklabels(), strict=True):
        label.set_color(COLOURS[family_of(group)])
        if family_of(group) == FISHER:
            label.set_fontweight("bold")
    _add_legends(mpl, standings, groups)
    caption = (
        f"Left: the area under the accuracy curve to {standings.labels} labels less that of random "
        "labels, paired by seed: the mean over the data sets with its 95% interval, and small the "
        "mean of each data set. The band is the interval of FisherMask as published. Right: the "
        f"share of the {standings.labels} labels that are of the rare classes; the dashed line is "
        "their share in the pool."
    )
    return finished("standings", title, caption, mpl)


def finding(standings: Standings) -> str:
    """What the picture shows, in a line."""
    return (
        f"Of {len(standings.groups)} strategies, FisherMask as published is "
        f"{ordinal(standings.place(PAPERS))} and {spoken(standings.groups[0])} first"
    )


def _draw_gains(axes: Axes, standings: Standings, groups: Sequence[str]) -> None:
    leads = standings.lead
    papers = leads[PAPERS].interval
    if papers is not None:
        axes.axvspan(*papers, color=COLOURS[FISHER], alpha=0.1, lw=0)
    for row, group in enumerate(groups):
        colour, lead = COLOURS[family_of(group)], leads[group]
        for frame, marker in zip(standings.frames, MARKERS, strict=False):
            mean = float((frame[group] - frame[REFERENCE]).mean())
            axes.plot([mean], [row], marker, ms=3.2, mfc="white", mec=colour, mew=0.7, zorder=2)
        if lead.interval is not None:
            axes.plot(lead.interval, [row, row], c=colour, lw=2, solid_capstyle="butt", zorder=3)
        axes.plot([lead.difference], [row], "o", ms=5.5, c=colour, zorder=4)
    axes.axvline(0, c="#404040", lw=1, ls=(0, (3, 2)))
    axes.set_xlabel("gain in area over random labels")


def _draw_shares(axes: Axes, standings: Standings, groups: Sequence[str]) -> None:
    share = standings.rare_share.mean(axis=1)
    colours = [COLOURS[family_of(group)] for group in groups]
    axes.barh(range(len(groups)), share[groups], 0.55, color=colours, alpha=0.75, lw=0)
    for row, group in enumerate(groups):
        axes.text(share[group] + 0.01, row, f"{share[group]:.0%}", va="center", fontsize=7)
    axes.axvline(standings.pool_share, c="#404040", lw=1, ls=(0, (3, 2)))
    axes.set_xlim(0, min(1, 1.18 * float(share.max())))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.set_xlabel("labels of rare classes")


def _add_legends(mpl: MplFigure, standings: Standings, groups: Sequence[str]) -> None:
    families = [name for name in COLOURS if any(family_of(group) == name for group in groups)]
    handles = [Line2D([], [], c=COLOURS[name], marker="o", lw=2, ms=5) for name in families]
    handles += [
        Line2D([], [], ls="", marker=marker, ms=3.5, mfc="white", mec="#404040", mew=0.7)
        for marker, _ in zip(MARKERS, standings.names, strict=False)
    ]
    mpl.legend(handles, [*families, *standings.names], loc="outside lower center", ncols=4)
