"""How all strategies stand over the data sets together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from fm_al.report.class_tiers import Tiers, tiers_of
from fm_al.report.runs import Runs
from fm_al.report.statistics import Ranks, ranks
from fm_al.report.text import listed
from fm_al.report.verdict.effects import Effect, effects
from fm_al.report.verdict.records import areas, dataset_of
from fm_al.report.verdict.words import ordinal


@dataclass(frozen=True)
class Standings:
    """The strategies that all settings have, over the seeds that all of them have.

    Attributes:
        settings: The runs of each setting, by the name of its data set.
    """

    settings: Sequence[Runs]

    @cached_property
    def frames(self) -> list[pd.DataFrame]:
        """The area under the accuracy curve for each setting: seeds x groups, without gaps."""
        found = areas(self.settings)
        groups = [group for group in found[0] if all(group in frame for frame in found)]
        return [frame[groups].dropna() for frame in found]

    @property
    def labels(self) -> int:
        """The last number of labels, which is that of all settings."""
        return self.settings[0].labels[-1]

    @property
    def names(self) -> list[str]:
        """What the data sets are called."""
        return [dataset_of(runs) for runs in self.settings]

    @cached_property
    def area(self) -> pd.DataFrame:
        """The mean area: groups x data sets."""
        return pd.DataFrame({n: f.mean() for n, f in zip(self.names, self.frames, strict=True)})

    @cached_property
    def mean(self) -> Mapping[str, float]:
        """The mean area over the data sets, the largest first."""
        return dict(self.area.mean(axis=1).sort_values(ascending=False, kind="stable"))

    @property
    def groups(self) -> list[str]:
        """The groups, the largest mean area first."""
        return list(self.mean)

    def place(self, group: str) -> int:
        """A group's place by mean area."""
        return 1 + self.groups.index(group)

    def places(self, group: str) -> str:
        """A group's place by mean area on each data set, in words."""
        ranked = self.area.rank(ascending=False, method="min").loc[group]
        return listed([f"{ordinal(int(ranked[name]))} on {name}" for name in self.names])

    def against(self, group: str) -> list[Effect]:
        """A group compared with every other, corrected by Holm over these."""
        return effects(self.frames, group, [other for other in self.groups if other != group])

    @cached_property
    def ranks(self) -> Ranks:
        """Ranks within each pair of data set and seed, which count like settings."""
        blocks = pd.concat(dict(zip(self.names, self.frames, strict=True)))
        found = ranks(blocks.set_axis([f"{name} {seed}" for name, seed in blocks.index]))
        assert found is not None  # there are several pairs and groups
        return found

    @cached_property
    def tiers(self) -> list[Tiers]:
        """Frequent and rare classes of each setting."""
        return [tiers for runs in self.settings if (tiers := tiers_of(runs))]

    @cached_property
    def rare_share(self) -> pd.DataFrame:
        """The share of the last labels that are of rare classes, mean over seeds: groups x data
        sets."""
        columns = {}
        for name, runs, tiers in zip(self.names, self.settings, self.tiers, strict=True):
            share = {run: tiers.share(tiers.rarest, run.at(self.labels)) for run in runs.runs}
            columns[name] = runs.framed(share).mean()
        return pd.DataFrame(columns).loc[self.groups]

    @property
    def pool_share(self) -> float:
        """The share of the pool that is of rare classes, mean over the data sets."""
        shares = [tiers.pool_share(tiers.rarest) for tiers in self.tiers]
        return sum(shares) / len(shares)
