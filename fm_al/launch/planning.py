"""From a composed configuration to a checked run, and from a sweep's overrides to all of them."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict

from fm_al.compose.arguments import expanded, parsed
from fm_al.compose.composer import Composer, resolved
from fm_al.compose.nested import chooses_nested, nested_groups
from fm_al.config import check_settings
from fm_al.errors import ConfigError
from fm_al.launch.combinations import Combination, dimensions
from fm_al.launch.run_directory import run_directory
from fm_al.planned_run import PlannedRun
from fm_al.records.result_config import Config


def planned_run(
    composed: DictConfig, choices: Mapping[str, Any], overrides: Sequence[str]
) -> PlannedRun:
    """Check a composed configuration and give it its directory.

    Args:
        composed: With or without Hydra's own node.
        choices: The option chosen of each group.
        overrides: As typed.

    Raises:
        ConfigError: If the configuration is invalid.
    """
    return _checked(plain_config(without_hydra(composed)), choices, overrides)


def _checked(config: Config, choices: Mapping[str, Any], overrides: Sequence[str]) -> PlannedRun:
    check_settings(config)  # its directory's name depends on them
    return PlannedRun.of(config, run_directory(config, choices, overrides))


def plain_config(config: DictConfig) -> Config:
    """Resolve a run's configuration, and `~` in its paths. Raises ConfigError."""
    values = resolved(config)
    for key in ("output_dir", "data_dir"):
        if isinstance(values.get(key), str):
            values[key] = expanded(values[key])
    dataset = values.get("dataset")
    if isinstance(dataset, dict) and isinstance(dataset.get("root"), str):
        dataset["root"] = expanded(dataset["root"])
    return values


def without_hydra(composed: DictConfig) -> DictConfig:
    """A copy without Hydra's own node."""
    config = composed.copy()
    with open_dict(config):
        config.pop("hydra", None)
    return config


