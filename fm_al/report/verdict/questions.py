"""What the FisherMask paper leaves open, answered in words that follow from the records."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from fm_al.report.text import listed
from fm_al.report.variants import VARIANTS
from fm_al.report.verdict.claims import PAPERS, Finding
from fm_al.report.verdict.effects import Effect, corrected, effect, effects
from fm_al.report.verdict.families import FISHER, IMBALANCE, family_of, strategy_of
from fm_al.report.verdict.records import Ablation, Records, areas, dataset_of, of_settings
from fm_al.report.verdict.standings import Standings
from fm_al.report.verdict.words import all_spoken, ordinal, signed, spoken

PUBLISHED, RESCALED, REPAIRED = VARIANTS
NAMES = "bait", "fishermask"


def whole_network(records: Records) -> Finding:
    """Whether weights of the whole network add anything over the last layer alone."""
    settings = of_settings(records.full_length)
    frames = areas(settings)

    def gain(variant: str, of_frames: Sequence[pd.DataFrame]) -> Effect:
        return effect(of_frames, f"fishermask ({variant})", f"bait ({variant})")

    found = corrected([gain(variant, frames) for variant in VARIANTS])
    together = [f"{each} {variant}" for variant, each in zip(VARIANTS, found, strict=True)]
    apart = [
        f"{dataset_of(runs)} {', '.join(signed(gain(variant, [frame]).difference) for variant in VARIANTS)}"
        for runs, frame in zip(settings, frames, strict=True)
    ]
    gains = [variant for variant, each in zip(VARIANTS, found, strict=True) if each.is_gain]
    answer = f"Only {listed(gains)}." if gains else "Not over the data sets together."
    return Finding(
        "Does the mask add anything over the last layer alone?",
        "Yes." if len(gains) == len(VARIANTS) else answer,
        f"BAIT is the last layer alone. FisherMask less BAIT, both with the same regularization, "
        f"is {listed(together)}, over the data sets together ({'; '.join(apart)}). "
        f"{_kinds_of_mask(records)}",
    )


def _kinds_of_mask(records: Records) -> str:
    kinds = records.ablation("mask_kind")
    found = effects(areas([kinds.runs]), kinds.base_group, kinds.others)
    apart = [f"the {_value(each.second)} mask is {each}" for each in found]
    return (
        f"On {dataset_of(kinds.runs)}, the area with the mask of the weights that have the largest "
        f"Fisher information less that with {listed(apart)}."
    )


def regularization(records: Records) -> Finding:
    """What the constant lambda and the repairs of the objective change."""
    frames = areas(of_settings(records.full_length))
    pairs = [(name, variant) for name in NAMES for variant in (RESCALED, REPAIRED)]
    found = corrected(
        [effect(frames, f"{n} ({variant})", f"{n} ({PUBLISHED})") for n, variant in pairs]
    )
    changed = dict(zip(pairs, found, strict=True))
    sentences = [
        f"{spoken(name)} gains {changed[name, RESCALED]} from the scale of lambda alone and "
        f"{changed[name, REPAIRED]} with all repairs."
        for name in NAMES
    ]
    helped = [spoken(name) for name in NAMES if changed[name, REPAIRED].is_gain]
    of_lambda = _of_lambda(records.ablation("regularization"))
    return Finding(
        "What does the regularization do?",
        f"The repairs help {listed(helped)}." if helped else "Little.",
        " ".join([*sentences, *_of_repaired(frames), of_lambda]),
    )


def _of_repaired(frames: Sequence[pd.DataFrame]) -> list[str]:
    """What the repaired methods are better than."""
    others = [group for group in frames[0] if family_of(group) != FISHER]
    sentences = []
    for name in NAMES:
        found = effects(frames, f"{name} ({REPAIRED})", others)
        better = all_spoken([each.second for each in found if each.is_gain]) or "none"
        sentences.append(f"{spoken(name)} {REPAIRED} is significantly better than {better}.")
    return sentences


def _of_lambda(values: Ablation) -> str:
    means = values.runs.area("accuracy").mean()
    first, *_, last = values.runs.groups
    return (
        f"With lambda from {_value(first)} to {_value(last)} mean eigenvalues, the area of "
        f"FisherMask {REPAIRED} on {dataset_of(values.runs)} is {means.min():.3f} to "
        f"{means.max():.3f}."
    )


def _value(group: str) -> str:
    return group.partition("=")[2]


def rivals(standings: Standings) -> Finding:
    """Whether strategies made for imbalance, or any others, make the question moot."""
    groups, mean = standings.groups, standings.mean
    versus = {each.second: each.turned for each in standings.against(PAPERS)}
    ahead = [group for group in groups if group in versus and versus[group].is_gain]
    made = [group for group in groups if family_of(group) == IMBALANCE]
    places = [
        f"{spoken(group)} is {ordinal(standings.place(group))} ({mean[group]:.3f})"
        for group in groups
        if strategy_of(group) == "fishermask"
    ]
    sentences = [
        f"Of {len(groups)} strategies to {standings.labels} labels, {spoken(groups[0])} has the "
        f"largest mean area ({mean[groups[0]]:.3f}); {listed(places)}.",
        f"Significantly better than FisherMask as published: {all_spoken(ahead) or 'none'}.",
    ]
    if made:
        first = made[0]
        sentences.append(
            f"The first of those made for imbalance, {spoken(first)}, is "
            f"{ordinal(standings.place(first))}, {versus[first]} beside FisherMask as published."
        )
    is_moot = any(group in ahead for group in made)
    return Finding(
        "Do strategies made for imbalance make the question moot?",
        "Yes." if is_moot else "No." if made else "Not measured.",
        " ".join([*sentences, *standings.of_rare_labels()]),
    )


def ablations(records: Records) -> list[str]:
    """A sentence for each option."""
    sentences = []
    for each in records.ablations:
        frame = each.runs.area("accuracy")
        found = [one.turned for one in effects([frame], each.base_group, each.others)]
        told = [
            f"{_value(one.first)} is {'better' if one.is_gain else 'worse'} than "
            f"{_value(each.base_group)} by {abs(one.difference):.3f}"
            for one in found
            if one.is_significant
        ]
        level = f"no value differs significantly from {_value(each.base_group)}"
        sentences.append(f"{each.name}: {listed(told) if told else level}.")
    return sentences
