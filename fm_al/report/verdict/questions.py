"""What the FisherMask paper leaves open, answered in words that follow from the records."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from fm_al.report.text import listed
from fm_al.report.verdict.claims import PAPERS, Finding
from fm_al.report.verdict.effects import Effect, corrected, effect, effects
from fm_al.report.verdict.families import FISHER, IMBALANCE, family_of
from fm_al.report.verdict.records import Ablation, Records, areas, dataset_of, of_settings
from fm_al.report.verdict.standings import Standings
from fm_al.report.verdict.words import all_spoken, number, ordinal, signed, spoken

WAYS = ("as published", "rescaled", "repaired")


def whole_network(records: Records) -> Finding:
    """Whether weights of the whole network add anything over the last layer alone."""
    settings = of_settings(records.full_length)
    frames = areas(settings)

    def gain(way: str, of_frames: Sequence[pd.DataFrame]) -> Effect:
        return effect(of_frames, f"fishermask ({way})", f"bait ({way})")

    found = corrected([gain(way, frames) for way in WAYS])
    together = listed([f"{each} {way}" for way, each in zip(WAYS, found, strict=True)])
    apart = [
        f"{listed([signed(gain(way, [frame]).difference) for way in WAYS])} on {dataset_of(runs)}"
        for runs, frame in zip(settings, frames, strict=True)
    ]
    gains = sum(each.is_gain for each in found)
    answer = "Yes." if gains == len(WAYS) else "Not on the whole." if not gains else "In part."
    return Finding(
        "Does the mask add anything over the last layer alone, which is BAIT?",
        answer,
        f"FisherMask less BAIT with equal regularization is {together}, over the data sets "
        f"together; in this order it is {'; '.join(apart)}. {_kinds_of_mask(records.ablations)}",
    )


def _kinds_of_mask(ablations: Sequence[Ablation]) -> str:
    (kinds,) = (each for each in ablations if each.name == "mask_kind")
    frame, base = kinds.runs.area("accuracy"), kinds.base_group
    others = [group for group in frame if group != base]
    found = effects([frame], base, others)
    apart = listed([f"{each.second.partition('=')[2]} ({each})" for each in found])
    told = "significantly better" if any(each.is_gain for each in found) else "not better"
    return (
        f"On {dataset_of(kinds.runs)}, the weights with the largest Fisher information are {told} "
        f"than other weights of the same number, area less that of masks that are {apart}."
    )


def regularization(records: Records) -> Finding:
    """What the constant lambda and the repairs of the objective change."""
    frames = areas(of_settings(records.full_length))
    pairs = [(name, way) for name in ("bait", "fishermask") for way in WAYS[1:]]
    found = corrected([effect(frames, f"{n} ({way})", f"{n} (as published)") for n, way in pairs])
    changed = {pair: each for pair, each in zip(pairs, found, strict=True)}
    told = [
        f"{spoken(name)} gains {changed[name, WAYS[1]]} from the scale of lambda alone and "
        f"{changed[name, WAYS[2]]} from all repairs"
        for name in ("bait", "fishermask")
    ]
    helps = [spoken(name) for name, way in pairs if way == WAYS[2] and changed[name, way].is_gain]
    return Finding(
        "What does regularization do?",
        f"The repairs help {listed(helps)}." if helps else "Little.",
        f"{listed(told)}. {_repaired(records)} {_values_of_lambda(records.ablations)}",
    )


def _repaired(records: Records) -> str:
    """What the repaired methods are better than."""
    frames = areas(of_settings(records.full_length))
    others = [
        group for group in frames[0] if family_of(group) != FISHER
    ]
    parts = []
    for name in ("bait (repaired)", "fishermask (repaired)"):
        better = [each.second for each in effects(frames, name, others) if each.is_gain]
        told = f"significantly better than {all_spoken(better)}" if better else "better than none"
        parts.append(f"{spoken(name)} is {told}")
    return f"To the last label, {listed(parts)}."


def _values_of_lambda(ablations: Sequence[Ablation]) -> str:
    (values,) = (each for each in ablations if each.name == "regularization")
    frame = values.runs.area("accuracy")
    means = frame.mean()
    return (
        f"Between {_value(values.runs.groups[0])} and {_value(values.runs.groups[-1])} of the mean "
        f"eigenvalue, the area of FisherMask repaired on {dataset_of(values.runs)} is "
        f"{means.min():.3f} to {means.max():.3f}."
    )


def _value(group: str) -> str:
    return group.partition("=")[2]


def rivals(standings: Standings) -> Finding:
    """Whether strategies made for imbalance, or any other, make the question moot."""
    best = standings.groups[0]
    versus = {each.second: each for each in standings.against(PAPERS)}
    ahead = [other for other, each in versus.items() if each.is_loss]
    made = [group for group in standings.groups if family_of(group) == IMBALANCE]
    moot = [group for group in made if group in ahead]
    places = {name: standings.place(name) for name in (PAPERS, "fishermask (repaired)")}
    told = listed([f"{spoken(name)} is {ordinal(place)}" for name, place in places.items()])
    best_made = made[0]
    return Finding(
        "Do strategies made for imbalance make the question moot?",
        "Yes." if moot else "No.",
        f"Of {len(standings.groups)} strategies to {standings.labels} labels, {spoken(best)} has "
        f"the largest mean area, {standings.mean[best]:.3f}; {told} "
        f"({standings.mean[PAPERS]:.3f} and {standings.mean['fishermask (repaired)']:.3f}). "
        + (
            f"Significantly better than FisherMask as published are {all_spoken(ahead)}. "
            if ahead
            else "None is significantly better than FisherMask as published. "
        )
        + f"The best of those made for imbalance is {spoken(best_made)}, "
        f"{ordinal(standings.place(best_made))}: FisherMask as published less it is "
        f"{versus[best_made]}. {standings.of_rare_labels()}",
    )


def ablations(records: Records) -> list[str]:
    """A sentence for each option."""
    sentences = []
    for each in records.ablations:
        frame = each.runs.area("accuracy")
        others = [group for group in frame if group != each.base_group]
        found = effects([frame], each.base_group, others)
        apart = listed([f"{_value(one.second)} ({signed(-one.difference)})" for one in found])
        significant = [_value(one.second) for one in found if one.is_significant]
        told = (
            f"{listed(significant)} differ{'s' * (len(significant) == 1)} significantly"
            if significant
            else "none differs significantly"
        )
        sentences.append(
            f"{each.name}: {_value(each.base_group)} has an area of "
            f"{frame[each.base_group].mean():.3f}; beside it {apart}; {told}."
        )
    return sentences
