"""The verdict follows from the records: other records, other answers."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest

from fm_al.errors import ConfigError
from fm_al.report.variants import PUBLISHED
from fm_al.report.verdict.claims import (
    headline,
    outperforms,
    published_pair,
    saves_labels,
    under_imbalance,
)
from fm_al.report.verdict.command import parser, verdict, verdict_from
from fm_al.report.verdict.effects import effects
from fm_al.report.verdict.families import FAMILIES, OTHER, family_of
from fm_al.report.verdict.page import OTHER_PROTOCOL, verdict_of
from fm_al.report.verdict.questions import ablations, regularization, rivals, whole_network
from fm_al.report.verdict.records import FISHERMASK, areas, opponents, read_records, settings_of
from fm_al.report.verdict.standings import Standings
from fm_al.report.verdict.words import ordinal, spoken
from tests.helpers.command_line import ROOT
from tests.helpers.made_runs import make_run
from tests.report.verdict.made_records import BAIT, FISHER, LEVELS, OF_VARIANT, make_records

NOTE = "images were read from files"
WEAK = {PUBLISHED: 0.52, "rescaled": 0.51, "repaired": 0.51}


@pytest.fixture(scope="module")
def strong(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_records(tmp_path_factory.mktemp("strong"), balanced=0.8)


@pytest.fixture(scope="module")
def weak(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weak")
    return make_records(folder, fisher=WEAK, bait=FISHER, imbalance_made=0.9, balanced=0.5)


def test_claims_hold_where_fishermask_is_better(strong: Path) -> None:
    records = read_records(strong)
    assert headline(records).startswith("The claim holds: over three imbalanced data sets together")
    found = outperforms(records)
    assert found.answer == "Holds."
    assert found.evidence.count("significantly better than all six others") == 4
    imbalance = under_imbalance(records)
    assert imbalance.answer == "Holds."
    assert imbalance.evidence.endswith(
        "With three balanced classes of Fashion-MNIST, to 150 labels, it is significantly better "
        "than both others."
    )
    assert saves_labels(records).answer == "Holds."


def test_claims_do_not_hold_where_it_is_not(weak: Path) -> None:
    records = read_records(weak)
    assert headline(records).startswith("The claim does not hold: over three")
    assert headline(records).endswith(
        "is significantly better than random only. By mean area it is "
        "6th on CIFAR-10, 6th on Fashion-MNIST and 6th on MNIST, of seven strategies."
    )
    found = outperforms(records)
    assert found.answer == "Does not hold."
    assert found.evidence.count("significantly worse than BAIT as published") == 4
    assert saves_labels(records).answer != "Holds."
    mask = whole_network(records)
    assert mask.answer == "No: it is worse as published, rescaled and repaired."
    assert "FisherMask hurt" not in regularization(records).answer
    assert "All repairs: help BAIT and hurt FisherMask." in regularization(records).answer


def test_a_pair_has_one_verdict(strong: Path) -> None:
    """FisherMask and BAIT as published are an opponents' pair, and the question of the mask."""
    records = read_records(strong)
    pair = published_pair(records)
    frames = areas(settings_of(records.full_length))
    opponents_pair = effects(frames, FISHERMASK, opponents(records.full_length))[0]
    assert (pair.second, pair) == ("bait (as published)", opponents_pair)
    assert f"{pair} as published" in whole_network(records).evidence
    assert f"{pair} over BAIT as published" in outperforms(records).evidence


def test_the_mask_and_regularization_are_judged_by_paired_differences(strong: Path) -> None:
    records = read_records(strong)
    mask = whole_network(records)
    assert mask.answer == "Yes."
    lead = (FISHER[PUBLISHED] - BAIT[PUBLISHED]) / 2
    assert f"is +{lead:.2f}"[:-1] in mask.evidence
    assert "with the random one (+0.05" in mask.evidence
    assert " with BAIT, which has none." in mask.evidence
    assert regularization(records).answer.endswith("All repairs: help BAIT and FisherMask.")
    sentences = ablations(records)
    assert sentences[0].startswith("mask_fraction: no value differs significantly from 0.003; 4 ")
    assert sentences[1].startswith("mask_kind: random is better than standard by 0.05")
    assert sentences[-1].startswith("imbalance_ratio: the largest area is that of ")
    assert sentences[-1].endswith("FisherMask at 20:1 and FisherMask at 50:1.")


