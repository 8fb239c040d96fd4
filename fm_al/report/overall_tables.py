"""Tables over all settings: pairwise penalties, wins and losses, mean ranks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from fm_al.report.statistics import ALPHA, FEWEST_FOR_RANKS, Comparison, Penalties, Ranks
from fm_al.report.typeset import NO_NUMBER, Cell, Table


def penalty_table(penalties: Penalties) -> Table:
    """The pairwise penalty matrix."""

    def cell(value: float, best: bool = False) -> Cell:
        return NO_NUMBER if math.isnan(value) else Cell(f"{value:.2f}", value, best=best)

    matrix, lost = penalties.matrix, penalties.lost
    rows = [[Cell(str(group)), *map(cell, matrix.loc[group])] for group in matrix.index]
    rows.append([Cell("lost, mean"), *(cell(each, each == lost.min()) for each in lost)])
    there = penalties.tested.to_numpy()[matrix.notna().to_numpy()]
    fewest, most = int(there.min()), int(there.max())
    settings = f"{most} setting{'s' * (most > 1)}"
    notes = [
        f"how often the row beats the column, summed over {settings}: in each, the fraction of the "
        "numbers of labels after the first at which the paired t-test is significant "
        f"(two-sided, {ALPHA}, uncorrected, as in the BADGE paper, which uses only some of them)",
        "lost, mean: mean of the column; lower is better",
    ]
    if fewest < most:
        notes.append(f"some pairs could be tested in only {fewest}, so they lose less")
    if penalties.constant:
        times = "once" if penalties.constant == 1 else f"{penalties.constant} times"
        notes.append(
            f"{times} the difference of a pair was the same for every seed; this cannot be tested "
            "and counts for neither"
        )
    return Table(
        "penalties", "Pairwise penalties", ["beats", *map(str, matrix.columns)], rows, notes
    )


def wins(of_settings: Mapping[str, Sequence[Comparison]], groups: Sequence[str]) -> Table:
    """Count significant comparisons over settings and opponents, by the area under the curve."""
    rows = []
    for group in groups:
        won = tied = lost = untested = 0
        for compared in of_settings.values():
            for each in compared:
                if each.against(group) is None:
                    continue
                if each.t_test_corrected is None:
                    untested += 1
                elif each.winner is None:
                    tied += 1
                elif each.winner == group:
                    won += 1
                else:
                    lost += 1
        rows.append([Cell(group), *(Cell(str(n), n) for n in (won, tied, lost, untested))])
    why_untested = "too few seeds in common"
    if any(each.is_constant for compared in of_settings.values() for each in compared):
        why_untested += ", or the same difference for every seed"
    return Table(
        "wins",
        "Wins, ties and losses in the area under the accuracy curve",
        ["", "wins", "ties", "losses", "not tested"],
        rows,
        [
            "over settings and opponents; a win is a significant difference (paired t-test, Holm "
            f"within the setting); not tested: {why_untested}"
        ],
    )


def rank_table(ranks: Ranks, settings: Sequence[str], groups: Sequence[str]) -> Table:
    """Mean ranks over settings. settings, groups: all of the report."""
    best = ranks.mean.min()
    notes = [
        f"ranks by the area under the accuracy curve, over {len(ranks.settings)} settings "
        f"({', '.join(ranks.settings)}); 1 is best"
    ]
    if left_out := [each for each in settings if each not in ranks.settings]:
        notes.append(f"without {', '.join(left_out)}: too few seeds, or groups, in common")
    if left_out := [each for each in groups if each not in ranks.mean]:
        notes.append(f"without {', '.join(left_out)}: not in all of these settings")
    if ranks.critical_difference is None:
        notes.append(
            f"no critical difference: it needs {FEWEST_FOR_RANKS} settings that share at least "
            "three groups"
        )
    else:
        notes.append(
            f"critical difference {ranks.critical_difference:.2f} (Nemenyi, {ALPHA}); Friedman's "
            "test of any difference: "
            + (
                "none, since all are level"
                if ranks.friedman is None
                else f"p = {ranks.friedman:.3g}"
            )
        )
    rows = [
        [Cell(str(group)), Cell(f"{rank:.2f}", float(rank), best=rank == best)]
        for group, rank in ranks.mean.sort_values().items()
    ]
    return Table("ranks", "Mean ranks", ["", "mean rank"], rows, notes)
