"""Values of a configuration: compared with what a user types, and shown."""

from __future__ import annotations

import contextlib
import json
import re
from typing import Any

from fm_al.records.result_config import Config
from fm_al.report.text import printable

STRATEGY_START = "fm_al.starts.strategy.StrategyStart"
MISSING = object()  # of a key that a run does not have


def matches(value: Any, text: str) -> bool:
    """Whether a value is the one that a user typed."""
    if value is MISSING:
        return False
    text = printable(text)
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(text) == value
        except ValueError:
            return False
    if isinstance(value, list | dict):
        with contextlib.suppress(ValueError):
            return bool(json.loads(text) == value)
    return text == format_value(value)


def format_value(value: Any) -> str:
    """A value as a user would type it; a dash if it is missing."""
    if value is MISSING:
        return "–"
    return value if isinstance(value, str) else json.dumps(value)


def canonical(value: Any) -> str:
    """A text that is the same for equal values only."""
    return json.dumps(value, sort_keys=True)


def by_numbers(name: str) -> list[Any]:
    """A key to sort names by, with the numbers in them by size."""
    parts = re.split(r"(\d+(?:\.\d+)?)", name)
    return [float(part) if odd % 2 else part for odd, part in enumerate(parts)]


def option_of(target: object) -> str:
    """The module of a class, which is what its option is called: `balanced`."""
    return str(target).rpartition(".")[0].rpartition(".")[2]


def start_name(start: Config | None) -> str:
    """What chose the first labels: `random`, `balanced`, or the strategy's name.

    Starts and strategies of the user's own are named by their class, since a module may have
    several.
    """
    if not start:
        return "random"
    target = str((start["strategy"] if start_is_strategy(start) else start)["_target_"])
    return option_of(target) if target.startswith("fm_al.") else target.rpartition(".")[2]


def start_is_strategy(start: Config) -> bool:
    """Whether a strategy of `start` chooses the first labels."""
    return start["_target_"] == STRATEGY_START and isinstance(start.get("strategy"), dict)
