"""What the report says about the claim of the paper."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fm_al.report.claim import claim, claim_together
from fm_al.report.selection import read_runs
from tests.helpers.made_runs import make_run


def test_the_claim_is_what_the_statistics_say(tmp_path: Path) -> None:
    for seed in range(5):
        wave = 0.01 * (-1) ** (seed // 2)
        make_run(tmp_path, "fishermask", seed, [0.3, 0.6 + wave / 3, 0.8 + wave])
        make_run(tmp_path, "random", seed, [0.3, 0.5 + wave / 2, 0.6])
        make_run(tmp_path, "badge", seed, [0.3, 0.7 - wave / 2, 0.9])
        make_run(tmp_path, "entropy", seed, [0.3, 0.6 - wave, 0.8])
    make_run(tmp_path, "bait", 0, [0.3, 0.6, 0.8])
    published = {
        "fishermask": {30: 0.7, 50: 0.9}, "entropy": {30: 0.6, 50: 0.8}, "random": {30: 0.5},
        "badge": {30: 0.4}, "margin": {50: 0.3}, "coreset": {50: 0.2},
    }  # fmt: skip
    rank, area, end, order = claim(read_runs(tmp_path), published)
    assert rank.startswith("By the mean area under the accuracy curve, FisherMask is second of 4")
    assert rank.endswith("; too few seeds to rank bait.")
    assert "FisherMask is significantly better than random, as claimed;" in area
    assert area.startswith("By the area under the accuracy curve, FisherMask is ")
    assert "is significantly worse than badge;" in area
    assert "does not differ significantly from entropy;" in area
    assert "cannot be compared with bait because of too few seeds (" in area
    assert end.startswith("At 50 labels, FisherMask is significantly better than random")
    assert order == (
        "At 30 labels, the published order is fishermask, entropy, random, badge; the measured "
        "order is badge, fishermask, entropy, random (Spearman's rank correlation -0.20)."
    )
    assert claim(read_runs(tmp_path, {"strategy": ["badge", "random"]}), published) == []


def test_of_what_nothing_is_claimed_nothing_is_as_claimed(tmp_path: Path) -> None:
    for seed in range(5):
        wave = 0.01 * (-1) ** (seed // 2)
        make_run(tmp_path, "fishermask", seed, [0.3, 0.8 + wave])
        for strategy in ("badge", "margin"):
            make_run(tmp_path, strategy, seed, [0.3, 0.6 + wave / 2])
    _, area, _ = claim(read_runs(tmp_path), {})
    better = "better than margin, as claimed, and than badge, which the paper does not claim ("
    assert better in area


def test_what_holds_of_the_claim_over_settings_and_what_does_not(tmp_path: Path) -> None:
    made = {"ahead": 0.2, "behind": -0.2, "level": 0.0}
    for number, (experiment, lead) in enumerate(made.items()):
        imbalance = {"_target_": "fm_al.data.imbalance.none.NoImbalance"} if number == 2 else None
        for seed in range(5):
            wave = 0.01 * (-1) ** (seed // 2)
            named: Any = {"experiment": experiment, "imbalance": imbalance}
            make_run(tmp_path, "fishermask", seed, [0.3, 0.5 + lead + wave], **named)
            make_run(tmp_path, "random", seed, [0.3, 0.5 - wave / 3 * (-1) ** seed], **named)
            make_run(tmp_path, "badge", seed, [0.3, 0.4 + wave / 2], **named)
            make_run(tmp_path, "bait", seed, [0.3, 0.9 - wave / 2], **named)
    runs = read_runs(tmp_path)
    holds, fails, of_imbalance = claim_together({name: runs.of(name) for name in runs.settings})
    assert (
        "What holds: FisherMask is significantly better than random in 1 of 3 settings (" in holds
    )
    assert "badge" not in holds + fails
    assert "it is significantly better than bait in none; " in fails
    assert "it is significantly worse than bait in 3 of 3 and random in 1 of 3 settings; " in fails
    assert fails.endswith("it is first in 0 of 3 settings, and fourth of 4 in behind.")
    assert of_imbalance == (
        "FisherMask is significantly better than them in 1 of 4 comparisons with imbalanced "
        "classes and 0 of 2 comparisons with balanced classes."
    )
    _, _, of_imbalance = claim_together({name: runs.of(name) for name in ("ahead", "behind")})
    assert of_imbalance.endswith("cannot be assessed: all settings are imbalanced.")
    assert claim_together({"ahead": read_runs(tmp_path, {"strategy": ["badge", "bait"]})}) == []


def test_fishermask_is_not_better_by_a_difference_without_spread(tmp_path: Path) -> None:
    for seed in range(3):
        make_run(tmp_path, "random", seed, [0.3, 0.5 + seed / 100])
        make_run(tmp_path, "fishermask", seed, [0.3, 0.6 + seed / 100])
    _, area, _ = claim(read_runs(tmp_path), {})
    assert area == (
        "By the area under the accuracy curve, FisherMask cannot be tested against random: their "
        "difference is the same for every seed."
    )
    assert claim_together({"trial": read_runs(tmp_path)}) == []


def test_strategies_that_are_level_are_called_so(tmp_path: Path) -> None:
    for seed in range(3):
        make_run(tmp_path, "random", seed, [0.3, 0.5 + seed / 100])
        make_run(tmp_path, "fishermask", seed, [0.3, 0.5 + seed / 100])
    place, *_ = claim(read_runs(tmp_path), {})
    assert "FisherMask is first of 2 strategies: 0.405, level with random with 0.405." in place
