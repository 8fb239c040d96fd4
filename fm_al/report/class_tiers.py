"""Frequent and rare classes: majority and minority, or head, medium and tail.

The tiers follow from the numbers of images of each class in the pool, labelled or not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fm_al.records.schema import Round
from fm_al.report.runs import Runs

LEVEL = 2  # counts within this factor are level
MOST_NAMED = 6  # classes of a tier


@dataclass(frozen=True)
class Tiers:
    """The classes by their frequency in the pool.

    Attributes:
        of: Numbers of the classes in each tier, the most frequent tier first.
        pool: Images of each class in the pool, mean over runs.
        definition: Which classes are in which tier, in words.
    """

    of: Mapping[str, Sequence[int]]
    pool: Sequence[float]
    definition: str

    @property
    def rarest(self) -> str:
        """Name of the tier of the rarest classes."""
        return [*self.of][-1]

    def accuracy(self, tier: str, record: Round) -> float:
        """Mean over the tier's classes of the accuracy on that class, without classes that have no
        test images; NaN if none has."""
        found = [record.per_class_accuracy[number] for number in self.of[tier]]
        known = [each for each in found if each is not None]
        return float(np.mean(known)) if known else float("nan")

    def labels(self, tier: str, record: Round) -> int:
        """Labelled images of the tier's classes."""
        return sum(record.labelled_classes[number] for number in self.of[tier])

    def share(self, tier: str, record: Round) -> float:
        """Fraction of the labelled images that are of the tier's classes."""
        return self.labels(tier, record) / record.labelled

    def pool_share(self, tier: str) -> float:
        """Fraction of the pool's images that are of the tier's classes."""
        return sum(self.pool[number] for number in self.of[tier]) / sum(self.pool)


def counts_classes(runs: Runs) -> bool:
    """Whether the records of one setting count the classes of the pool and of the labels, and these
    are the same classes."""
    return runs.class_names is not None and all(
        len(counts) == len(runs.class_names)
        for run in runs.runs
        for counts in (run.provenance.pool_counts, *(each.labelled_classes for each in run.rounds))
    )


def pool_counts(runs: Runs) -> list[float]:
    """Images of each class in the pool, mean over runs."""
    counts = np.array([run.provenance.pool_counts for run in runs.runs], float)
    return [float(each) for each in counts.mean(axis=0)]


def tiers_of(runs: Runs) -> Tiers | None:
    """Divide the classes of one setting by their frequency; see `divided`.

    Returns:
        The tiers; None if the classes are level, or records lack their counts, or groups have
        other pools.
    """
    if not counts_classes(runs):
        return None
    sums: defaultdict[str, np.ndarray] = defaultdict(lambda: np.zeros(1, int))
    for run in runs.runs:
        sums[run.group] = sums[run.group] + np.array(run.provenance.pool_counts)
    first, *others = [divided([int(each) for each in counts]) for counts in sums.values()]
    if not first or any(other != first for other in others):
        return None
    pool, names = pool_counts(runs), runs.class_names
    assert names is not None
    return Tiers(first, pool, _definition(first, pool, names))


def divided(counts: Sequence[int]) -> dict[str, list[int]]:
    """Divide classes by their numbers of images; classes without any are in no tier.

    Counts are level if the largest is at most twice the smallest. If those below half of the
    largest are level, their classes are `minority` and the others `majority`. Else the range from
    the largest count to the smallest is divided into three parts that are equal on a log scale,
    `head`, `medium` and `tail`: counts above max^(2/3) min^(1/3), in between, and below
    max^(1/3) min^(2/3). For CIFAR-100 with a long tail of factor 100 these bounds are 108 and 23,
    close to the customary 100 and 20 (Liu et al. 2019).

    Returns:
        Numbers of the classes by tier, the most frequent first; no tier is empty. Empty if all
        counts are level.
    """
    there = [number for number, count in enumerate(counts) if count]
    if not there:
        return {}
    most, fewest = max(counts), min(counts[number] for number in there)
    rare = [number for number in there if LEVEL * counts[number] < most]
    if not rare:
        return {}
    if max(counts[number] for number in rare) <= LEVEL * fewest:
        tiers = {"majority": [each for each in there if each not in rare], "minority": rare}
    else:
        # Cubes, so that counts are compared as integers.
        tiers = {
            "head": [each for each in there if counts[each] ** 3 > most**2 * fewest],
            "tail": [each for each in there if counts[each] ** 3 < most * fewest**2],
        }
        medium = [each for each in there if each not in tiers["head"] + tiers["tail"]]
        tiers = {"head": tiers["head"], "medium": medium, "tail": tiers["tail"]}
    return {name: classes for name, classes in tiers.items() if classes}


def _definition(
    tiers: Mapping[str, Sequence[int]], pool: Sequence[float], names: Sequence[str]
) -> str:
    """Which classes are in which tier, in words."""

    def named(tier: str) -> str:
        classes = [names[number] for number in tiers[tier]]
        few = len(classes) <= MOST_NAMED
        sizes = [pool[number] for number in tiers[tier]]
        least, most = f"{min(sizes):,.0f}", f"{max(sizes):,.0f}"
        images = least if least == most else f"{least} to {most}"
        which = ", ".join(classes) if few else f"{len(classes)} classes"
        return f"{tier}: {which} ({images} pool images{' each' * (len(classes) > 1)})"

    how = (
        "minority: classes with less than half of the largest class's images in the pool"
        if "minority" in tiers
        else "head, medium, tail: classes by their images in the pool, whose range is divided into "
        "three equal parts on a log scale"
    )
    return "; ".join([how, *map(named, tiers)])
