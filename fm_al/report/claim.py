"""What runs say of the FisherMask paper's claim (arXiv 2411.05752): that it labels better than the
other strategies. In sentences, each of which the statistics support."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from fm_al.report.runs import Runs
from fm_al.report.statistics import ALPHA, all_compared, rankable

CLAIMED = "fishermask"


def claim(runs: Runs) -> list[str]:
    """Of one setting; empty where there is nothing to compare FisherMask with."""
    if CLAIMED not in runs.groups or len(runs.groups) < 2:
        return []
    areas = runs.area("accuracy")
    sentences = []
    ranked = rankable(areas)
    means = ranked.mean().sort_values(ascending=False, kind="stable")
    if CLAIMED in means and len(means) > 1:
        place = list(means.index).index(CLAIMED)
        beside = means.index[1] if place == 0 else means.index[0]
        relation = "before" if place == 0 else "the first is"
        # As many digits as tell the two apart.
        digits = 3 if f"{means[CLAIMED]:.3f}" != f"{means[beside]:.3f}" else 5
        lacking = areas[ranked.columns].isna().any(axis=None)
        over = f" over the {len(ranked)} seeds that all have" * bool(lacking)
        unranked = [group for group in areas if group not in ranked]
        without = f"; not ranked, with too few seeds: {_listed(unranked)}" if unranked else ""
        sentences.append(
            f"By the mean area under the accuracy curve{over}, FisherMask is "
            f"{_ordinal(place + 1)} of {len(means)} strategies: {means[CLAIMED]:.{digits}f}, "
            f"{relation} {beside} with {means[beside]:.{digits}f}{without}."
        )
    return [
        *sentences,
        _verdict(areas, "Over all numbers of labels"),
        _verdict(runs.final("accuracy"), f"At {runs.labels[-1]} labels"),
    ]


def _verdict(frame: pd.DataFrame, where: str) -> str:
    better: list[str] = []
    worse: list[str] = []
    level: list[str] = []
    untested: list[str] = []
    compared = all_compared(frame)
    for each in compared:
        other = each.against(CLAIMED)
        if other is None:
            continue
        if each.t_test_corrected is None:
            untested.append(other)
        elif each.winner is None:
            level.append(other)
        else:
            (better if each.winner == CLAIMED else worse).append(other)
    parts = [
        *([f"is significantly better than {_listed(better)}, as claimed"] if better else []),
        *([f"is significantly worse than {_listed(worse)}"] if worse else []),
        *([f"does not differ significantly from {_listed(level)}"] if level else []),
        *([f"can't be compared with {_listed(untested)}, for too few seeds"] if untested else []),
    ]
    tested = sum(each.t_test is not None for each in compared)
    how = f" (paired t-test over seeds, {ALPHA}, Holm over all {tested} pairs)" if tested else ""
    return f"{where} FisherMask {'; '.join(parts)}{how}."


def _listed(names: Sequence[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def _ordinal(number: int) -> str:
    words = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")
    return words[number - 1] if number <= len(words) else f"number {number}"
