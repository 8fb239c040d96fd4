"""What the report points out first."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fm_al.report.notices import capped_rounds
from fm_al.report.selection import read_runs
from fm_al.report.tables import tables_of_setting
from tests.helpers.made_runs import make_run
from tests.report.made_reports import markdown_of, report


@pytest.mark.usefixtures("without_figures")
def test_one_run_alone_is_shown_and_nothing_is_tested(tmp_path: Path) -> None:
    make_run(tmp_path, "random", 0, [0.3, 0.5])
    written = markdown_of(tmp_path)
    assert "too few seeds to test random: a test needs 3" in written
    assert "| random | 0.300 | 0.500 |" in written
    assert "**" not in written
    assert "Pairwise" not in written


@pytest.mark.usefixtures("without_figures")
def test_what_a_setting_lacks_of_the_others_is_said_and_one_seed_is_not_ranked(
    tmp_path: Path,
) -> None:
    for strategy in ("fishermask", "badge", "random"):
        for seed in range(3):
            make_run(tmp_path, strategy, seed, [0.3, 0.5], experiment="whole")
    make_run(tmp_path, "fishermask", 0, [0.3, 0.5], experiment="begun")
    make_run(tmp_path, "random", 0, [0.3, 0.4], experiment="begun")
    written = markdown_of(tmp_path)
    assert "- begun: no runs of badge, which other settings have\n" in written
    of_begun = written.partition("\n## begun\n")[2].partition("\n## ")[0]
    assert "By the mean area" not in of_begun
    assert "FisherMask cannot be compared with random because of too few seeds." in of_begun
    assert "### Mean ranks" not in written


@pytest.mark.usefixtures("without_figures")
def test_what_equals_accuracy_is_said_and_not_shown_again(tmp_path: Path) -> None:
    for seed in range(3):
        run = make_run(tmp_path, "random", seed, [0.3, 0.5]) / "rounds.jsonl"
        rounds = [json.loads(line) for line in run.read_text().splitlines()]
        same = [each | {"balanced_accuracy": each["accuracy"]} for each in rounds]
        run.write_text("".join(f"{json.dumps(each)}\n" for each in same))
    written = markdown_of(tmp_path)
    assert (
        "- trial: balanced accuracy is left out: it equals accuracy, since all classes have "
        in written
    )
    assert "### Accuracy by number of labels" in written
    assert "### Macro-F1 by number of labels" in written
    assert "### Balanced accuracy" not in written


@pytest.mark.usefixtures("without_figures")
def test_pairs_that_started_from_different_labels_are_pointed_out(tmp_path: Path) -> None:
    for ratio in (2, 10):
        for seed in range(3):
            make_run(
                tmp_path / f"{ratio}", "random", seed, [0.3, 0.5 + ratio / 100],
                imbalance={"ratio": ratio},
            )  # fmt: skip
    done = report(tmp_path, ".", "--by", "imbalance.ratio")
    assert (
        "trial: runs of one seed start from different labels, because imbalance.ratio decides"
        in done.stdout
    )


@pytest.mark.usefixtures("without_figures")
def test_without_spread_nothing_is_significant_and_the_report_says_why(tmp_path: Path) -> None:
    """badge is ahead of random by the same for every seed, fishermask of both by varied steps."""
    for seed in range(3):
        make_run(tmp_path, "random", seed, [0.3, 0.5 + seed / 100, 0.6 + seed / 100])
        make_run(tmp_path, "badge", seed, [0.3, 0.6 + seed / 100, 0.7 + seed / 100])
        make_run(tmp_path, "fishermask", seed, [0.3, 0.75 + seed / 70, 0.8 + seed / 90])
    written = markdown_of(tmp_path)
    assert "| badge - random | +0.1000 | - | - | - | - | - | - | 3 |" in written
    for what in ("accuracy at 50 labels", "area under the accuracy curve"):
        assert (
            f"- trial: {what}: no interval and no test for badge - random, because the difference "
            "is the same for every seed\n"
        ) in written
    assert "Holm: corrected for 2 t-tests" in written
    assert "| badge | 0 | 0 | 1 | 1 |" in written, "wins, ties, losses, not tested"
    assert "not tested: too few seeds in common, or the same difference for every seed" in written
    assert "2 times the difference of a pair was the same for every seed" in written
    assert "a t-test needs at least" not in written
    alone = [read_runs(tmp_path, {"strategy": ["badge", "random"]})]
    tables = {table.name: table for table in tables_of_setting(*alone, "", [])}
    assert [cell.mark for cell in tables["accuracy"].rows[1]] == ["", "", "†", "†"]
    assert (
        "†: cannot be tested against the best (their difference is the same for every seed)"
        in tables["accuracy"].notes
    )


@pytest.mark.usefixtures("without_figures")
@pytest.mark.parametrize("images", [297, 100_000])
def test_accuracies_that_are_coarse_for_their_tests_are_pointed_out(
    tmp_path: Path, images: int
) -> None:
    for seed in range(3):
        for strategy, step in (("badge", 1 + seed % 2), ("random", 0)):
            directory = make_run(tmp_path, strategy, seed, [0.3, 0.5 + step / 297])
            result = json.loads((directory / "result.json").read_text())
            result["confusion_matrix"] = [[images]]
            (directory / "result.json").write_text(json.dumps(result))
    said = (
        "- trial: accuracy at 30 labels: accuracy is too coarse to test badge - random well: over "
        "seeds the difference varies by less than 2 of 297 test images (one is 0.0034)\n"
    )
    assert (said in markdown_of(tmp_path)) == (images == 297)


def test_rounds_that_were_trained_up_to_the_cap_are_counted(tmp_path: Path) -> None:
    for seed in range(3):
        run = make_run(tmp_path, "random", seed, [0.3, 0.5, 0.6])
        assert capped_rounds(read_runs(tmp_path)) == []
    for directory, capped in ((run, [1]), (run.parent / "seed0", [0, 1])):
        lines = [json.loads(line) for line in (directory / "rounds.jsonl").read_text().splitlines()]
        for number in capped:
            lines[number]["epoch_cap_hit"] = True
        text = "".join(f"{json.dumps(line)}\n" for line in lines)
        (directory / "rounds.jsonl").write_text(text)
    assert capped_rounds(read_runs(tmp_path)) == [
        "training ended at the cap of 200 epochs, below a training accuracy of 99%, in 3 of 9 "
        "rounds; at 30 labels in 2 of 3"
    ]
