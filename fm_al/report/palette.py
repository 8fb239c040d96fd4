"""Looks of groups and of stacked parts, distinct in colour, in grey and to the colour-blind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.markers import MarkerStyle

from fm_al.report.values import by_numbers

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
        """Assign looks: `fishermask` first, `random` last, the others by name."""
        others = sorted({*groups} - {"fishermask", "random"}, key=by_numbers)
        names = [name for name in ("fishermask", *others) if name in groups]
        unknown = [name for name in names if name not in KNOWN]
        # Beside known groups, others get only looks that those do not use.
        numbered = [*KNOWN, *unknown] if len(unknown) < len(names) else unknown
        looks = {name: _look(numbered.index(name)) for name in names}
        return cls(looks | ({"random": Look(GREY, (3, 2), "X")} if "random" in groups else {}))

    def ordered(self, groups: Iterable[str]) -> list[str]:
        return sorted(groups, key=list(self.looks).index)


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
