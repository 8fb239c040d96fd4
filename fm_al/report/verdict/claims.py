"""What holds of the claims in the abstract of the FisherMask paper, in words that follow from the
records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from fm_al.report.runs import REFERENCE, Runs
from fm_al.report.statistics import labels_needed, share_saved
from fm_al.report.text import listed
from fm_al.report.variants import group_of_paper
from fm_al.report.verdict.effects import Effect, effect, effects
from fm_al.report.verdict.records import Records, areas, dataset_of, of_settings
from fm_al.report.verdict.words import (
    all_spoken,
    is_fisher,
    number,
    ordinal,
    percent,
    signed,
    spoken,
)

PAPERS = "fishermask (as published)"
LAST_LAYER = "bait (as published)"
RIVAL = "entropy"  # the simplest strategy that is hard to beat
HOLDS, HOLDS_NOT = "Holds.", "Does not hold."


@dataclass(frozen=True)
class Finding:
    """What the records say about a claim or a question.

    Attributes:
        claim: The claim, or the question.
        answer: In a few words.
        evidence: The figures behind the answer.
    """

    claim: str
    answer: str
    evidence: str


def headline(records: Records) -> str:
    """The verdict in a sentence."""
    settings, others = of_settings(records.full_length), opponents(records.full_length)
    places = []
    for runs in settings:
        means = runs.area("accuracy")[[PAPERS, *others]].mean().sort_values(ascending=False)
        place = ordinal(1 + list(means.index).index(PAPERS))
        places.append(f"{place} on {dataset_of(runs)}")
    together = effects(areas(settings), PAPERS, others)
    better = [each.second for each in together if each.is_gain]
    told = f"than {all_spoken(better)} only" if better else "than none of them"
    if len(better) == len(others):
        told = "than all others"
    return (
        f"Of {number(len(others) + 1)} strategies, FisherMask is {listed(places)}; over the data "
        f"sets together it is significantly better {told}."
    )


def opponents(runs: Runs) -> list[str]:
    """The strategies that FisherMask as published is compared with."""
    others = [group for group in runs.groups if not is_fisher(group)]
    return [LAST_LAYER, *others] if LAST_LAYER in runs.groups else others


def outperforms(records: Records) -> Finding:
    """Whether FisherMask is significantly better than the others."""
    settings, others = of_settings(records.full_length), opponents(records.full_length)
    of_each = [effects(areas([runs]), PAPERS, others) for runs in settings]
    wins = sum(all(each.is_gain for each in found) for found in of_each)
    sentences = [
        f"On {dataset_of(runs)} it is {_compared(found)}."
        for runs, found in zip(settings, of_each, strict=True)
    ]
    together = sorted(effects(areas(settings), PAPERS, others), key=lambda each: -each.difference)
    gains = listed([f"{each} over {spoken(each.second)}" for each in together])
    sentences.append(f"Over the {number(len(settings))} together it gains {gains}.")
    answer = HOLDS if wins == len(settings) else HOLDS_NOT
    if 0 < wins < len(settings):
        answer = f"Holds on {number(wins)} of {number(len(settings))} data sets."
    return Finding("It significantly outperforms the others.", answer, " ".join(sentences))


def _compared(found: Sequence[Effect]) -> str:
    """Which of the others the first group is significantly better and worse than."""
    better = [each.second for each in found if each.is_gain]
    worse = [each.second for each in found if each.is_loss]
    level = [each for each in found if not each.is_significant]
    if len(better) == len(found):
        all_others = "both others" if len(found) == 2 else f"all {number(len(found))} others"
        return f"significantly better than {all_others}"
    parts = [
        *([f"significantly better than {all_spoken(better)}"] if better else []),
        *([f"significantly worse than {all_spoken(worse)}"] if worse else []),
        *([f"level with {_with_range(level)}"] if level else []),
    ]
    return listed(parts)


def _with_range(level: Sequence[Effect]) -> str:
    """Groups with the smallest and the largest difference to them."""
    differences = sorted(each.difference for each in level)
    ends = {signed(differences[0]): None, signed(differences[-1]): None}
    return f"{all_spoken([each.second for each in level])} ({' to '.join(ends)})"


def under_imbalance(records: Records) -> Finding:
    """Whether FisherMask's lead grows with imbalance."""
    ratios = records.by_ratio
    least, *_, most = ratios.values()
    growth = {other: _growth(least, most, other) for other in (REFERENCE, RIVAL)}
    answer = HOLDS if growth[RIVAL].is_gain else "Not shown."
    if growth[REFERENCE].is_gain and not growth[RIVAL].is_gain:
        answer = "Holds against random labels only."
    sentences = [
        f"At ratios of {listed([f'{ratio:.0f}:1' for ratio in ratios])} between the largest class "
        f"of {dataset_of(most)} and the others, its lead over random is "
        f"{_leads(ratios.values(), REFERENCE)}, and that over {RIVAL} "
        f"{_leads(ratios.values(), RIVAL)}. From the first to the last, these leads grow by "
        f"{growth[REFERENCE]} and {growth[RIVAL]}."
    ]
    for runs in of_settings(records.balanced):
        found = _compared(effects(areas([runs]), PAPERS, opponents(runs)))
        classes = number(len(runs.class_names or []))
        sentences.append(
            f"With {classes} balanced classes of {dataset_of(runs)}, to {runs.labels[-1]:,} "
            f"labels, it is {found}."
        )
    return Finding("Especially with imbalanced classes.", answer, " ".join(sentences))