class SweepPlan:
    """Which runs a sweep has: every combination of the values that are swept.

    Attributes:
        combinations: The overrides of each run.
    """

    def __init__(
        self, composer: Composer, of_preset: Sequence[Override], typed: Sequence[Override]
    ) -> None:
        """Combine the values.

        Args:
            composer: Composes the configurations.
            of_preset: A preset's overrides.
            typed: The command line's, without Hydra's own. They win over the preset's.

        Raises:
            ConfigError: If the sweep has no run or too many, or the first one is invalid.
        """
        self.composer = composer
        self._dimensions = dimensions([*of_preset, *typed], composer)
        self._bases: dict[Combination, tuple[DictConfig, dict[str, Any]]] = {}
        chosen = {each.key_or_group for each in typed if composer.chooses(each)}
        preset_alone = {each.key_or_group for each in of_preset}
        preset_alone -= {each.key_or_group for each in typed}
        self._replaceable = {
            key: group for key in preset_alone if (group := key.partition(".")[0]) in chosen
        }
        product = itertools.product(*self._dimensions.values())
        self.combinations = list(dict.fromkeys(map(self._fitting, product)))
        # Hydra's own options may refer to those of the runs, and are the same for all.
        self._explained(self.combinations[0])

    def runs(self) -> list[PlannedRun]:
        """Check every combination and return its run, in order.

        A setting is composed once, whatever the number of its seeds: composing takes most of the
        time in a large sweep.

        Raises:
            ConfigError: If a combination is invalid, or two are the same run.
        """
        settings: dict[Combination, tuple[DictConfig, Config | None, dict[str, Any]]] = {}
        planned = []
        for combination in self.combinations:
            seeds = [text for text in combination if re.fullmatch(r"seed=\d+", text)]
            setting = tuple(text for text in combination if text not in seeds)
            if setting not in settings:
                settings[setting] = self._setting(setting)
            config, values, choices = settings[setting]
            seed = int(seeds[0].removeprefix("seed=")) if seeds else config.seed
            if values is None:
                config.seed = seed
                values = plain_config(config)
            planned.append(_checked(values | {"seed": seed}, choices, combination))
        if len({run.directory.is_absolute() for run in planned}) > 1:
            raise ConfigError("output_dir: should be absolute for all runs of a sweep, or for none")
        if len({run.directory for run in planned}) < len(planned):
            raise ConfigError("some runs of this sweep are the same; name each value once")
        return planned

    def overrides(self, planned: Sequence[PlannedRun]) -> dict[Path, Combination]:
        """The overrides of each run of `runs`, by its directory."""
        pairs = zip(planned, self.combinations, strict=True)
        return {run.directory: combination for run, combination in pairs}

    def _fitting(self, combination: Combination) -> Combination:
        """Leave out those options of the preset's sweep that do not exist in the option which was
        typed for their group."""
        if not self._replaceable:
            return combination
        config, choices = self._base(combination)
        lacking: dict[str, list[str]] = {}
        for key, group in self._replaceable.items():
            parent, _, name = key.rpartition(".")
            if name not in (OmegaConf.select(config, parent) or {}):
                lacking.setdefault(group, []).append(key)
        for group, keys in lacking.items():
            self.composer.note_left_out(keys, f"{group}={choices[group]}")
        gone = set(itertools.chain(*lacking.values()))
        return tuple(text for text in combination if parsed(text).key_or_group not in gone)

    def _setting(self, setting: Combination) -> tuple[DictConfig, Config | None, dict[str, Any]]:
        """The configuration of a combination without its seed; its plain values, if they are the
        same for all seeds; the option chosen of each group."""
        config, choices = self._explained(setting)
        raw = json.dumps(OmegaConf.to_container(config, resolve=False), default=str)
        refers_to_seed = re.search(r"\$\{[^}]*seed", raw)
        return config, None if refers_to_seed else plain_config(config), choices

    def _explained(self, combination: Combination) -> tuple[DictConfig, dict[str, Any]]:
        """As `_composed`; an error names the swept options that it holds for."""
        try:
            return self._composed(combination)
        except ConfigError as error:
            raise ConfigError(f"{error}{self._where_else(combination, error)}") from error

    def _composed(self, combination: Combination) -> tuple[DictConfig, dict[str, Any]]:
        base, choices = self._base(combination)
        config = base.copy()
        chosen = self._choosing(combination, choices)
        self.composer.apply([text for text in combination if text not in chosen], config)
        return config, choices

    def _base(self, combination: Combination) -> tuple[DictConfig, dict[str, Any]]:
        """Compose a combination's choices of groups, without its other overrides."""
        chosen = self._choosing(combination, {})
        while True:
            if chosen not in self._bases:
                composed = self.composer.compose(chosen)
                self._bases[chosen] = without_hydra(composed), composed.hydra.runtime.choices
            _, choices = self._bases[chosen]
            with_nested = self._choosing(combination, choices)
            if with_nested == chosen:
                return self._bases[chosen]
            chosen = with_nested  # of which an option may nest another group

    def _choosing(self, combination: Combination, choices: Iterable[str]) -> Combination:
        """The overrides that choose options of groups, and of those that these options nest."""
        nested = nested_groups(choices)
        return tuple(
            text
            for text in combination
            if self.composer.chooses(parsed(text)) or chooses_nested(parsed(text), nested)
        )

    def _where_else(self, combination: Combination, error: ConfigError) -> str:
        """Name the swept options of a group that have the same error, if it is about a group."""
        group = re.split(r"[.=]", str(error))[0]
        swept = self._dimensions.get(group, [])
        if len(swept) < 2 or not self.composer.chooses(parsed(swept[0])):
            return ""
        lacking = []
        for text in swept:
            with_it = [text if parsed(each).key_or_group == group else each for each in combination]
            try:
                self._composed(tuple(with_it))
            except ConfigError:
                lacking.append(text.partition("=")[2])
        return f" (in the runs with {group}={','.join(lacking)})"
