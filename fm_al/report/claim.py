"""What runs say of the FisherMask paper's claim (arXiv 2411.05752): that it labels better than the
other strategies. In sentences, each of which the statistics support."""

from __future__ import annotations

from collections.abc import Sequence

from fm_al.report.runs import Runs
from fm_al.report.statistics import ALPHA, all_compared
from fm_al.report.tables import by_area

CLAIMED = "fishermask"


def claim(runs: Runs) -> list[str]:
    """Of one setting; empty where there is nothing to compare FisherMask with."""
    if CLAIMED not in runs.groups or len(runs.groups) < 2:
        return []
    areas = runs.area("accuracy").mean()
    order = by_area(runs)
    place = order.index(CLAIMED)
    beside = order[1] if place == 0 else order[0]
    relation = "before" if place == 0 else "the first is"
    rank = (
        f"By the mean area under the accuracy curve, FisherMask is {_ordinal(place + 1)} of "
        f"{len(order)} strategies: {areas[CLAIMED]:.3f}, {relation} {beside} with "
        f"{areas[beside]:.3f}."
    )
    over_labels = _verdict(runs, "area", "Over all numbers of labels")
    in_the_end = _verdict(runs, "final", f"At {runs.labels[-1]} labels")
    return [rank, over_labels, in_the_end]


def _verdict(runs: Runs, what: str, where: str) -> str:
    frame = runs.area("accuracy") if what == "area" else runs.final("accuracy")
    better: list[str] = []
    worse: list[str] = []
    level: list[str] = []
    untested: list[str] = []
    for each in all_compared(frame):
        if CLAIMED not in (each.first, each.second):
            continue
        other = each.second if each.first == CLAIMED else each.first
        if each.t_test_corrected is None:
            untested.append(other)
        elif each.winner is None:
            level.append(other)
        else:
            (better if each.winner == CLAIMED else worse).append(other)
    parts = [
        *([f"the claim holds against {_listed(better)}"] if better else []),
        *([f"the opposite holds against {_listed(worse)}"] if worse else []),
        *([f"no difference is significant to {_listed(level)}"] if level else []),
        *([f"there are too few seeds to compare it with {_listed(untested)}"] if untested else []),
    ]
    seeds = len(runs.seeds)
    return (
        f"{where} {'; '.join(parts)} (paired t-test over {seeds} seed{'s' * (seeds > 1)}, {ALPHA}, "
        f"Holm over all pairs)."
    )


def _listed(names: Sequence[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def _ordinal(number: int) -> str:
    words = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")
    return words[number - 1] if number <= len(words) else f"number {number}"