def _leads(of_ratios: Iterable[Runs], other: str) -> str:
    return listed([signed(float(_lead(runs, other).mean())) for runs in of_ratios])


def _lead(runs: Runs, other: str) -> pd.Series:
    """How much FisherMask's area is above another's, by seed."""
    area = runs.area("accuracy")
    return area[group_of_paper("fishermask", runs.groups)] - area[other]


def _growth(least: Runs, most: Runs, other: str) -> Effect:
    """How much larger FisherMask's lead is at one ratio than at another, paired by seed."""
    leads = pd.DataFrame({"most": _lead(most, other), "least": _lead(least, other)})
    return effect([leads], "most", "least")


def saves_labels(records: Records) -> Finding:
    """How many labels FisherMask saves, and how many the others do."""
    settings = of_settings(records.full_length)
    saved = [saved_labels(runs) for runs in settings]
    others = [group for group in opponents(records.full_length) if group != REFERENCE]
    more = [each.second for each in effects(saved, PAPERS, others) if each.is_gain]
    own = effect([frame.assign(nothing=0.0) for frame in saved], PAPERS, "nothing")
    answer = "Holds, as it does for the others." if own.is_gain else HOLDS_NOT
    if len(more) == len(others):
        answer = HOLDS
    shares = {other: sum(frame[other].mean() for frame in saved) / len(saved) for other in others}
    apart = [
        f"{percent(frame[PAPERS].mean())} on {dataset_of(runs)}"
        for runs, frame in zip(settings, saved, strict=True)
    ]
    beside = [f"{spoken(other)} {percent(share)}" for other, share in shares.items()]
    return Finding(
        "It saves labels.",
        answer,
        f"To reach the last accuracy of random labels, it needs {_percents(own)} fewer labels "
        f"({', '.join(apart)}). The others save: {listed(beside)}. Its saving is significantly "
        f"larger than that of {all_spoken(more) if more else 'none of them'}.",
    )


def _percents(found: Effect) -> str:
    if found.interval is None:
        return percent(found.difference)
    low, high = found.interval
    return f"{percent(found.difference)} [{percent(low)}, {percent(high)}]"


def saved_labels(runs: Runs) -> pd.DataFrame:
    """The share of labels that each group saves on the way to random's last accuracy, by seed."""
    values = {labels: runs.at("accuracy", labels) for labels in runs.labels}
    needed = labels_needed(values, runs.final("accuracy")[REFERENCE])
    return share_saved(needed, REFERENCE)
