"""What runs say of the FisherMask paper's claim (arXiv 2411.05752): that it labels better than the
other strategies. In sentences, each of which the statistics support."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from fm_al.report.runs import Runs
from fm_al.report.statistics import ALPHA, compared_with, paired_means

CLAIMED = "fishermask"


def claim(runs: Runs) -> list[str]:
    """Of one setting; empty where there is nothing to compare FisherMask with."""
    if CLAIMED not in runs.groups or len(runs.groups) < 2:
        return []
    areas = runs.area("accuracy")
    sentences = []
    means = paired_means(areas).sort_values(ascending=False, kind="stable")
    if CLAIMED in means and len(means) > 1:
        place = list(means.index).index(CLAIMED)
        beside = means.index[1] if place == 0 else means.index[0]
        relation = "before" if place == 0 else "the first is"
        sentences.append(
            f"By the mean area under the accuracy curve, FisherMask is {_ordinal(place + 1)} of "
            f"{len(means)} strategies: {means[CLAIMED]:.3f}, {relation} {beside} with "
            f"{means[beside]:.3f}."
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
    compared = compared_with(frame, CLAIMED)
    for each in compared:
        if each.t_test_corrected is None:
            untested.append(each.second)
        elif each.winner is None:
            level.append(each.second)
        else:
            (better if each.winner == CLAIMED else worse).append(each.second)
    parts = [
        *([f"the claim holds against {_listed(better)}"] if better else []),
        *([f"the opposite holds against {_listed(worse)}"] if worse else []),
        *([f"no difference is significant to {_listed(level)}"] if level else []),
        *([f"there are too few seeds to compare it with {_listed(untested)}"] if untested else []),
    ]
    tested = len(compared) - len(untested)
    how = f" (paired t-test over seeds, {ALPHA}, Holm over {tested} comparisons)" if tested else ""
    return f"{where} {'; '.join(parts)}{how}."


def _listed(names: Sequence[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def _ordinal(number: int) -> str:
    words = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")
    return words[number - 1] if number <= len(words) else f"number {number}"
