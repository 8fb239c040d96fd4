"""The tables of the verdict's page."""

from __future__ import annotations

from fm_al.report.means import mean_cell
from fm_al.report.statistics import ALPHA
from fm_al.report.text import listed
from fm_al.report.typeset import NO_NUMBER, Cell, Table
from fm_al.report.variants import variant_of
from fm_al.report.verdict.claims import against_opponents
from fm_al.report.verdict.effects import Effect, effects
from fm_al.report.verdict.families import family_of
from fm_al.report.verdict.records import (
    FISHERMASK,
    Records,
    dataset_of,
    settings_of,
)
from fm_al.report.verdict.standings import Standings
from fm_al.report.verdict.words import spoken


def standings_table(standings: Standings) -> Table:
    """A row for each strategy, the largest mean area first."""
    area, rank = standings.area, standings.ranks
    versus = {each.second: each.turned for each in standings.against(FISHERMASK)}
    rare = standings.rare_share.mean(axis=1)
    rows = []
    for group in standings.groups:
        found = versus.get(group)
        rows.append(
            [
                Cell(spoken(group)),
                Cell(family_of(group)),
                *(_area(area.loc[group, name], area[name].max()) for name in standings.names),
                _area(standings.mean[group], max(standings.mean.values())),
                NO_NUMBER if found is None else _difference(found),
                Cell(f"{rank.mean[group]:.1f}", float(rank.mean[group])),
                Cell(f"{rare[group]:.0%}", float(rare[group])),
            ]
        )
    seeds = [str(len(frame)) for frame in standings.frames]
    return Table(
        "standings",
        f"All strategies, to {standings.labels} labels",
        ["strategy", "idea", *standings.names, "mean", f"minus {spoken(FISHERMASK)}", "rank",
         "rare labels"],
        rows,
        [
            f"area under the accuracy curve, mean over "
            f"{seeds[0] if len({*seeds}) == 1 else listed(seeds)} seeds; bold: the largest",
            f"minus {spoken(FISHERMASK)}: mean paired difference over the data sets together, 95% "
            f"interval, * if significant (t-test, {ALPHA}, Holm over all rows)",
            _of_ranks(standings),
            "rare labels: share of the last labels that are of rare classes, mean over the data "
            f"sets; the pool has {standings.pool_share:.0%}",
            "strategies that work on fixed features have 64 principal components of the pixels; "
            "their authors use features of self-supervised networks",
        ],
    )  # fmt: skip


def _of_ranks(standings: Standings) -> str:
    ranks = standings.ranks
    note = f"rank: mean over the {len(ranks.settings)} pairs of data set and seed"
    if ranks.critical_difference is None:
        return note
    return (
        f"{note}; ranks that differ by less than {ranks.critical_difference:.1f} are not told "
        "apart (Nemenyi, with each pair as a block, so for these data sets only)"
    )


def _area(value: float, largest: float) -> Cell:
    return Cell(f"{value:.3f}", float(value), best=bool(value == largest))


def _difference(found: Effect) -> Cell:
    return Cell(f"{found}{'*' * found.is_significant}", found.difference)


def opponents_table(records: Records) -> Table:
    """What FisherMask as published gains over each of the others, to the last label."""
    settings = settings_of(records.full_length)
    columns = [
        against_opponents(of_column) for of_column in (*([each] for each in settings), settings)
    ]
    rows = [
        [Cell(spoken(found[0].second)), *map(_difference, found)]
        for found in zip(*columns, strict=True)
    ]
    return Table(
        "opponents",
        f"{spoken(FISHERMASK)} minus each of the others",
        ["minus", *map(dataset_of, settings), "together"],
        rows,
        [
            f"area of {spoken(FISHERMASK)} minus that of the row, mean paired difference, 95% "
            f"interval, * if significant (t-test, {ALPHA}, Holm over a column)"
        ],
    )


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
                    Cell("default") if found is None else _difference(found),
                ]
            )
    rows.append([Cell("BAIT"), Cell("no mask"), mean_cell(records.last_layer), NO_NUMBER])
    runs = records.ablations[0].runs
    return Table(
        "ablations",
        "Options of FisherMask",
        ["ablation", "value", "area", "minus the default"],
        rows,
        [
            f"{dataset_of(runs)} to {runs.labels[-1]} labels, BAIT and FisherMask repaired, mean ± "
            f"standard deviation over {len(runs.seeds)} seeds; in brackets 95% intervals, * if "
            f"significant (paired t-test, {ALPHA}, Holm over the values of an option)"
        ],
    )


def ratio_table(records: Records) -> Table:
    """A row for each ratio of the largest class to the smallest."""
    rows = []
    for ratio, runs in records.by_ratio.items():
        area = runs.area("accuracy")
        cells = [mean_cell(area[group]) if group in area else NO_NUMBER for group in runs.groups]
        rows.append([Cell(f"{ratio:.0f}:1", ratio), *cells])
    variants = {variant_of(run.part(["strategy"])) for run in runs.runs} - {None}
    told = f"; BAIT and FisherMask {variants.pop()}" if len(variants) == 1 else ""
    return Table(
        "imbalance_ratio",
        "Ratio of the largest class to the others",
        ["imbalance_ratio", *map(spoken, runs.groups)],
        rows,
        [
            f"area on {dataset_of(runs)} to {runs.labels[-1]} labels, mean ± standard deviation "
            f"over {len(runs.seeds)} seeds{told}"
        ],
    )
