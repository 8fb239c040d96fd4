"""What holds of the claims in the abstract of the FisherMask paper, in words that follow from the
records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from fm_al.report.runs import REFERENCE, Runs
from fm_al.report.statistics import labels_needed, share_saved
from fm_al.report.text import listed
from fm_al.report.variants import group_of_paper
from fm_al.report.verdict.effects import Effect, corrected, effect, effects
from fm_al.report.verdict.records import (
    BAIT,
    FISHERMASK,
    RIVAL,
    Records,
    areas,
    dataset_of,
    opponents,
    settings_of,
)
from fm_al.report.verdict.words import all_spoken, number, ordinal, percent, signed, spoken

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


def against_opponents(settings: Sequence[Runs]) -> list[Effect]:
    """FisherMask as published compared with each opponent, over these settings together."""
    return effects(areas(settings), FISHERMASK, opponents(settings[0]))


def headline(records: Records) -> str:
    """The verdict in a sentence."""
    settings, others = settings_of(records.full_length), opponents(records.full_length)
    better = [each.second for each in against_opponents(settings) if each.is_gain]
    holds = len(better) == len(others)
    told = "than all others" if holds else f"than {all_spoken(better) or 'none of the others'}"
    places = []
    for runs in settings:
        means = runs.area("accuracy")[[FISHERMASK, *others]].mean().sort_values(ascending=False)
        places.append(f"{ordinal(1 + list(means.index).index(FISHERMASK))} on {dataset_of(runs)}")
    return (
        f"The claim {'holds' if holds else 'does not hold'}: over {number(len(settings))} "
        f"imbalanced data sets together, FisherMask is significantly better {told}"
        f"{'' if holds or not better else ' only'}. By mean area it is {listed(places)}, of "
        f"{number(len(others) + 1)} strategies."
    )


def outperforms(records: Records) -> Finding:
    """Whether FisherMask is significantly better than the others."""
    settings = settings_of(records.full_length)
    of_each = [against_opponents([runs]) for runs in settings]
    together = against_opponents(settings)
    sentences = [
        f"On {dataset_of(runs)} it is {_compared(found)}."
        for runs, found in zip(settings, of_each, strict=True)
    ]
    sentences.append(
        f"Over the {number(len(settings))} together it is {_compared(together)}: it gains "
        f"{_gains(together)}."
    )
    wins = sum(all(each.is_gain for each in found) for found in of_each)
    answer = HOLDS if wins == len(settings) else HOLDS_NOT
    if 0 < wins < len(settings):
        answer = f"Holds on {number(wins)} of {number(len(settings))} data sets."
    return Finding(
        '"significantly outperforms state-of-the-art methods"', answer, " ".join(sentences)
    )


def _gains(found: Sequence[Effect]) -> str:
    ordered = sorted(found, key=lambda each: -each.difference)
    return listed([f"{each} over {spoken(each.second)}" for each in ordered])


def _compared(found: Sequence[Effect]) -> str:
    """Which of the others the first group is significantly better and worse than."""
    better = [each.second for each in found if each.is_gain]
    worse = [each.second for each in found if each.is_loss]
    if len(better) == len(found):
        few = {1: "the other", 2: "both others"}
        return (
            f"significantly better than {few.get(len(found), f'all {number(len(found))} others')}"
        )
    parts = [
        *([f"significantly better than {all_spoken(better)}"] if better else []),
        *([f"significantly worse than {all_spoken(worse)}"] if worse else []),
    ]
    return listed(parts) if parts else "not significantly different from any of the others"


def under_imbalance(records: Records) -> Finding:
    """Whether FisherMask's lead grows with imbalance."""
    ratios = records.by_ratio
    (first, least), *_, (last, most) = ratios.items()
    others = [REFERENCE, RIVAL, group_of_paper("bait", least.groups)]
    growth = dict(
        zip(others, corrected([_growth(least, most, other) for other in others]), strict=True)
    )
    rivals = others[1:]
    shrinks = [other for other in rivals if growth[other].is_loss]
    answer = "Only beside random labels." if growth[REFERENCE].is_gain else "Not shown."
    if shrinks:
        answer = f"No: its lead over {all_spoken(shrinks)} shrinks{_others_stay(growth)}."
    if all(growth[other].is_gain for other in rivals):
        answer = HOLDS
    grow = [f"over {spoken(other)} by {each}" for other, each in growth.items()]
    leads = [
        f"{signed(_lead(runs, RIVAL).mean())} at {ratio:.0f}:1" for ratio, runs in ratios.items()
    ]
    sentences = [
        f"From {first:.0f}:1 to {last:.0f}:1 between the largest class of {dataset_of(most)} and "
        f"the others ({number(len(most.seeds))} seeds, to {most.labels[-1]:,} labels), its lead "
        f"grows {listed(grow)}; that over {RIVAL} is {listed(leads)}.",
        *map(_without_imbalance, records.balanced),
    ]
    return Finding('"especially under imbalanced settings"', answer, " ".join(sentences))


