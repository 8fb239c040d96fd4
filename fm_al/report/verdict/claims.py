"""What holds of the claims in the abstract of the FisherMask paper, in words that follow from the
records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from fm_al.report.runs import REFERENCE, Runs
from fm_al.report.statistics import labels_needed, share_saved
from fm_al.report.text import listed
from fm_al.report.verdict.effects import Effect, effect, effects
from fm_al.report.verdict.records import Records, areas, dataset_of, of_settings
from fm_al.report.verdict.words import all_spoken, is_fisher, number, ordinal, percent, spoken

PAPERS = "fishermask (as published)"
LAST_LAYER = "bait (as published)"
RIVAL = "entropy"  # the simplest strategy that is hard to beat


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


def opponents(runs: Runs) -> list[str]:
    """The strategies that FisherMask as published is compared with."""
    return [
        group for group in runs.groups if group != PAPERS and (group == LAST_LAYER or not is_fisher(group))
    ]


def outperforms(records: Records) -> Finding:
    """Whether FisherMask is significantly better than the others."""
    settings, others = of_settings(records.full_length), opponents(records.full_length)
    wins: list[int] = []
    parts: list[str] = []
    for runs in settings:
        found = effects(areas([runs]), PAPERS, others)
        wins.append(sum(each.is_gain for each in found))
        parts.append(f"On {dataset_of(runs)} it is {_compared(found)}.")
    together = sorted(effects(areas(settings), PAPERS, others), key=lambda each: each.difference)
    nearest, *_, farthest = [each for each in together if each.second != REFERENCE]
    over_random = next(each for each in together if each.second == REFERENCE)
    most = sum(count == len(others) for count in wins)
    answer = (
        "It holds."
        if most == len(settings)
        else f"It holds on {number(most)} of {number(len(settings))} data sets."
        if most
        else "It does not hold."
    )
    parts.append(
        f"Over the {number(len(settings))} together it gains {over_random} over random, "
        f"{farthest} over {spoken(farthest.second)} and {nearest} over {spoken(nearest.second)}."
    )
    return Finding("It significantly outperforms the state of the art", answer, " ".join(parts))


def _compared(found: Sequence[Effect]) -> str:
    """Which of the others the first group is better and worse than."""
    better = [each.second for each in found if each.is_gain]
    worse = [each for each in found if each.is_loss]
    if len(better) == len(found):
        return f"significantly better than all {number(len(found))} others"
    parts = [f"significantly better than {all_spoken(better)}" if better else "better than none"]
    if worse:
        parts.append(
            "significantly worse than "
            + listed([f"{spoken(each.second)} ({each})" for each in worse])
        )
    level = len(found) - len(better) - len(worse)
    if level:
        parts.append(f"level with the other {number(level)}")
    return listed(parts)


def under_imbalance(records: Records) -> Finding:
    """Whether FisherMask's lead grows with imbalance."""
    ratios = records.by_ratio
    least, most = min(ratios), max(ratios)
    growth = {other: _growth(ratios[least], ratios[most], other) for other in (REFERENCE, RIVAL)}
    leads = {
        other: listed([f"{effect(areas([runs]), _papers(runs), other).difference:+.3f} at {ratio:.0f}:1"
                       for ratio, runs in ratios.items()])
        for other in (REFERENCE, RIVAL)
    }
    balanced = records.balanced
    against = effects(areas([balanced]), PAPERS, opponents(balanced))
    answer = (
        "It holds."
        if growth[RIVAL].is_gain
        else "It holds against random labels only."
        if growth[REFERENCE].is_gain
        else "It is not shown."
    )
    return Finding(
        "Especially with imbalanced classes",
        answer,
        f"On Fashion-MNIST its lead over random is {leads[REFERENCE]} "
        f"(growth {growth[REFERENCE]}), that over {RIVAL} {leads[RIVAL]} (growth {growth[RIVAL]}). "
        f"Without imbalance, on ten classes of {dataset_of(balanced)} to {balanced.labels[-1]:,} labels, it is "
        f"{_compared(against)}.",
    )


def _papers(runs: Runs) -> str:
    return PAPERS if PAPERS in runs.groups else "fishermask"


def _growth(least: Runs, most: Runs, other: str) -> Effect:
    """How much larger FisherMask's lead is at one ratio than at another, paired by seed."""
    leads = {
        name: runs.area("accuracy")[_papers(runs)] - runs.area("accuracy")[other]
        for name, runs in (("most", most), ("least", least))
    }
    return effect([pd.DataFrame(leads)], "most", "least")


def saves_labels(records: Records) -> Finding:
    """How many labels FisherMask saves, and how many others do."""
    settings = of_settings(records.full_length)
    saved = [saved_labels(runs) for runs in settings]
    nothing = [frame.assign(nothing=0.0) for frame in saved]
    own = effect(nothing, PAPERS, "nothing")
    others = [group for group in opponents(records.full_length) if group != REFERENCE]
    best = max(others, key=lambda group: sum(frame[group].mean() for frame in saved))
    versus = {each.second: each for each in effects(saved, PAPERS, others)}
    more = [other for other in others if versus[other].is_gain]
    answer = (
        "It holds."
        if len(more) == len(others)
        else "It holds against random labels, as for the others."
        if own.is_gain
        else "It does not hold."
    )
    beside = f"significantly more than {all_spoken(more)}" if more else "significantly more than none of the others"
    return Finding(
        "It saves labels",
        answer,
        f"It reaches random's last accuracy with {_percent_of(own)} fewer labels on average "
        f"({listed([f'{percent(frame[PAPERS].mean())} on {dataset_of(runs)}' for runs, frame in zip(settings, saved, strict=True)])}), "
        f"{beside}. {spoken(best)} saves {percent(sum(frame[best].mean() for frame in saved) / len(saved))}.",
    )


def _percent_of(found: Effect) -> str:
    if found.interval is None:
        return percent(found.difference)
    low, high = found.interval
    return f"{percent(found.difference)} [{low:.0%}, {high:.0%}]"


def saved_labels(runs: Runs) -> pd.DataFrame:
    """The share of labels that each group saves on the way to random's last accuracy, by seed."""
    values = {labels: runs.at("accuracy", labels) for labels in runs.labels}
    needed = labels_needed(values, runs.final("accuracy")[REFERENCE])
    return share_saved(needed, REFERENCE)


def headline(records: Records) -> str:
    """The verdict in a sentence."""
    settings, others = of_settings(records.full_length), opponents(records.full_length)
    places = []
    for runs in settings:
        means = runs.area("accuracy")[[PAPERS, *others]].mean().sort_values(ascending=False)
        place = 1 + list(means.index).index(PAPERS)
        places.append(f"{ordinal(place)} of {len(means)} on {dataset_of(runs)}")
    together = effects(areas(settings), PAPERS, others)
    better = [each.second for each in together if each.is_gain]
    told = f"significantly better than {all_spoken(better)} only" if better else "significantly better than none"
    if len(better) == len(others):
        told = "significantly better than all others"
    return (
        f"FisherMask as published is {listed(places)} by area, and over the data sets together "
        f"{told}."
    )