def test_strategies_made_for_imbalance_may_be_better(strong: Path, weak: Path) -> None:
    assert rivals(Standings(settings_of(read_records(strong).rivals))).answer == "Not shown."
    found = rivals(Standings(settings_of(read_records(weak).rivals)))
    assert found.answer == "Yes."
    assert "GALAXY has the largest mean area" in found.evidence


def test_standings_are_over_the_seeds_that_all_have(strong: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(strong, tmp_path / "records")
    (seed,) = folder.glob("rivals/imbalanced_mnist/*/*/galaxy/seed3")
    shutil.rmtree(seed)
    standings = Standings(settings_of(read_records(folder).rivals))
    assert [len(frame) for frame in standings.frames] == [4, 4, 3]
    assert standings.names == ["CIFAR-10", "Fashion-MNIST", "MNIST"]
    assert standings.groups[0] == "fishermask (repaired)"
    assert standings.groups[-1] == "random"
    assert standings.places("random") == "12th on CIFAR-10, 12th on Fashion-MNIST and 12th on MNIST"
    assert standings.place("random") == len(standings.groups) == len(LEVELS) + 7
    assert len(standings.ranks.settings) == 11
    assert standings.ranks.critical_difference is not None
    (entropy,) = (each for each in standings.against("random") if each.second == "entropy")
    assert entropy.difference == pytest.approx(-0.1, abs=0.01)


@pytest.mark.parametrize(
    ("figure", "is_the_papers"),
    [
        (([2600] * 3, 500, 500), True),
        (([2600] * 10, 500, 500), False),
        (([2600] * 3, 250, 500), False),
        (([2600] * 3, 500, 250), False),
    ],
    ids=str,
)
def test_published_numbers_are_beside_balanced_runs_with_the_papers_pool_and_budget(
    strong: Path, monkeypatch: pytest.MonkeyPatch, figure: tuple[Any, ...], is_the_papers: bool
) -> None:
    monkeypatch.setattr("fm_al.report.verdict.page.BALANCED_FIGURE", figure)
    found = verdict_of(read_records(strong), "", "")
    section = found.page.partition("## Without imbalance")[2].partition("## Ablations")[0]
    assert section.count(OTHER_PROTOCOL) == 2 - is_the_papers
    for shown in (section, found.long_tables["balanced_cifar10_jpeg"]):
        assert ("| fishermask (as published) | published | 0.317" in shown) == is_the_papers
    assert "| published |" not in found.long_tables["balanced_fashion_mnist"]


def test_balanced_runs_of_other_data_sets_are_not_left_out_of_a_page(strong: Path) -> None:
    cifar10, fashion_mnist = read_records(strong).balanced
    assert cifar10.left_out == fashion_mnist.left_out == []


def test_balanced_runs_without_a_round_are_left_out(strong: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(strong, tmp_path / "records")
    (begun,) = folder.glob("balanced/balanced/cifar10_jpeg-step/*/random/seed0")
    (begun / "result.json").unlink()
    (begun / "rounds.jsonl").unlink()
    cifar10, _ = read_records(folder).balanced
    assert [run.seed for run in cifar10.runs if run.group == "random"] == [1, 2, 3]
    assert begun in [each.directory for each in cifar10.left_out]


@pytest.mark.parametrize("dataset", ["cifar10", "cifar10_jpeg"])
def test_two_balanced_settings_of_a_data_set_are_refused(
    strong: Path, tmp_path: Path, dataset: str
) -> None:
    folder = shutil.copytree(strong, tmp_path / "records")
    for strategy in ("fishermask", "random"):
        options = OF_VARIANT[PUBLISHED] if strategy == "fishermask" else {}
        make_run(
            folder / "balanced", strategy, 0, [0.3, 0.5], experiment="other", dataset=dataset,
            options=options, imbalance={"ratio": 3}, pool=[500] * 3, initial=500, per_round=500,
        )  # fmt: skip
    with pytest.raises(ConfigError, match=r"balanced: two settings of CIFAR-10: \S+ and \S+$"):
        read_records(folder)


def test_the_page_its_tables_and_its_figures_are_written(
    strong: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    verdict([str(strong), "--page", "PAGE.md", "--out", "out/long", "--note", NOTE])
    printed = capsys.readouterr().out
    assert "By mean area it is 1st on CIFAR-10" in printed
    assert "verdict: PAGE.md" in printed
    page = Path("PAGE.md").read_text()
    links = [part.partition(")")[0] for part in page.split("](")[1:]]
    assert len(links) == 16
    assert all(Path(link).is_file() for link in links), links
    order = ["## Verdict", "## All strategies", "## The paper's figures", "## Ablations"]
    assert sorted(order, key=page.index) == order
    of_fashion = (
        "](out/long/balanced_fashion_mnist.md): 16 runs, 4 groups, seeds 0, 1, 2, 3; to 150 labels"
    )
    assert of_fashion in page
    assert "compared up to 150 labels: 16 of 16 runs go further, 1 is unfinished" in page
    of_cifar = (
        "](out/long/balanced_cifar10_jpeg.md): 8 runs, 2 groups, seeds 0, 1, 2, 3; to 4,500 labels"
    )
    assert of_cifar in page
    assert page.count("compared up to") == 1
    assert f"\n- {NOTE}\n" in page
    (command,) = re.findall(r"^Written by `fm-al-verdict (.*)`\.$", page, re.MULTILINE)
    again = verdict_from(parser().parse_args(shlex.split(command)))
    assert again.page == page
    assert set(again.long_tables) == {path.stem for path in Path("out/long").glob("*.md")}
    Path("out/long/mine.md").touch()
    with pytest.raises(ConfigError, match=r"--out out/long: has files .* out/long/mine\.md"):
        verdict(shlex.split(command))


@pytest.mark.parametrize("part", ["full_length", "rivals", "balanced", "ablations", "ratios"])
def test_a_missing_part_is_named(strong: Path, tmp_path: Path, part: str) -> None:
    folder = shutil.copytree(strong, tmp_path / "records")
    shutil.rmtree(folder / part)
    with pytest.raises(ConfigError, match=f"{part}: no such folder; expected full_length"):
        read_records(folder)
    (folder / part).mkdir()
    with pytest.raises(ConfigError, match=part):
        read_records(folder)


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("full_length/*/*/*/bait/rescaled", r"full_length: .* has no runs of bait \(rescaled\)"),
        ("ratios/*/*/*/*/ratio=[15]*", "ratios: needs settings of different ratios"),
        ("ablations/*/*/*/*/oversampling=0.5", r"needs runs of two values of strategy\.oversampl"),
    ],
)
def test_too_little_to_compare_is_named(
    strong: Path, tmp_path: Path, gone: str, message: str
) -> None:
    folder = shutil.copytree(strong, tmp_path / "records")
    for runs in folder.glob(gone):
        shutil.rmtree(runs)
    with pytest.raises(ConfigError, match=message):
        read_records(folder)


def test_rivals_are_imbalanced_and_of_one_length(strong: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(strong, tmp_path / "records")
    place = {"experiment": "other", "dataset": "svhn", "pool": (5000, 250, 250)}
    for strategy in ("fishermask", "random"):
        options = OF_VARIANT[PUBLISHED] if strategy == "fishermask" else {}
        make_run(folder / "rivals", strategy, 0, [0.3, 0.5], options=options, **place)
    with pytest.raises(ConfigError, match="settings end at 170 and 30 labels"):
        read_records(folder)
    shutil.rmtree(folder / "rivals")
    shutil.copytree(folder / "balanced" / "balanced", folder / "rivals" / "balanced")
    with pytest.raises(ConfigError, match=r"no runs of|no rare classes"):
        read_records(folder)


def test_a_page_needs_a_folder(strong: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--page .*nowhere/PAGE\.md: must be a file"):
        verdict([str(strong), f"--page={tmp_path}/nowhere/PAGE.md", f"--out={tmp_path}"])


def test_strategies_have_ideas_and_names() -> None:
    strategies = {path.stem for path in (ROOT / "conf" / "strategy").glob("*.yaml")}
    assert {name for names in FAMILIES.values() for name in names} <= strategies
    assert family_of("mine (option=1)") == OTHER
    assert spoken("bait (repaired)") == "BAIT repaired"
    assert spoken("balanced (inner=badge)") == "balanced BADGE"
    assert [ordinal(n) for n in (1, 2, 3, 4, 11, 12, 21, 22, 101)] == [
        *("1st", "2nd", "3rd", "4th", "11th", "12th", "21st", "22nd", "101st")
    ]
