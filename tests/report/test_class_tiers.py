"""Which classes are frequent and which are rare."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fm_al.records.schema import Round
from fm_al.report.class_tiers import Tiers, divided, tiers_of
from fm_al.report.selection import read_runs
from tests.helpers.made_runs import make_run

RISING = [0.3, 0.5, 0.7]


@pytest.mark.parametrize(
    ("counts", "tiers"),
    [
        ([100, 100, 10, 10], {"majority": [0, 1], "minority": [2, 3]}),
        ([10, 100, 9, 98], {"majority": [1, 3], "minority": [0, 2]}),
        ([100, 49], {"majority": [0], "minority": [1]}),
        ([100, 50], {}),  # half is no less than half
        ([7, 7, 7], {}),
        ([5], {}),
        ([0, 0], {}),
        ([100, 0, 10, 100], {"majority": [0, 3], "minority": [2]}),
        ([100, 40, 10], {"head": [0], "medium": [1], "tail": [2]}),
        ([100, 3, 1], {"head": [0], "tail": [1, 2]}),
        # ISIC 2019: a factor of 54, so that bounds are 3,408 and 902.
        (
            [4522, 12875, 3323, 867, 2624, 239, 253, 628],
            {"head": [0, 1], "medium": [2, 4], "tail": [3, 5, 6, 7]},
        ),
    ],
)
def test_classes_are_divided_by_their_counts(
    counts: list[int], tiers: dict[str, list[int]]
) -> None:
    assert divided(counts) == tiers


def test_the_bounds_of_a_long_tail_of_cifar_100_are_near_the_customary_ones() -> None:
    counts = [int(500 * 0.01 ** (number / 99)) for number in range(100)]
    tiers = divided(counts)
    assert [len(classes) for classes in tiers.values()] == [33, 33, 34]
    assert min(counts[number] for number in tiers["head"]) > 108 > 100
    assert max(counts[number] for number in tiers["tail"]) <= 23


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=30))
def test_every_class_of_the_pool_is_in_one_tier_and_no_tier_holds_rarer_ones_than_the_next(
    counts: list[int],
) -> None:
    tiers = divided(counts)
    there = [count for count in counts if count]
    if not tiers:
        assert not there or max(there) <= 2 * min(there)
        return
    numbers = [number for classes in tiers.values() for number in classes]
    assert sorted(numbers) == [number for number, count in enumerate(counts) if count]
    of_tiers = [[counts[number] for number in classes] for classes in tiers.values()]
    for above, below in pairwise(of_tiers):
        assert min(above) > max(below)
    if "head" in tiers:
        most, fewest = max(there), min(there)
        logs = [(math.log(each) - math.log(fewest)) for each in of_tiers[0]]
        assert min(logs) >= 2 / 3 * math.log(most / fewest) - 1e-9


def test_a_tier_counts_its_labels_and_averages_its_accuracies() -> None:
    tiers = Tiers({"majority": [0], "minority": [1, 2]}, [60, 20, 20], "")
    record = Round.model_construct(
        labelled=20, labelled_classes=[15, 2, 3], per_class_accuracy=[0.9, 0.5, 0.1]
    )
    assert tiers.rarest == "minority"
    assert tiers.labels("minority", record) == 5
    assert tiers.share("minority", record) == 0.25
    assert tiers.pool_share("minority") == 0.4
    assert tiers.accuracy("minority", record) == pytest.approx(0.3)
    untested = record.model_copy(update={"per_class_accuracy": [0.9, None, 0.1]})
    assert tiers.accuracy("minority", untested) == pytest.approx(0.1)
    none = record.model_copy(update={"per_class_accuracy": [0.9, None, None]})
    assert math.isnan(tiers.accuracy("minority", none))


def test_runs_have_tiers_if_their_records_count_the_pool(tmp_path: Path) -> None:
    make_run(tmp_path / "new", "random", 0, RISING, pool=[500, 500, 50])
    make_run(tmp_path / "new", "badge", 0, RISING, pool=[500, 500, 50])
    tiers = tiers_of(read_runs(tmp_path / "new"))
    assert tiers is not None
    assert tiers.of == {"majority": [0, 1], "minority": [2]}
    assert tiers.definition == (
        "minority: classes with less than half of the largest class's images in the pool; "
        "majority: plane, car (500 pool images each); minority: bird (50 pool images)"
    )
    make_run(tmp_path / "new", "bait", 0, RISING)
    assert tiers_of(read_runs(tmp_path / "new")) is None, "a record of an earlier version"
    make_run(tmp_path / "level", "random", 0, RISING, pool=[500, 400, 300])
    assert tiers_of(read_runs(tmp_path / "level")) is None


def test_groups_with_other_pools_have_tiers_only_if_these_are_the_same(tmp_path: Path) -> None:
    for ratio in (10, 20):
        pool = [1000, 1000, 1000 // ratio]
        imbalance = {"ratio": ratio}
        make_run(
            tmp_path / "alike", "random", 0, RISING, pool=pool, imbalance=imbalance,
            overrides=f"imbalance.ratio={ratio}",
        )  # fmt: skip
        make_run(
            tmp_path / "other", "random", 0, RISING, pool=pool if ratio == 10 else pool[::-1],
            imbalance=imbalance, overrides=f"imbalance.ratio={ratio}",
        )  # fmt: skip
    alike = tiers_of(read_runs(tmp_path / "alike", by=["imbalance.ratio"]))
    assert alike is not None
    assert alike.of == {"majority": [0, 1], "minority": [2]}
    assert alike.pool == [1000, 1000, 75]
    assert tiers_of(read_runs(tmp_path / "other", by=["imbalance.ratio"])) is None
