"""Looks of groups and of stacked parts, distinct in colour, in grey and to the colour-blind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib.colors import to_hex, to_rgb
from matplotlib.markers import MarkerStyle

from fm_al.report.values import by_numbers
from fm_al.report.variants import PUBLISHED, parted

# Of groups: distinct in lightness, neighbours most, and for the colour-blind.
COLOURS = (
    *("#D55E00", "#08306B", "#56B4E9", "#00805F", "#F0AE00"),
    *("#6B3A00", "#D07FB0", "#6A4FC0", "#3B0030", "#A8073C"),
)
DASHES = (), (4, 1), (6, 1.5, 1, 1.5), (8, 2.5), (4, 1, 1, 1, 1, 1)
MARKERS = "os^Dv*P<>"
GREY = "#404040"
# These look the same in every report; other groups get the looks that are left.
KNOWN = (
    *("fishermask", "badge", "bait", "coreset", "entropy", "margin"),
    *("kmeans", "bald", "least_confidence", "fishermask_entropy"),
)
# Variants have a shade of their strategy's colour: so much of black (0) or white (1) is added.
SHADES = {"rescaled": (1.0, 0.25), "repaired": (0.0, 0.3)}
# Of what is stacked: Tol's muted colours, light ones between dark ones.
FILLS = (
    *("#332288", "#DDCC77", "#117733", "#88CCEE", "#882255"),
    *("#999933", "#AA4499", "#44AA99", "#CC6677", "#BBBBBB"),
)
HATCHES = "", "////", "", "\\\\\\\\"  # lines only: in SVG each dot of a dotted one is a path


@dataclass(frozen=True)
class Look:
    """How a group is drawn. dashes: lengths of strokes and gaps; empty for a solid line."""

    colour: str
    dashes: tuple[float, ...]
    marker: str

    @property
    def outline(self) -> str:
        """The marker as data of an SVG path, within 1 of (0, 0)."""
        style = MarkerStyle(self.marker)
        path = style.get_path().transformed(style.get_transform())
        polygons = [np.asarray(polygon, float) for polygon in path.to_polygons()]
        largest = max(np.abs(polygon).max() for polygon in polygons)
        return "".join(
            "M" + "L".join(f"{x / largest:.2f} {-y / largest:.2f}" for x, y in polygon) + "Z"
            for polygon in polygons
        )


@dataclass(frozen=True)
class Palette:
    """Looks of all groups in a report, in the order of the legend."""

    looks: Mapping[str, Look]

    @classmethod
    def of(cls, groups: Sequence[str]) -> Palette:
        """Assign looks: `fishermask` first, `random` last, the others by name. What is as published
        has the look of its strategy."""
        names = sorted(
            {*groups} - {"random"},
            key=lambda name: (parted(name)[0] != "fishermask", by_numbers(name)),
        )
        own = {name: _own_name(name, groups) for name in names}
        unknown = [name for name in own.values() if name not in KNOWN]
        # Beside known groups, others get only looks that those do not use.
        is_known = any(parted(name)[0] in KNOWN for name in names)
        numbered = [*KNOWN, *unknown] if is_known else unknown
        looks = {name: _look_of(own[name], numbered) for name in names}
        return cls(looks | ({"random": Look(GREY, (3, 2), "X")} if "random" in groups else {}))

    def ordered(self, groups: Iterable[str]) -> list[str]:
        return sorted(groups, key=list(self.looks).index)


def _own_name(group: str, groups: Sequence[str]) -> str:
    """A group, or its strategy if it is that one as published."""
    strategy, variant = parted(group)
    return strategy if variant == PUBLISHED and strategy not in groups else group


def _look_of(name: str, numbered: Sequence[str]) -> Look:
    look = _look(numbered.index(name))
    strategy, variant = parted(name)
    if variant not in SHADES or strategy not in numbered:
        return look
    towards, part = SHADES[variant]
    red, green, blue = (
        each + part * (towards - each) for each in to_rgb(_look(numbered.index(strategy)).colour)
    )
    return replace(look, colour=to_hex((red, green, blue)).upper())


def _look(number: int) -> Look:
    return Look(
        COLOURS[number % len(COLOURS)],
        DASHES[number % len(DASHES)],
        MARKERS[number % len(MARKERS)],
    )


def fill(number: int) -> dict[str, Any]:
    """How a part of a stack is drawn, by its number; 20 are distinct."""
    colour = np.array(to_rgb(FILLS[number % len(FILLS)]))
    return {
        "facecolor": tuple(colour),
        "hatch": HATCHES[(number + number // len(FILLS)) % len(HATCHES)],
        "edgecolor": tuple(0.5 * colour + (0 if is_light(colour) else 0.5)),
        "linewidth": 0,
    }


def is_light(colour: Iterable[float]) -> bool:
    """Whether black reads better than white on a colour: red, green and blue in [0, 1]."""
    return float(np.dot(tuple(colour), (0.299, 0.587, 0.114))) > 0.5
