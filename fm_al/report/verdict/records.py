"""The runs that the verdict is about, by the folder that they lie in.

full_length  the paper's strategies on its imbalanced data, to the last label; BAIT and FisherMask
             also with other regularization
rivals       every strategy, on the same data
balanced     the paper's strategies without imbalance
ablations    FisherMask with one option changed at a time, and BAIT beside it
ratios       the paper's strategies at several ratios of the largest class to the smallest
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import pandas as pd

from fm_al.errors import ConfigError
from fm_al.report.class_tiers import tiers_of
from fm_al.report.reading import finished_runs
from fm_al.report.runs import REFERENCE, STRATEGY, FinishedRun, Run, Runs
from fm_al.report.selection import read_runs
from fm_al.report.text import listed
from fm_al.report.values import format_value
from fm_al.report.variants import VARIANTS, group_of_paper, with_variants
from fm_al.report.verdict.families import strategy_of

FOLDERS = ("full_length", "rivals", "balanced", "ablations", "ratios")
FISHERMASK, BAIT = "fishermask (as published)", "bait (as published)"
RIVAL = "entropy"  # the simplest strategy that is hard to beat
# By option: the preset that changes it, if there is one.
ABLATED = {
    "strategy.fraction": "mask_fraction",
    "strategy.mask": "mask_kind",
    "strategy.whole_last_layer": "whole_last_layer",
    "strategy.regularization": "regularization",
    "strategy.oversampling": "oversampling",
}
DATASETS = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST", "cifar10": "CIFAR-10"}


@dataclass(frozen=True)
class Ablation:
    """Runs that differ in one option.

    Attributes:
        name: Of the ablation.
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
        full_length, rivals: As above.
        balanced: Of each data set, up to the labels that all of its runs have reached.
        ablations: One for each option.
        last_layer: The areas of BAIT with the options that the ablations share, by seed.
        ratios: At each ratio of the largest class to the smallest, a setting.
    """

    full_length: Runs
    rivals: Runs
    balanced: Sequence[Runs]
    ablations: Sequence[Ablation]
    last_layer: pd.Series
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
        ConfigError: A folder is not there, or lacks runs to compare.
    """
    for name in FOLDERS:
        if not (folder / name).is_dir():
            raise ConfigError(f"{folder / name}: no such folder; expected {', '.join(FOLDERS)}")
    found = Records(
        read_runs(folder / "full_length"),
        read_runs(folder / "rivals"),
        _balanced(folder / "balanced"),
        _ablations(folder / "ablations"),
        _last_layer(folder / "ablations"),
        read_runs(folder / "ratios"),
    )
    _check_full_length(folder / "full_length", found.full_length)
    _check_rivals(folder / "rivals", found.rivals)
    for each in found.balanced:
        _check_groups(folder / "balanced", each, [FISHERMASK, REFERENCE])
    of_paper = [group_of_paper(name, found.ratios.groups) for name in ("fishermask", "bait")]
    _check_groups(folder / "ratios", found.ratios, [*of_paper, RIVAL, REFERENCE])
    if not 1 < len(found.by_ratio) == len(found.ratios.settings):
        raise ConfigError(f"{folder / 'ratios'}: needs settings of different ratios to compare")
    return found


def _check_full_length(folder: Path, runs: Runs) -> None:
    """Raise ConfigError if a setting lacks a variant, or an opponent that others have."""
    variants = [f"{name} ({each})" for name in ("fishermask", "bait") for each in VARIANTS]
    _check_groups(folder, runs, [*variants, REFERENCE, *opponents(runs)])
    _check_datasets(folder, settings_of(runs))


def _check_rivals(folder: Path, runs: Runs) -> None:
    """Raise ConfigError if settings are not imbalanced, or not of one length."""
    _check_groups(folder, runs, [FISHERMASK, REFERENCE])
    _check_datasets(folder, settings_of(runs))
    if len(ends := {str(each.labels[-1]) for each in settings_of(runs)}) > 1:
        raise ConfigError(f"{folder}: settings end at {listed(sorted(ends))} labels; must be one")
    for each in settings_of(runs):
        if tiers_of(each) is None:
            raise ConfigError(f"{folder}: {each.settings[0]} has no rare classes")


def _check_groups(folder: Path, runs: Runs, needed: Sequence[str]) -> None:
    """Raise ConfigError if a setting lacks one of these groups."""
    for setting in runs.settings:
        if lacking := [group for group in needed if group not in runs.of(setting).groups]:
            raise ConfigError(f"{folder}: {setting} has no runs of {listed(lacking)}")


def _check_datasets(folder: Path, settings: Sequence[Runs]) -> None:
    """Raise ConfigError if settings have the same data set."""
    for dataset, count in Counter(map(dataset_of, settings)).items():
        if count > 1:
            twice = [each.settings[0].strip() for each in settings if dataset_of(each) == dataset]
            raise ConfigError(f"{folder}: two settings of {dataset}: {listed(twice)}")


