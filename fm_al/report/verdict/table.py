"""The one table of the verdict: all strategies, over the data sets together."""

from __future__ import annotations

from fm_al.report.statistics import ALPHA
from fm_al.report.text import listed
from fm_al.report.typeset import Cell, Table
from fm_al.report.verdict.claims import PAPERS
from fm_al.report.verdict.effects import Effect
from fm_al.report.verdict.families import family_of
from fm_al.report.verdict.standings import Standings


def standings_table(standings: Standings) -> Table:
    """A row for each strategy, the largest mean area first."""
    of_settings, rank = standings.of_settings, standings.ranks
    versus = {each.second: each for each in standings.against(PAPERS)}
    rare = standings.rare_share.mean(axis=1)
    rows = []
    for group in standings.groups:
        areas = of_settings.loc[group]
        rows.append(
            [
                Cell(group),
                Cell(family_of(group)),
                *(_area(areas[name], of_settings[name].max()) for name in standings.names),
                _area(standings.mean[group], max(standings.mean.values())),
                _less_papers(versus.get(group)),
                Cell(f"{rank.mean[group]:.1f}", float(rank.mean[group])),
                Cell(f"{rare[group]:.0%}", float(rare[group])),
            ]
        )
    seeds = [len(frame) for frame in standings.frames]
    friedman = "" if rank.friedman is None else f", Friedman's test p = {rank.friedman:.1g}"
    return Table(
        "standings",
        f"All strategies, to {standings.labels} labels",
        ["strategy", "idea", *standings.names, "mean", "less FisherMask", "rank", "rare labels"],
        rows,
        [
            f"area under the accuracy curve, mean of {_seeds(seeds)} seeds; bold: the largest",
            f"less FisherMask: the mean paired difference to {PAPERS} with its 95% interval, * if "
            f"significant (t-test over the data sets together, {ALPHA}, Holm over all strategies)",
            f"rank: mean over the {sum(seeds)} pairs of data set and seed; ranks that differ by "
            f"less than {rank.critical_difference:.1f} do not differ significantly (Nemenyi"
            f"{friedman})",
            "rare labels: share of the last labels that are of rare classes, mean over the data "
            f"sets; the pool has {standings.pool_share:.0%}",
        ],
    )


def _area(value: float, largest: float) -> Cell:
    return Cell(f"{value:.3f}", float(value), best=bool(value == largest))


def _less_papers(papers_less: Effect | None) -> Cell:
    """The difference the other way round, as a cell."""
    if papers_less is None:
        return Cell("-")
    turned = papers_less.turned
    return Cell(f"{turned}{'*' * turned.is_significant}", turned.difference)


def _seeds(counts: list[int]) -> str:
    return str(counts[0]) if len({*counts}) == 1 else listed([str(count) for count in counts])
