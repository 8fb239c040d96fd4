"""The runs that the verdict is about, by the folder that they lie in.

full_length  the paper's strategies on its imbalanced data, to the last label; BAIT and FisherMask
             also with other regularization
rivals       every strategy, on the same data
balanced     the paper's strategies without imbalance
ablations    FisherMask with one option changed at a time, and BAIT beside it
ratios       the paper's strategies at several ratios of the largest class to the smallest
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import pandas as pd

from fm_al.errors import ConfigError
from fm_al.records.discovery import runs_below
from fm_al.records.reading import stored_run
from fm_al.report.runs import REFERENCE, STRATEGY, Run, Runs
from fm_al.report.selection import read_runs
from fm_al.report.text import listed
from fm_al.report.values import format_value
from fm_al.report.variants import VARIANTS, with_variants

FOLDERS = ("full_length", "rivals", "balanced", "ablations", "ratios")
FEWEST_RATIOS = 2
ABLATED = {
    "strategy.fraction": "mask_fraction",
    "strategy.mask": "mask_kind",
    "strategy.regularization": "regularization",
    "strategy.oversampling": "oversampling",
}
DATASETS = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST", "cifar10": "CIFAR-10"}


@dataclass(frozen=True)
class Ablation:
    """Runs that differ in one option.

    Attributes:
        name: Of the preset.
        key: The option.
        base: The value that the other ablations have.
        runs: Of one setting; a group for each value.
    """

    name: str
    key: str
    base: str
    runs: Runs

    @property
    def base_group(self) -> str:
        """The group with the value that the other ablations have."""
        return f"{self.key.rpartition('.')[2]}={self.base}"

    @property
    def others(self) -> list[str]:
        """The groups with other values."""
        return [group for group in self.runs.groups if group != self.base_group]


@dataclass(frozen=True)
class Records:
    """All runs.

    Attributes:
        full_length, rivals, balanced: As above.
        ablations: One for each option.
        ratios: At each ratio of the largest class to the smallest, a setting.
    """

    full_length: Runs
    rivals: Runs
    balanced: Runs
    ablations: Sequence[Ablation]
    ratios: Runs

    def ablation(self, name: str) -> Ablation:
        """The ablation of this name."""
        return next(each for each in self.ablations if each.name == name)

    @cached_property
    def by_ratio(self) -> dict[float, Runs]:
        """The settings of `ratios` by their ratio, the smallest first."""
        of_ratios = {}
        for runs in map(self.ratios.of, self.ratios.settings):
            counts = runs.runs[0].provenance.pool_counts
            if not counts or not min(counts):
                raise ConfigError(f"{runs.settings[0]}: its pool lacks images of a class")
            of_ratios[max(counts) / min(counts)] = runs
        return dict(sorted(of_ratios.items()))


def read_records(folder: Path) -> Records:
    """Read the runs in the folders named above.

    Raises:
        ConfigError: A folder is not there, or has no runs to compare.
    """
    for name in FOLDERS:
        if not (folder / name).is_dir():
            raise ConfigError(f"{folder / name}: no such folder; expected {', '.join(FOLDERS)}")
    found = Records(
        read_runs(folder / "full_length"),
        read_runs(folder / "rivals"),
        _balanced(folder / "balanced"),
        _ablations(folder / "ablations"),
        read_runs(folder / "ratios"),
    )
    variants = [f"{name} ({variant})" for name in ("fishermask", "bait") for variant in VARIANTS]
    _check_groups(folder / "full_length", found.full_length, [*variants, REFERENCE])
    _check_groups(folder / "rivals", found.rivals, [variants[0], REFERENCE])
    _check_groups(folder / "balanced", found.balanced, [variants[0]])
    if len(found.by_ratio) < FEWEST_RATIOS:
        raise ConfigError(f"{folder / 'ratios'}: needs runs of {FEWEST_RATIOS} ratios to compare")
    return found


def _check_groups(folder: Path, runs: Runs, needed: Sequence[str]) -> None:
    """Raise ConfigError if a setting lacks one of these groups."""
    for setting in runs.settings:
        if lacking := [group for group in needed if group not in runs.of(setting).groups]:
            raise ConfigError(f"{folder}: {setting} has no runs of {listed(lacking)}")


def dataset_of(runs: Runs) -> str:
    """What the data set of one setting is called."""
    option = runs.runs[0].options["dataset"].removesuffix("_jpeg")
    return DATASETS.get(option, option)


def of_settings(runs: Runs) -> list[Runs]:
    """The runs of each setting, by the name of its data set."""
    return sorted((runs.of(setting) for setting in runs.settings), key=dataset_of)


def areas(of_settings: Sequence[Runs]) -> list[pd.DataFrame]:
    """The areas under the accuracy curves of each setting: seeds x groups."""
    return [runs.area("accuracy") for runs in of_settings]


def _balanced(folder: Path) -> Runs:
    """The balanced runs up to the labels that all have reached, whatever experiments they are of.

    A group is a strategy, with its variant if there are several.
    """
    reached = [
        {each.labelled for each in stored_run(directory).rounds} for directory in runs_below(folder)
    ]
    common = set.intersection(*reached) if reached else set()
    if not common:
        raise ConfigError(f"{folder}: the runs have no number of labels in common")
    found = read_runs(folder, by=["strategy", "experiment_name"], up_to=max(common))
    of_groups = {run.group: run for run in found.runs}
    strategies = {group: run.options["strategy"] for group, run in of_groups.items()}
    options = {group: run.part(["strategy"]) for group, run in of_groups.items()}
    names = with_variants({folder: strategies}, {folder: options})[folder]
    if len({*names.values()}) < len(names):
        raise ConfigError(f"{folder}: two experiments have the same strategy, with other options")
    renamed = [replace(run, group=names[run.group]) for run in found.runs]
    return replace(found, runs=renamed, by=STRATEGY)


def _ablations(folder: Path) -> list[Ablation]:
    """The runs with each option of FisherMask changed, the others at their most frequent value."""
    runs = read_runs(folder, {"strategy": ["fishermask"]}).runs
    base = {key: _most_frequent(runs, key) for key in (*ABLATED, "strategy.whole_last_layer")}
    return [
        Ablation(
            name,
            key,
            base[key],
            read_runs(folder, {k: [v] for k, v in base.items() if k != key}, by=[key]),
        )
        for key, name in ABLATED.items()
    ]


def _most_frequent(runs: Sequence[Run], key: str) -> str:
    return Counter(format_value(run.value(key)) for run in runs).most_common(1)[0][0]
