"""Short names for the rows of a table: runs by what differs in their configurations."""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fm_al.records.result_config import NO_EFFECT_ON_RESULTS

# The parts of a run's directory come first in a name.
LEVELS = (("experiment_name",), ("dataset", "imbalance"), ("backbone",), ("strategy",))
OPTIONS = ("dataset", "imbalance", "backbone", "strategy")
LACKS = "–"
LONGEST_VALUE = 40  # characters


def run_names(
    directories: Sequence[Path],
    configs: Sequence[Mapping[str, Any] | None],
    by_folder: Sequence[str],
    with_seed: bool = True,
    typed: Sequence[Mapping[str, Any]] | None = None,
) -> list[str]:
    """Name runs by what differs between them.

    A name is `<experiment>/<dataset>-<imbalance>/<backbone>/<strategy> <options> seed<k>`, without
    the parts that are the same for all. Options are shown where runs would have the same name
    without. A run that differs in nothing is named by its strategy.

    Args:
        directories: The runs' directories.
        configs: Their resolved configurations, or the part that affects results; None for a run
            whose configuration is not known.
        by_folder: Names for those runs, and for runs that nothing else distinguishes.
        with_seed: Whether names have a seed.
        typed: The options to choose from, by dotted key, such as those that a sweep varies; None is
            all of the configuration.
    """
    described: dict[int, _Described] = {}
    for index, (directory, config) in enumerate(zip(directories, configs, strict=True)):
        if config is not None and _is_whole(config):
            with contextlib.suppress(RecursionError):  # nested too deep to be a configuration
                choices = config if typed is None else typed[index]
                described[index] = _Described(directory, config, choices)
    differing_levels = [
        level
        for level in range(len(LEVELS))
        if len({each.levels[level] for each in described.values()}) > 1
    ]
    alike: defaultdict[str, dict[int, _Described]] = defaultdict(dict)
    for index, each in described.items():
        alike["/".join(each.levels[level] for level in differing_levels)][index] = each
    seeds_differ = with_seed and len({each.seed for each in described.values()}) > 1
    names = [*by_folder]
    for levels, runs in alike.items():
        telling = short_keys(_telling([*runs.values()]))
        shown = {key: _shown([each.value(key) for each in runs.values()]) for key in telling}
        for index, each in runs.items():
            options = [f"{short}={shown[key][each.value(key)]}" for key, short in telling.items()]
            parts = [levels, *options, each.seed * seeds_differ]
            names[index] = " ".join(part for part in parts if part) or each.levels[-1]
    taken = Counter(names)
    return [
        name if taken[name] == 1 else f"{name} ({folder})"
        for name, folder in zip(names, by_folder, strict=True)
    ]


class _Described:
    """What may be in a run's name. options: by dotted key, as they would be typed."""

    def __init__(
        self, directory: Path, config: Mapping[str, Any], options: Mapping[str, Any]
    ) -> None:
        chosen = option_names(directory, config)
        self.levels = [
            "-".join(chosen.get(key) or str(config[key]) for key in level) for level in LEVELS
        ]
        self.seed = f"seed{config['seed']}"
        self.options = {
            key: value if isinstance(value, str) else json.dumps(value)
            for key, value in flattened(options).items()
            if key.partition(".")[0] not in (*NO_EFFECT_ON_RESULTS, "seed", "experiment_name")
        }

    def value(self, key: str) -> str:
        """The value of an option; a dash if the run has no such option."""
        text = self.options.get(key, LACKS)
        return text.rpartition(".")[2] if key.endswith("._target_") else text


def _shown(values: Sequence[str]) -> dict[str, str]:
    """Each value of an option, shortened. Where long ones would look the same, they lose the start
    that they share."""
    shown = {value: cut(value) for value in values}
    if len({*shown.values()}) < len(shown):
        long = [value for value in shown if len(value) > LONGEST_VALUE]
        start = os.path.commonprefix(long)  # noqa: RUF071 (of any texts)
        start = start[: start.rfind("/") + 1] or start
        shown |= {value: cut(f"…{value[len(start) :]}") for value in long if start}
    return shown


def cut(text: str, length: int = LONGEST_VALUE) -> str:
    """At most this many characters of a text."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _is_whole(config: Mapping[str, Any]) -> bool:
    nodes = [config.get(group) for group in OPTIONS]
    targets = [node.get("_target_") if isinstance(node, Mapping) else None for node in nodes]
    there = all(isinstance(target, str) and "." in target for target in targets)
    return there and "seed" in config and isinstance(config.get("experiment_name"), str)


def option_names(directory: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """The option chosen of each group, from the run's directory; if that was moved, the module of
    the class that was built."""
    *above, last = directory.resolve().parts
    if above and "=" in above[-1]:
        above.pop()
    if last == f"seed{config['seed']}" and above[-4:-3] == [config["experiment_name"]]:
        dataset, _, imbalance = above[-3].rpartition("-")
        return dict(zip(OPTIONS, (dataset, imbalance, above[-2], above[-1]), strict=True))
    return {
        group: str(config[group].get("name") or config[group]["_target_"].split(".")[-2])
        for group in OPTIONS
    }


def flattened(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of nested mappings by dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping) and value:
            flat |= flattened(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _telling(runs: Sequence[_Described]) -> list[str]:
    """The options in which runs differ. Of options that change together, as a trainer's do, only
    the first."""
    told: dict[tuple[int, ...], str] = {}
    for key in dict.fromkeys(key for run in runs for key in run.options):
        numbers: dict[str, int] = {}
        groups = tuple(
            numbers.setdefault(run.options.get(key, LACKS), len(numbers)) for run in runs
        )
        if len(numbers) > 1:
            told.setdefault(groups, key)
    return [*told.values()]


def short_keys(keys: Sequence[str]) -> dict[str, str]:
    """Shorten each key to as few of its last parts as are unique, and start with a name."""
    parts = {key: key.removesuffix("._target_").split(".") for key in keys}
    short: dict[str, str] = {}
    for key, own in parts.items():
        for count in range(1, len(own) + 1):
            others = [other[-count:] for name, other in parts.items() if name != key]
            if own[-count].isidentifier() and own[-count:] not in others:
                break
        short[key] = ".".join(own[-count:])
    return short