def dataset_of(runs: Runs) -> str:
    """What the data set of one setting is called."""
    option = runs.runs[0].options["dataset"].removesuffix("_jpeg")
    return DATASETS.get(option, option)


def settings_of(runs: Runs) -> list[Runs]:
    """The runs of each setting, by the name of its data set."""
    return sorted((runs.of(setting) for setting in runs.settings), key=dataset_of)


def areas(settings: Sequence[Runs]) -> list[pd.DataFrame]:
    """The areas under the accuracy curves of each setting: seeds x groups."""
    return [runs.area("accuracy") for runs in settings]


def opponents(runs: Runs) -> list[str]:
    """The strategies that FisherMask as published is compared with."""
    fisher = ("fishermask", "bait")  # of their variants, only BAIT as published is the paper's
    others = [group for group in runs.groups if strategy_of(group) not in fisher]
    return [BAIT, *others] if BAIT in runs.groups else others


def _balanced(folder: Path) -> list[Runs]:
    """The balanced runs of each data set, up to the labels that all of them have reached.

    A group is a strategy, with its variant if there are several, whatever experiment it is of.
    """
    by_dataset: defaultdict[str, list[FinishedRun]] = defaultdict(list)
    for run in finished_runs(folder, [], with_unfinished=True):
        if not run.is_on_whole_pool:
            by_dataset[run.options["dataset"]].append(run)
    if not by_dataset:
        raise ConfigError(f"{folder}: no run with a recorded round in this folder or below")
    found = []
    for dataset, there in by_dataset.items():
        runs = read_runs(
            folder,
            {"dataset": [dataset]},
            by=["strategy", "experiment_name"],
            up_to=_common_end(folder, dataset, there),
        )
        others = {run.directory for of_other in by_dataset.values() for run in of_other}
        others -= {run.directory for run in there}
        left_out = [each for each in runs.left_out if each.directory not in others]
        found.append(replace(runs, left_out=left_out))
    _check_datasets(folder, [setting for runs in found for setting in settings_of(runs)])
    return sorted(_named_by_variant(folder, found), key=dataset_of)


def _common_end(folder: Path, dataset: str, runs: Sequence[FinishedRun]) -> int | None:
    """The largest number of labels that all runs have reached; None if all of them end there."""
    common = set.intersection(*({each.labelled for each in run.rounds} for run in runs))
    if not common:
        raise ConfigError(f"{folder}: runs on {dataset} have no number of labels in common")
    end = max(common)
    whole = all(not run.unfinished and run.rounds[-1].labelled == end for run in runs)
    return None if whole else end


def _named_by_variant(folder: Path, found: Sequence[Runs]) -> list[Runs]:
    """The runs with groups by strategy and variant; `found` has them by experiment."""
    of_groups = [{run.group: run for run in runs.runs} for runs in found]
    names = with_variants(
        {
            i: {k: run.options["strategy"] for k, run in of.items()}
            for i, of in enumerate(of_groups)
        },
        {i: {k: run.part(["strategy"]) for k, run in of.items()} for i, of in enumerate(of_groups)},
    )
    named = []
    for i, runs in enumerate(found):
        if len({*names[i].values()}) < len(names[i]):
            raise ConfigError(
                f"{folder}: on {dataset_of(runs)} two experiments have the same strategy, and not "
                f"as two variants: {listed(sorted(map(str, names[i])))}"
            )
        renamed = [replace(run, group=names[i][run.group]) for run in runs.runs]
        named.append(replace(runs, runs=renamed, by=STRATEGY))
    return named


def _ablations(folder: Path) -> list[Ablation]:
    """The runs with each option of FisherMask changed, the others at their most frequent value."""
    runs = read_runs(folder, {"strategy": ["fishermask"]}).runs
    base = {key: _most_frequent(runs, key) for key in ABLATED}
    found = []
    for key, name in ABLATED.items():
        where = {other: [value] for other, value in base.items() if other != key}
        each = Ablation(name, key, base[key], read_runs(folder, where, by=[key]))
        if not each.others:
            raise ConfigError(f"{folder}: needs runs of two values of {key}")
        found.append(each)
    return found


def _most_frequent(runs: Sequence[Run], key: str) -> str:
    return Counter(format_value(run.value(key)) for run in runs).most_common(1)[0][0]


def _last_layer(folder: Path) -> pd.Series:
    """The areas of BAIT by seed."""
    area = read_runs(folder, {"strategy": ["bait"]}).area("accuracy")
    if len(area.columns) > 1:
        raise ConfigError(f"{folder}: has BAIT with several options: {listed([*area.columns])}")
    return area.iloc[:, 0]
