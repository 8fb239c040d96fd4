"""The runs that a report compares.

A setting is everything that affects results except strategy, seed and device. Runs are compared
within a setting, paired by seed: runs of one seed start from the same labels. With `by`, the values
of other keys are compared instead of strategies; these may decide the first labels, see
`Runs.start_alike`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from fm_al.records.curve import area_under_curve
from fm_al.records.naming import flattened
from fm_al.records.result_config import Config
from fm_al.records.schema import Provenance, Result, Round
from fm_al.report.values import MISSING, by_numbers

STRATEGY = ("strategy",)
# A field of a round's record, or a function of the record.
Metric = str | Callable[[Round], float]
REFERENCE = "random"  # the group that others are compared with, if there is one of this name
# The keys that, beside the seed, decide the first labels, and those among them that only change
# how images look.
DECIDES_START = ("dataset", "dataset_content", "imbalance", "budget.initial", "budget.start")
LOOKS = tuple(
    f"dataset.{name}" for name in ("pad_to", "mean", "std", "crop_padding", "horizontal_flip")
)


def value_of(record: Round, metric: Metric) -> float:
    """A metric of a round; NaN if its record lacks it."""
    return float(getattr(record, metric) if isinstance(metric, str) else metric(record))


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """A finished run, or as much of an unfinished one as is recorded, not yet named.

    Attributes:
        directory: Where it is.
        config: The part of its configuration that results depend on.
        provenance: Software, starts.
        rounds: Its rounds.
        result: Its result.
        options: Names of the options of some groups, such as `dataset`.
        unfinished: Why it is not finished; empty if it is.
    """

    directory: Path
    config: Config
    provenance: Provenance
    rounds: Sequence[Round]
    result: Result
    options: Mapping[str, str]
    unfinished: str = field(default="", kw_only=True)

    @cached_property
    def flat(self) -> dict[str, Any]:
        """`config` by dotted keys."""
        return flattened(self.config)

    @property
    def seed(self) -> int:
        return int(self.flat["seed"])

    @property
    def is_on_whole_pool(self) -> bool:
        """Whether it was trained on the whole pool, once: an upper bound."""
        return bool(self.flat.get("budget.whole_pool"))

    @property
    def is_cut(self) -> bool:
        """Whether it was started with a larger budget than it is reported with."""
        return bool(self.provenance.decides["budget"]["total"] > self.flat["budget.total"])

    def value(self, key: str) -> Any:
        """The value of a key of the configuration, or MISSING."""
        return self.options[key] if key in self.options else self.flat.get(key, MISSING)

    def part(self, keys: Iterable[str]) -> dict[str, Any]:
        """The values at and below these keys."""
        prefixes = tuple(f"{key}." for key in keys)
        return {k: v for k, v in self.flat.items() if f"{k}.".startswith(prefixes)}


@dataclass(frozen=True, eq=False)
class Run(FinishedRun):
    """A finished run in its place.

    Attributes:
        setting: Name of its setting.
        group: Name of what is compared, such as its strategy.
    """

    setting: str
    group: str

    def at(self, labels: int) -> Round:
        """The record of the round with this number of labels."""
        return self._by_labels[labels]

    @cached_property
    def _by_labels(self) -> Mapping[int, Round]:
        return {each.labelled: each for each in self.rounds}


@dataclass(frozen=True)
class LeftOut:
    """A folder that the report does not use, and why."""

    directory: Path
    why: str


@dataclass(frozen=True)
class Runs:
    """The runs of a report, or of one of its settings.

    Attributes:
        runs: What is compared.
        left_out: What is not used.
        by: The keys whose values are compared.
        on_whole_pool: Runs that were trained on the whole pool, by setting: upper bounds.
        up_to: The number of labels that runs are cut at; None if they are not cut.
    """

    runs: Sequence[Run]
    left_out: Sequence[LeftOut] = ()
    by: Sequence[str] = STRATEGY
    on_whole_pool: Mapping[str, Sequence[FinishedRun]] = field(default_factory=dict)
    up_to: int | None = None

    @cached_property
    def settings(self) -> list[str]:
        """Names of the settings, sorted."""
        return sorted({run.setting for run in self.runs}, key=by_numbers)

    @cached_property
    def groups(self) -> list[str]:
        """Names of the groups, sorted."""
        return sorted({run.group for run in self.runs}, key=by_numbers)

    def of(self, setting: str) -> Runs:
        """The runs of one setting."""
        return self._of_settings[setting]

    @cached_property
    def _of_settings(self) -> Mapping[str, Runs]:
        of_settings: defaultdict[str, list[Run]] = defaultdict(list)
        for run in self.runs:
            of_settings[run.setting].append(run)
        return {
            setting: Runs(
                runs,
                (),
                self.by,
                {setting: self.on_whole_pool[setting]} if setting in self.on_whole_pool else {},
            )
            for setting, runs in of_settings.items()
        }

    def of_group(self, group: str) -> list[Run]:
        """The runs of a group, sorted by seed."""
        return self._of_groups[group]

    @cached_property
    def _of_groups(self) -> Mapping[str, list[Run]]:
        of_groups: defaultdict[str, list[Run]] = defaultdict(list)
        for run in sorted(self.runs, key=lambda run: run.seed):
            of_groups[run.group].append(run)
        return dict(of_groups)

    @property
    def start_alike(self) -> bool:
        """Whether runs with the same setting and seed start from the same labels."""
        decides_start = tuple(f"{key}." for key in DECIDES_START)
        return not any(f"{key}.".startswith(decides_start) and key not in LOOKS for key in self.by)

    # The rest is for the runs of one setting.

    @cached_property
    def labels(self) -> list[int]:
        """The numbers of labels at which runs are compared: those that all runs have.

        The first is left out if only some runs were trained before their first query.
        """
        of_runs = [{each.labelled for each in run.rounds} for run in self.runs]
        common = sorted(set.intersection(*of_runs))
        return common[1:] if self.differ_at_first and len(common) > 1 else common

    @property
    def labels_after_first(self) -> list[int]:
        """`labels` without the first, at which strategies have not chosen anything yet."""
        first = {run.rounds[0].labelled for run in self.runs}
        return [labels for labels in self.labels if labels not in first]

    @property
    def differ_at_first(self) -> bool:
        """Whether only some runs were trained before their first query."""
        budgets = [run.config["budget"] for run in self.runs]
        return len({budget.get("train_before_first_query", True) for budget in budgets}) > 1

    @property
    def class_names(self) -> list[str] | None:
        """None if runs have different classes."""
        names = self.runs[0].result.class_names
        return names if all(run.result.class_names == names for run in self.runs) else None

    @cached_property
    def seeds(self) -> list[int]:
        return sorted({run.seed for run in self.runs})

    @property
    def bounds(self) -> Sequence[FinishedRun]:
        """The runs that were trained on the whole pool, sorted by seed."""
        return self.on_whole_pool.get(self.runs[0].setting, ())

    def at(self, metric: Metric, labels: int) -> pd.DataFrame:
        """A metric at this number of labels: seeds x groups, NaN for a missing run."""
        return self.framed({run: value_of(run.at(labels), metric) for run in self.runs})

    def final(self, metric: Metric) -> pd.DataFrame:
        """A metric at the largest number of labels: seeds x groups."""
        return self.at(metric, self.labels[-1])

    def area(self, metric: Metric) -> pd.DataFrame:
        """The area under a metric over labels, divided by their range: seeds x groups."""
        labels = self.labels
        return self.framed(
            {
                run: area_under_curve(labels, [value_of(run.at(each), metric) for each in labels])
                for run in self.runs
            }
        )

    def framed(self, values: Mapping[Run, float]) -> pd.DataFrame:
        """A value of every run as a frame: seeds x groups."""
        columns: dict[str, dict[int, float]] = {group: {} for group in self.groups}
        for run, value in values.items():
            columns[run.group][run.seed] = float(value)
        return pd.DataFrame(columns, index=self.seeds, dtype=float)
