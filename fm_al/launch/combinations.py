"""The combinations of a sweep: every value of every override that has several."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import Override, RangeSweep

from fm_al.compose.arguments import shown
from fm_al.errors import ConfigError

MOST_RUNS = 100_000

Combination = tuple[str, ...]  # overrides


def dimensions(overrides: Sequence[Override], loader: ConfigLoader) -> dict[str, list[str]]:
    """List the values of every key. The runs of a sweep are their product.

    Args:
        overrides: As typed. The last override of a key holds.
        loader: Knows the options of a group, for `glob(*)`.

    Returns:
        The values of each key, each as an override.

    Raises:
        ConfigError: If the sweep has no run, or too many.
    """
    last = {override.get_key_element(): override for override in overrides}
    runs: float = math.prod(_count(override, loader) for override in last.values())
    if runs > MOST_RUNS:
        swept = ", ".join(
            shown(str(each.input_line)) for each in last.values() if each.is_sweep_override()
        )
        many = f"{runs:,}" if math.isfinite(runs) else "infinitely many"
        raise ConfigError(f"{swept}: {many} runs; a sweep has {MOST_RUNS:,} at most")
    return {key: _values(override, loader) for key, override in last.items()}


def _count(override: Override, loader: ConfigLoader) -> float:
    """How many values an override has, without listing them."""
    text = shown(str(override.input_line))
    if not override.is_sweep_override():
        return 1
    if override.is_interval_sweep():
        key = override.get_key_element()
        raise ConfigError(f"{text}: should list values: {key}=range(0,3) or {key}=0,1,2")
    value = override.value()
    if isinstance(value, RangeSweep):
        count = _length(value, text)
    else:
        count = len(_values(override, loader))
    if count == 0:
        raise ConfigError(f"the sweep has no runs: {text} is empty")
    return count


def _length(sweep: RangeSweep, text: str) -> float:
    ends: Any = (sweep.start, sweep.stop, sweep.step)
    start, stop, step = ends
    if step == 0 or any(math.isnan(end) for end in ends):
        raise ConfigError(f"{text}: should be range(start,stop,step) with a step other than 0")
    if all(isinstance(end, int) for end in ends):
        ahead = stop - start if step > 0 else start - stop
        return max(0, -(-ahead // abs(step)))
    if any(math.isinf(end) for end in ends):
        return math.inf
    count = (float(stop) - float(start)) / float(step)
    return max(0, math.ceil(count)) if math.isfinite(count) else math.inf


def _values(override: Override, loader: ConfigLoader) -> list[str]:
    if not override.is_sweep_override():
        return [str(override.input_line)]
    known = replace(override, config_loader=loader)
    key = override.get_key_element()
    values = [f"{key}={value}" for value in known.sweep_string_iterator()]
    if len(set(values)) < len(values):
        raise ConfigError(f"{shown(str(override.input_line))}: name each value once")
    return values