def _others_stay(growth: Mapping[str, Effect]) -> str:
    """Over whom a lead neither grows nor shrinks significantly, to follow that it shrinks."""
    same = [other for other, each in growth.items() if not (each.is_gain or each.is_loss)]
    if not same:
        return ""
    leads, do = ("that", "does") if len(same) == 1 else ("those", "do")
    return f"; {leads} over {all_spoken(same)} {do} not change significantly"


def _without_imbalance(runs: Runs) -> str:
    found = _compared(against_opponents([runs]))
    classes = number(len(runs.class_names or []))
    return (
        f"With {classes} balanced classes of {dataset_of(runs)}, to {runs.labels[-1]:,} labels, it "
        f"is {found}."
    )


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
    settings = settings_of(records.full_length)
    saved = [_saved_labels(runs) for runs in settings]
    others = [group for group in opponents(records.full_length) if group != REFERENCE]
    more = [each.second for each in effects(saved, FISHERMASK, others) if each.is_gain]
    nothing = [frame.assign(nothing=0.0) for frame in saved]
    (own,) = corrected([effect(nothing, FISHERMASK, "nothing")])
    answer = "Only beside random labels." if own.is_gain else HOLDS_NOT
    if more:
        answer = f"Beside random labels and {all_spoken(more)}."
    if len(more) == len(others):
        answer = HOLDS
    apart = [
        f"{percent(frame[FISHERMASK].mean())} on {dataset_of(runs)}"
        for runs, frame in zip(settings, saved, strict=True)
    ]
    means = {other: sum(frame[other].mean() for frame in saved) / len(saved) for other in others}
    beside = [f"{spoken(other)} {percent(share)}" for other, share in means.items()]
    steps = settings[0].labels[-1] - settings[0].labels[-2]
    return Finding(
        '"substantial gains in labeling efficiency"',
        answer,
        f"It reaches the last accuracy of random labels with {_percents(own)} fewer labels "
        f"({', '.join(apart)}; counted in steps of {steps} labels). The others save: "
        f"{listed(beside)}. It saves significantly more than "
        f"{all_spoken(more) or 'none of them'}.",
    )


def _percents(found: Effect) -> str:
    if found.interval is None:
        return percent(found.difference)
    low, high = found.interval
    return f"{percent(found.difference)} [{percent(low)}, {percent(high)}]"


def _saved_labels(runs: Runs) -> pd.DataFrame:
    """The share of labels that each group saves on the way to random's last accuracy, by seed."""
    values = {labels: runs.at("accuracy", labels) for labels in runs.labels}
    needed = labels_needed(values, runs.final("accuracy")[REFERENCE])
    return share_saved(needed, REFERENCE)


def published_pair(records: Records) -> Effect:
    """FisherMask minus BAIT, both as published, corrected as in `outperforms`."""
    found = against_opponents(settings_of(records.full_length))
    return next(each for each in found if each.second == BAIT)
