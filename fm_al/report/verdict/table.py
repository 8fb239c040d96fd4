"""The tables of the verdict's page: all strategies together, and the ablations."""

from __future__ import annotations

from fm_al.report.means import mean_cell
from fm_al.report.statistics import ALPHA
from fm_al.report.text import listed
from fm_al.report.typeset import Cell, Table
from fm_al.report.verdict.claims import PAPERS
from fm_al.report.verdict.effects import Effect, effects
from fm_al.report.verdict.families import family_of
from fm_al.report.verdict.records import Records, dataset_of
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
    return _significant(papers_less.turned)


def _significant(found: Effect) -> Cell:
    return Cell(f"{found}{'*' * found.is_significant}", found.difference)


def _seeds(counts: list[int]) -> str:
    return str(counts[0]) if len({*counts}) == 1 else listed([str(count) for count in counts])


def ablation_table(records: Records) -> Table:
    """A row for each value of each option of FisherMask."""
    rows = []
    for each in records.ablations:
        frame = each.runs.area("accuracy")
        versus = {one.second: one.turned for one in effects([frame], each.base_group, each.others)}
        for group in each.runs.groups:
            found = versus.get(group)
            rows.append(
                [
                    Cell(each.name),
                    Cell(group.partition("=")[2]),
                    mean_cell(frame[group]),
                    Cell("default") if found is None else _significant(found),
                ]
            )
    runs = records.ablations[0].runs
    return Table(
        "ablations",
        "Options of FisherMask",
        ["ablation", "value", "area", "less the default"],
        rows,
        [
            f"{dataset_of(runs)} to {runs.labels[-1]} labels, mean ± standard deviation over "
            f"{len(runs.seeds)} seeds; in brackets 95% intervals, * if significant (paired t-test, "
            f"{ALPHA}, Holm over the values of an option)"
        ],
    )


def ratio_table(records: Records) -> Table:
    """A row for each ratio of the largest class to the smallest."""
    ratios = records.by_ratio
    groups = next(iter(ratios.values())).groups
    rows = []
    for ratio, runs in ratios.items():
        area = runs.area("accuracy")
        rows.append([Cell(f"{ratio:.0f}:1", ratio), *(mean_cell(area[group]) for group in groups)])
    runs = next(iter(ratios.values()))
    return Table(
        "imbalance_ratio",
        "Ratio of the largest class to the others",
        ["imbalance_ratio", *groups],
        rows,
        [
            f"area on {dataset_of(runs)} to {runs.labels[-1]} labels, mean ± standard deviation "
            f"over {len(runs.seeds)} seeds; BAIT and FisherMask as published"
        ],
    )
