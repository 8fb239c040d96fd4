"""Names of BAIT and FisherMask that are run in several variants, and what is said of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from fm_al.report.claim import claim, claim_together
from fm_al.report.published import published
from fm_al.report.selection import read_runs
from fm_al.report.tables import beside_published
from fm_al.report.variants import OPTIONS, VARIANTS, gathered, group_of_paper, parted
from tests.conftest import CONF
from tests.helpers.made_runs import make_run
from tests.report.left_out import RISING
from tests.report.made_reports import markdown_of

OPTIONS_OF = {
    variant: dict(zip(OPTIONS, values, strict=True)) for variant, values in VARIANTS.items()
}
PUBLISHED, RESCALED, REPAIRED = OPTIONS_OF.values()


def make(folder: Path, strategy: str, *variants: dict[str, Any], **named: Any) -> None:
    """A run of each variant, in a folder of its own."""
    for number, options in enumerate(variants):
        overrides = f"strategy.number={number}"
        make_run(folder, strategy, 0, RISING, options=options, overrides=overrides, **named)


def groups(folder: Path) -> list[str]:
    return read_runs(folder).groups


@pytest.mark.parametrize("strategy", ["bait", "fishermask"])
@pytest.mark.parametrize(
    ("variant", "file"),
    [("as published", "protocol/paper/{}.yaml"), ("repaired", "strategy/{}.yaml")],
)
def test_a_variant_is_what_its_file_sets(strategy: str, variant: str, file: str) -> None:
    composed = yaml.safe_load((CONF / file.format(strategy)).read_text())
    options = composed.get("strategy", composed)
    assert {name: options[name] for name in OPTIONS} == OPTIONS_OF[variant]


def test_groups_that_differ_in_the_variant_alone_are_named_by_it(tmp_path: Path) -> None:
    make(tmp_path, "fishermask", PUBLISHED, RESCALED | {"temperature": 1.0}, REPAIRED)
    make(tmp_path, "bait", REPAIRED, PUBLISHED)
    make(tmp_path, "margin", {})
    assert groups(tmp_path) == [
        "bait (as published)", "bait (repaired)",
        "fishermask (as published)", "fishermask (repaired)", "fishermask (rescaled)", "margin",
    ]  # fmt: skip


def test_variants_of_a_strategy_within_another_are_named_as_well(tmp_path: Path) -> None:
    make(tmp_path, "fishermask_entropy", {"fishermask": PUBLISHED}, {"fishermask": REPAIRED})
    assert groups(tmp_path) == [
        "fishermask_entropy (as published)",
        "fishermask_entropy (repaired)",
    ]


def test_one_variant_alone_is_not_named(tmp_path: Path) -> None:
    make(tmp_path, "fishermask", REPAIRED)
    make(tmp_path, "bait", PUBLISHED)
    assert groups(tmp_path) == ["bait", "fishermask"]


@pytest.mark.parametrize(
    "other",
    [
        RESCALED | {"oversampling": 1},
        RESCALED | {"regularization": 0.1},
        PUBLISHED | {"regularization": 1.0},
    ],
    ids=["another option", "no variant", "twice the same"],
)
def test_groups_that_differ_otherwise_are_named_by_their_options(tmp_path: Path, other) -> None:
    make(tmp_path, "bait", PUBLISHED, REPAIRED, other)
    named = groups(tmp_path)
    assert len(named) == 3
    assert all("=" in each for each in named)


def test_a_run_from_before_an_option_is_named_by_what_it_did(tmp_path: Path) -> None:
    make(tmp_path, "bait", {"regularization": 1, "pool_fisher": "pool"}, REPAIRED)
    assert groups(tmp_path) == ["bait (as published)", "bait (repaired)"]


def test_a_strategy_is_named_by_its_variant_in_all_settings_or_in_none(tmp_path: Path) -> None:
    make(tmp_path, "bait", PUBLISHED, REPAIRED, experiment="both")
    make(tmp_path, "bait", REPAIRED, experiment="one")
    make(tmp_path, "bait", PUBLISHED | {"regularization": 0.1}, experiment="another")
    make(tmp_path, "fishermask", REPAIRED, experiment="one")
    runs = read_runs(tmp_path)
    assert runs.of("both").groups == ["bait (as published)", "bait (repaired)"]
    assert runs.of("one").groups == ["bait (repaired)", "fishermask"]
    assert runs.of("another").groups == ["bait"]


def test_names_are_taken_apart_and_gathered() -> None:
    assert parted("bait (rescaled)") == ("bait", "rescaled")
    assert parted("bait (regularization=1)") == ("bait (regularization=1)", None)
    names = ["badge", "bait (as published)", "bait (repaired)", "fishermask (rescaled)"]
    assert gathered(names) == ["badge", "bait (as published and repaired)", "fishermask (rescaled)"]
    assert group_of_paper("bait", names) == "bait (as published)"
    assert group_of_paper("fishermask", names) == "fishermask"


def make_compared(folder: Path, experiment: str) -> None:
    """FisherMask as published is ahead of BAIT as published, and behind all that is repaired."""
    made = {
        ("fishermask", "as published"): 0.7, ("fishermask", "repaired"): 0.9,
        ("bait", "as published"): 0.6, ("bait", "repaired"): 0.8,
    }  # fmt: skip
    named: dict[str, Any] = {"experiment": experiment, "dataset": "cifar10", "initial": 15}
    for number, ((strategy, variant), accuracy) in enumerate(made.items()):
        for seed in range(5):
            wave = 0.01 * (-1) ** (seed // 2) / (1 + number)
            make_run(
                folder, strategy, seed, [0.3, accuracy + wave], options=OPTIONS_OF[variant],
                overrides=f"strategy.number={number}", per_round=70, **named,
            )  # fmt: skip
    for seed in range(5):
        wave = 0.001 * (-1) ** (seed // 2)
        make_run(folder, "random", seed, [0.3, 0.5 + wave], per_round=70, **named)


def test_the_claim_is_of_what_was_published(tmp_path: Path) -> None:
    make_compared(tmp_path, "imbalanced_cifar10")
    of_paper = {"fishermask": {85: 0.5}, "bait": {85: 0.6}, "random": {85: 0.4}}
    shown = {"fishermask (as published)": 0, "bait (as published)": 0, "random": 0}
    runs = read_runs(tmp_path)
    beside = {group: of_paper[parted(group)[0]] for group in shown}
    place, area, _, order = claim(runs, beside)
    assert place.startswith(
        "By the mean area under the accuracy curve, FisherMask as published is third of 5 "
        "strategies and variants: 0.501, behind first-placed fishermask (repaired) with "
    )
    assert "is significantly better than bait (as published) and random, as claimed; " in area
    assert "significantly worse than bait (repaired) and fishermask (repaired) (paired" in area
    assert order.startswith(
        "At 85 labels, the published order is bait, fishermask, random; the measured order is "
        "fishermask (as published), bait (as published), random ("
    )
    holds, *_ = claim_together({"one": runs, "other": runs})
    assert (
        "What holds: FisherMask as published is significantly better than bait (as published) in "
        "2 of 2 and random in 2 of 2 settings ("
    ) in holds


def test_published_numbers_are_beside_what_was_published(tmp_path: Path, monkeypatch) -> None:
    make_compared(tmp_path, "imbalanced_cifar10")
    drawn = []
    monkeypatch.setattr(
        "fm_al.report.report.figures_of_setting", lambda *given: drawn.append(given[-1]) or []
    )
    written = markdown_of(tmp_path, with_published=True)
    assert "| bait (as published) | published | " in written
    assert "| fishermask (as published) | published | " in written
    assert "(repaired) | published | " not in written
    (beside,) = drawn
    assert (
        beside["fishermask (as published)"]
        == published("imbalanced_cifar10", "cifar10")["fishermask"]
    )
    assert "fishermask" not in beside
    assert "FisherMask as published is third of 5 strategies and variants" in written
    assert len(beside_published(read_runs(tmp_path), "", beside)[0].rows) == 6
