"""The folders that a report leaves out."""

from __future__ import annotations

RISING = [0.3, 0.5, 0.7]


def whys(runs) -> dict[str, str]:
    return {
        f"{each.directory.parent.name}/{each.directory.name}": each.why for each in runs.left_out
    }
