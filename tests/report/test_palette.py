"""Looks of groups, in colour and in grey."""

from __future__ import annotations

import itertools

import numpy as np
from matplotlib.colors import to_rgb

from fm_al.report import palette
from fm_al.report.palette import KNOWN, Palette


def test_palette_has_looks_for_many_groups() -> None:
    groups = ["random", *(f"strategy{number}" for number in range(15)), "fishermask"]
    palette = Palette.of(groups)
    assert list(palette.looks) == [
        "fishermask",
        *groups[1:-1],
        "random",
    ]  # by number, not "1", "10"
    looks = list(palette.looks.values())
    assert len(set(looks)) == 17
    assert len({(look.dashes, look.marker) for look in looks}) == 17  # without colours


def test_strategies_look_the_same_in_every_report() -> None:
    few = Palette.of(["fishermask", "random", "margin"])
    many = Palette.of([*KNOWN, "aaa", "random", "fishermask (fraction=0.01)"])
    for group, look in few.looks.items():
        assert many.looks[group] == look
    assert few.looks["fishermask"].dashes == ()
    assert len(few.looks["random"].dashes) == 2
    assert len({look.colour for look in many.looks.values()}) >= len(KNOWN) + 1
    assert len({(look.dashes, look.marker) for look in many.looks.values()}) == len(many.looks)
    assert (
        few.looks["random"] not in Palette.of([str(number) for number in range(40)]).looks.values()
    )
    assert Palette.of(list(reversed(list(many.looks)))) == many


def test_variants_are_shades_of_their_strategy() -> None:
    plain = Palette.of(["bait", "fishermask", "margin", "random"]).looks
    groups = [
        f"{strategy} ({variant})"
        for strategy in ("fishermask", "bait")
        for variant in ("as published", "repaired", "rescaled")
    ]
    palette = Palette.of([*reversed(groups), "margin", "random"])
    assert list(palette.looks) == [*groups, "margin", "random"]
    looks = palette.looks
    assert len({(look.dashes, look.marker) for look in looks.values()}) == len(looks)
    for strategy in ("fishermask", "bait"):
        assert looks[f"{strategy} (as published)"] == plain[strategy]
        published, repaired, rescaled = (
            lightness(looks[f"{strategy} ({variant})"].colour)
            for variant in ("as published", "repaired", "rescaled")
        )
        assert repaired + 10 < published < rescaled - 5
    assert looks["margin"] == plain["margin"]
    beside = Palette.of(["bait", *groups]).looks
    assert len({*beside.values()}) == 7
    assert beside["bait"] == plain["bait"]


def lightness(colour: str) -> float:
    """L* of CIELAB."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return 116 * float(np.dot(linear, (0.2126, 0.7152, 0.0722))) ** (1 / 3) - 16


def test_colours_differ_in_grey() -> None:
    light = [lightness(colour) for colour in palette.COLOURS]
    assert min(abs(a - b) for a, b in itertools.combinations(light, 2)) > 4.5
    assert min(abs(a - b) for a, b in itertools.pairwise(light)) > 20
    assert max(light) < 78  # to be seen on white
    light = [lightness(colour) for colour in palette.FILLS]
    assert min(abs(a - b) for a, b in itertools.pairwise(light[:5])) > 30
