"""What the FisherMask paper leaves open, answered in words that follow from the records."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from fm_al.report.text import listed
from fm_al.report.variants import VARIANTS
from fm_al.report.verdict.claims import Finding, published_pair
from fm_al.report.verdict.effects import Effect, corrected, effect, effects
from fm_al.report.verdict.families import FISHER, IMBALANCE, family_of, strategy_of
from fm_al.report.verdict.records import (
    FISHERMASK,
    Ablation,
    Records,
    areas,
    dataset_of,
    settings_of,
)
from fm_al.report.verdict.standings import Standings
from fm_al.report.verdict.words import all_spoken, number, ordinal, signed, spoken

PUBLISHED, RESCALED, REPAIRED = VARIANTS
NAMES = "bait", "fishermask"


def whole_network(records: Records) -> Finding:
    """Whether weights of the whole network add anything over the last layer alone."""
    settings = settings_of(records.full_length)
    frames = areas(settings)

    def gain(variant: str, of_frames: Sequence[pd.DataFrame]) -> Effect:
        return effect(of_frames, f"fishermask ({variant})", f"bait ({variant})")

    # One verdict on the published pair, here and among the opponents.
    others = corrected([gain(variant, frames) for variant in (RESCALED, REPAIRED)])
    found = dict(zip(VARIANTS, [published_pair(records), *others], strict=True))
    together = [f"{each} {variant}" for variant, each in found.items()]
    apart = [
        f"{dataset_of(runs)} {', '.join(signed(gain(v, [frame]).difference) for v in VARIANTS)}"
        for runs, frame in zip(settings, frames, strict=True)
    ]
    gains = [variant for variant, each in found.items() if each.is_gain]
    losses = [variant for variant, each in found.items() if each.is_loss]
    answer = f"Only {listed(gains)}." if gains else "Not shown."
    if losses:
        answer = f"No: it is worse {listed(losses)}."
    return Finding(
        "Does the mask add anything over the last layer alone?",
        "Yes." if len(gains) == len(VARIANTS) else answer,
        f"BAIT is the last layer alone. FisherMask minus BAIT, with equal regularization, is "
        f"{listed(together)} over the data sets together ({'; '.join(apart)}). "
        f"{_kinds_of_mask(records)}",
    )


def _kinds_of_mask(records: Records) -> str:
    kinds = records.ablation("mask_kind")
    mean = kinds.runs.area("accuracy").mean()
    found = [one.turned for one in effects(areas([kinds.runs]), kinds.base_group, kinds.others)]
    apart = [
        f"{mean[one.first]:.3f} with the {_value(one.first)} one ({one}"
        f"{', significant' * one.is_significant})"
        for one in found
    ]
    return (
        f"On {dataset_of(kinds.runs)} to {kinds.runs.labels[-1]} labels "
        f"({len(kinds.runs.seeds)} seeds, repaired), the area is {mean[kinds.base_group]:.3f} with "
        f"the {kinds.base} mask, {listed(apart)}, and {records.last_layer.mean():.3f} with BAIT, "
        "which has none."
    )


def regularization(records: Records) -> Finding:
    """What the constant lambda and the repairs of the objective change."""
    frames = areas(settings_of(records.full_length))
    pairs = [(name, variant) for name in NAMES for variant in (RESCALED, REPAIRED)]
    found = corrected([effect(frames, f"{n} ({v})", f"{n} ({PUBLISHED})") for n, v in pairs])
    changed = dict(zip(pairs, found, strict=True))
    sentences = [
        f"{spoken(name)} gains {changed[name, RESCALED]} from the scale of lambda alone and "
        f"{changed[name, REPAIRED]} with all repairs."
        for name in NAMES
    ]
    answer = (
        f"The scale of lambda alone: {_told(changed, RESCALED)}. All repairs: "
        f"{_told(changed, REPAIRED)}."
    )
    of_lambda = _of_lambda(records.ablation("regularization"))
    return Finding(
        "What does the regularization do?",
        answer,
        " ".join([*sentences, *_of_repaired(frames), of_lambda]),
    )


def _told(changed: dict[tuple[str, str], Effect], variant: str) -> str:
    """Which of the strategies a variant helps and hurts."""
    helped = [spoken(name) for name in NAMES if changed[name, variant].is_gain]
    hurt = [spoken(name) for name in NAMES if changed[name, variant].is_loss]
    parts = [
        *([f"help {listed(helped)}"] if helped else []),
        *([f"hurt {listed(hurt)}"] if hurt else []),
    ]
    return listed(parts) if parts else "nothing significant"


def _of_repaired(frames: Sequence[pd.DataFrame]) -> list[str]:
    """What the repaired methods are better than."""
    others = [group for group in frames[0] if family_of(group) != FISHER]
    sentences = []
    for name in NAMES:
        found = effects(frames, f"{name} ({REPAIRED})", others)
        better = all_spoken([each.second for each in found if each.is_gain]) or "none"
        sentences.append(
            f"Of the {number(len(others))} strategies without Fisher information, {spoken(name)} "
            f"{REPAIRED} is significantly better than {better}."
        )
    return sentences


def _of_lambda(values: Ablation) -> str:
    area = values.runs.area("accuracy")
    found = effects([area], values.base_group, values.others)
    significant = [_value(each.second) for each in found if each.is_significant]
    told = f"{listed(significant)} differ" if significant else "none differs"
    first, *_, last = values.runs.groups
    return (
        f"For lambda from {_value(first)} to {_value(last)} mean eigenvalues, the areas of "
        f"FisherMask {REPAIRED} on {dataset_of(values.runs)} lie between {area.mean().min():.3f} "
        f"and {area.mean().max():.3f}; {told} significantly from {values.base} "
        f"({len(values.runs.seeds)} seeds)."
    )


def _value(group: str) -> str:
    return group.partition("=")[2]


def rivals(standings: Standings) -> Finding:
    """Whether strategies made for imbalance, or any others, are better."""
    groups, mean = standings.groups, standings.mean
    versus = {each.second: each.turned for each in standings.against(FISHERMASK)}
    ahead = [group for group in groups if group in versus and versus[group].is_gain]
    made = [group for group in groups if family_of(group) == IMBALANCE]
    places = [
        f"{spoken(group)} is {ordinal(standings.place(group))} ({mean[group]:.3f})"
        for group in groups
        if strategy_of(group) == "fishermask"
    ]
    sentences = [
        f"Of {len(groups)} strategies and variants to {standings.labels} labels, "
        f"{spoken(groups[0])} has the largest mean area ({mean[groups[0]]:.3f}); {listed(places)}.",
        f"By data set FisherMask as published is {standings.places(FISHERMASK)}. Significantly "
        f"better than it: {all_spoken(ahead) or 'none'}.",
    ]
    if made:
        first = made[0]
        sentences.append(
            f"The first of those made for imbalance, {spoken(first)}, is "
            f"{ordinal(standings.place(first))}, {versus[first]} beside FisherMask as published."
        )
    is_better = any(group in ahead for group in made)
    return Finding(
        "Are strategies made for imbalance better?",
        "Yes." if is_better else "Not shown." if made else "Not measured.",
        " ".join(sentences),
    )


def ablations(records: Records) -> list[str]:
    """A sentence for each option, and one for the imbalance ratio."""
    sentences = []
    for each in records.ablations:
        frame = each.runs.area("accuracy")
        found = [one.turned for one in effects([frame], each.base_group, each.others)]
        told = [
            f"{_value(one.first)} is {'better' if one.is_gain else 'worse'} than {each.base} by "
            f"{abs(one.difference):.3f}"
            for one in found
            if one.is_significant
        ]
        level = f"no value differs significantly from {each.base}"
        halves = [(one.interval[1] - one.interval[0]) / 2 for one in found if one.interval]
        if halves:
            missed = dict.fromkeys(f"{half:.2f}" for half in (min(halves), max(halves)))
            seeds = len(each.runs.seeds)
            level += f"; {seeds} seeds would miss differences below {' to '.join(missed)}"
        sentences.append(f"{each.name}: {listed(told) if told else level}.")
    return [*sentences, _of_ratio(records)]


def _of_ratio(records: Records) -> str:
    """Which strategy is the best at each ratio."""
    best = {
        f"{ratio:.0f}:1": runs.area("accuracy").mean().idxmax()
        for ratio, runs in records.by_ratio.items()
    }
    told = [f"{spoken(str(group))} at {ratio}" for ratio, group in best.items()]
    return f"imbalance_ratio: the largest area is that of {listed(told)}."
