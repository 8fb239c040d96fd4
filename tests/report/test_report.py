"""The whole of a report of frozen records: its Markdown to the letter, and its folder."""

from __future__ import annotations

import csv
import importlib
import json
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fm_al.report.claim import claim, claim_together
from fm_al.report.published import published
from fm_al.report.report import report_of
from fm_al.report.selection import read_runs
from fm_al.report.tables import by_area, tables_of_setting
from fm_al.report.typeset import Cell, Table, as_csv, latex, markdown
from fm_al.report.writing import GENERATOR
from fm_al.report.writing import markdown as report_markdown
from tests.helpers.command_line import Ended, fm_al
from tests.helpers.made_runs import make_run, make_trial

EXPECTED = Path(__file__).with_name("expected.md")
# By seed; coreset has a seed only, and badge lacks one.
ACCURACY = {
    "fishermask": {
        0: [0.30, 0.55, 0.71], 1: [0.34, 0.60, 0.76], 2: [0.28, 0.57, 0.74], 3: [0.31, 0.58, 0.73],
    },
    "badge": {0: [0.30, 0.56, 0.70], 1: [0.34, 0.58, 0.75], 3: [0.31, 0.60, 0.75]},
    "random": {
        0: [0.30, 0.47, 0.60], 1: [0.34, 0.52, 0.66], 2: [0.28, 0.48, 0.61], 3: [0.31, 0.51, 0.64],
    },
    "coreset": {2: [0.28, 0.5, 0.65]},
}  # fmt: skip


def frozen(folder: Path) -> Path:
    named = {"experiment": "imbalanced_mnist", "dataset": "mnist", "initial": 15, "per_round": 70}
    for strategy, seeds in ACCURACY.items():
        for seed, accuracy in seeds.items():
            make_run(folder, strategy, seed, accuracy, **named)
    make_run(folder, "badge", 2, [0.28, 0.5], **named, finished=False)
    return folder


def alone(experiment: str, name: str) -> str:
    return f"fm-al-report . --where experiment_name={experiment} --out=report-{name}"


def report(folder: Path, *arguments: str) -> Ended:
    return fm_al(folder, *arguments, function="report")


def markdown_of(folder: Path, targets: Sequence[float] = (), with_published: bool = False) -> str:
    """As the report's, without the time that drawing takes; paths start from the folder."""
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        runs = read_runs(Path())
        made = report_of(runs, "A trial", "fm-al-report .", alone, targets, with_published)
    return report_markdown(made, "figures")


def test_a_report_of_frozen_records_is_the_same_to_the_letter(tmp_path: Path) -> None:
    assert markdown_of(frozen(tmp_path), [0.7], with_published=True) == EXPECTED.read_text()


def test_the_folder_holds_every_table_and_figure_and_a_page_that_links_to_them(tmp_path) -> None:
    frozen(tmp_path / "outputs")
    for strategy in ("fishermask", "random"):
        for seed in range(3):
            accuracy = [0.3, 0.5 + seed / 50 * len(strategy)]
            make_run(tmp_path / "outputs", strategy, seed, accuracy, experiment="other")
    stale = tmp_path / "outputs" / "report" / "tables" / "of_an_earlier_report.md"
    stale.parent.mkdir(parents=True)
    stale.touch()
    (stale.parents[1] / "index.html").write_text(GENERATOR)
    done = report(tmp_path, "outputs")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("report: outputs/report/index.html\n")
    folder = tmp_path / "outputs" / "report"
    page = (folder / "index.html").read_text()
    linked = set(re.findall(r'href="((?:tables|figures)/[^"]+)"', page))
    there = {str(path.relative_to(folder)) for path in folder.glob("*/*")}
    assert linked == there
    names = {Path(path).stem for path in there if path.startswith("tables")}
    for table in ("accuracy", "balanced_accuracy", "macro_f1", "areas", "labels_needed_accuracy"):
        assert f"imbalanced_mnist-{table}" in names
        assert f"other-{table}" in names
    assert {"penalties", "wins", "ranks", "other-per_class", "other-seconds"} <= names
    assert "badge/seed2 is not finished: 1 round so far" in re.sub(r"<[^>]+>", "", page)


def test_where_by_and_out_are_in_the_command_that_the_report_names(tmp_path: Path) -> None:
    for fraction in (0.002, 0.01):
        for seed in range(3):
            make_run(
                tmp_path / "outputs", "fishermask", seed, [0.3, 0.5 + seed / 50 + fraction],
                options={"fraction": fraction}, overrides=f"strategy.fraction={fraction}",
            )  # fmt: skip
    options = ["--where", "strategy=fishermask", "--by", "strategy.fraction"]
    options += ["--where", "seed=0,1,2", "--note", "half of it by night", "--title", "By day"]
    done = report(tmp_path, "outputs", *options, "--out", "made", "--markdown", "MADE.md")
    assert done.returncode == 0, done.stderr
    written = (tmp_path / "MADE.md").read_text()
    assert (
        "Written by `fm-al-report outputs --where strategy=fishermask seed=0,1,2 "
        "--by=strategy.fraction '--title=By day' '--note=half of it by night' --out=made "
        "--markdown=MADE.md`." in written
    )
    assert "\n- half of it by night\n" in written
    assert "(made/figures/accuracy.png)" in written
    assert (tmp_path / "made" / "figures" / "accuracy.png").exists()
    assert "| fraction=0.002 - fraction=0.01 |" in written


@pytest.mark.parametrize("out", [[], ["--out", "outputs/report"], ["--out=outputs/report/new"]])
@pytest.mark.parametrize("what", ["a file", "a folder", "an index", "a link"])
def test_a_folder_of_something_else_is_left_alone_and_refused_before_any_work(
    tmp_path: Path, out: list[str], what: str
) -> None:
    (tmp_path / "outputs").mkdir()
    folder = tmp_path / "outputs" / "report"
    mine = folder / "new" / "figures" / "mine.png"
    if what == "a file":
        mine = folder
    elif what == "a link":
        folder.symlink_to("nowhere")
    else:
        mine.parent.mkdir(parents=True)
        (folder / "index.html").write_text("<p>a page of mine" if what == "an index" else "")
    if what != "a link":
        mine.write_text("drawn by hand")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("fm_al.report.command.read_runs", lambda *_: pytest.fail("runs were read"))
        refused = report(tmp_path, "outputs", *out)
    assert refused.returncode == 2
    assert re.fullmatch(
        r"fm-al: outputs/report(/new)?: (contains files that are not a report's; choose another "
        r"folder|.*outputs/report is not a folder; choose another) with --out\n",
        refused.stderr,
    ), refused.stderr
    if what == "a link":
        assert folder.is_symlink()
    else:
        assert mine.read_text() == "drawn by hand"


@pytest.mark.usefixtures("without_figures")
def test_a_new_or_empty_folder_and_an_earlier_report_are_written_to(tmp_path: Path) -> None:
    make_run(tmp_path / "outputs", "random", 0, [0.3, 0.5])
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    for out in ("empty", "link", "not/yet", "not/yet"):
        assert report(tmp_path, "outputs", "--out", out).returncode == 0


def test_a_report_that_broke_off_is_written_again(tmp_path: Path) -> None:
    make_run(tmp_path / "outputs", "random", 0, [0.3, 0.5])
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("fm_al.report.writing.save", lambda *_: (tmp_path / "none" / "x").open())
        broken = report(tmp_path, "outputs")
    assert broken.returncode == 1
    assert broken.stderr.startswith("fm-al: the report cannot be written: ")
    assert broken.stderr.count("\n") == 1
    assert "This report is incomplete" in (tmp_path / "outputs/report/index.html").read_text()
    assert report(tmp_path, "outputs").returncode == 0


@pytest.mark.usefixtures("without_figures")
def test_settings_with_names_alike_have_files_of_their_own(tmp_path: Path) -> None:
    for experiment in ("cifar10.v1", "cifar10-v1", "CIFAR10_v1"):
        make_run(tmp_path, "random", 0, [0.3, 0.5], experiment=experiment)
    made = report_of(read_runs(tmp_path), "A trial", "fm-al-report .", alone, [], False)
    names = [table.name for part in made.parts for table in part.tables]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: no such folder"),
        (["empty"], "empty: no finished run in this folder or below"),
        (["outputs", "--where", "seed"], "--where seed: must be KEY=VALUE"),
        (
            ["outputs", "--where", "seeed=1"],
            r"--where seeed: no run has this key; did you mean seed\?; keys: ",
        ),
        (["outputs", "--markdown", "no/R.md"], "--markdown no/R.md: no such folder: no"),
        (["outputs", "--by", "nothing"], "--by nothing: no run has this key"),
        (["outputs", "--target", "80"], "--target 80: must be an accuracy"),
        (["outputs", "--wandb"], "--wandb: outputs/.* was run without W&B, .* give --project NAME"),
    ],
)
def test_what_can_not_be_is_one_line(arguments: list[str], message: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    directory = make_run(tmp_path / "outputs", "random", 0, [0.3, 0.5])
    (directory / "config.yaml").write_text(
        "{experiment_name: trial, tracker: {_target_: fm_al.tracking.NoTracker}}\n"
    )
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("WANDB_MODE", "offline")
        done = report(tmp_path, *arguments)
    assert done.returncode == 2
    assert re.match(f"fm-al: {message}", done.stderr), done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.usefixtures("without_figures")
def test_one_run_alone_is_shown_and_nothing_is_tested(tmp_path: Path) -> None:
    make_run(tmp_path, "random", 0, [0.3, 0.5])
    written = markdown_of(tmp_path)
    assert "too few seeds to test random: a test needs 3" in written
    assert "| random | 0.300 | 0.500 |" in written
    assert "**" not in written
    assert "Pairwise" not in written


# Tables


def test_csv_has_full_precision_and_deviations_beside_means(tmp_path: Path) -> None:
    runs = read_runs(frozen(tmp_path))
    tables = {table.name: table for table in tables_of_setting(runs, "", [])}
    rows = list(csv.DictReader(as_csv(tables["accuracy"]).splitlines()))
    first = rows[0]
    assert first["strategy"] == by_area(runs)[0]
    frame = runs.at("accuracy", 85)[first["strategy"]]
    assert float(first["85"]) == frame.mean()
    assert float(first["85 sd"]) == frame.std(ddof=1)
    alone = next(row for row in rows if row["strategy"] == "coreset")
    assert (alone["85"], alone["85 sd"]) == ("0.5", "")


def test_csv_says_of_how_many_seeds_a_mean_is(tmp_path: Path) -> None:
    for seed, last in enumerate((0.9, 0.9, 0.6)):
        make_run(tmp_path, "margin", seed, [0.3, 0.5, last])
        make_run(tmp_path, "random", seed, [0.3, 0.4, 0.5])
    tables = {table.name: table for table in tables_of_setting(read_runs(tmp_path), "", [0.8])}
    margin, random = csv.DictReader(as_csv(tables["labels_needed_accuracy"]).splitlines())
    assert (margin["labels for 0.8"], margin["labels for 0.8 seeds"]) == ("50.0", "2")
    assert (random["labels for 0.8"], random["labels for 0.8 seeds"]) == ("", "0")
    assert (random["saved for 0.8"], margin["saved for 0.8"]) == ("", "")
    assert margin["saved for random's last seeds"] == "3"


ODD = Table(
    "t",
    "50% of a_b & c",
    ["x|y", "5^2"],
    [[Cell("a|b_*<"), Cell("1 ± 2", 1.0, 2.0, True)], [Cell("c - t-test"), Cell("-1.5", -1.5)]],
    ["x_y"],
)


def test_odd_characters_are_literal_in_markdown_and_latex() -> None:
    assert markdown(ODD) == (
        "| x\\|y | 5^2 |\n| --- | ---: |\n| a\\|b\\_\\*\\< | **1 ± 2** |\n"
        "| c - t-test | -1.5 |\n\nX_y.\n"
    )
    written = latex(ODD)
    assert r"\caption{50\% of a\_b \& c. X\_y.}" in written
    assert r"a\textbar{}b\_{*}$<$ & \textbf{1 $\pm$ 2} \\" in written
    assert r"x\textbar{}y & 5\textasciicircum{}2 \\" in written
    assert r"c - t-test & $-$1.5 \\" in written
    for rule in ("toprule", "midrule", "bottomrule"):
        assert rf"\{rule}" in written


def rows_and_heads(rows: int, columns: int, text: str) -> Table:
    cells = [Cell(f"{text}{number}", number) for number in range(columns)]
    return Table("wide", "Wide", [f"h{number}" for number in range(columns)], [cells] * rows)


def test_a_wide_latex_table_has_parts_that_fit_a_page() -> None:
    written = latex(rows_and_heads(3, 15, "0.123 ± 0.4"))
    assert written.count(r"\begin{table}") == written.count(r"\label{tab:wide}") == 1
    heads = [line for line in written.splitlines() if "h" in line and "&" in line]
    assert [head.count("&") for head in heads] == [4, 4, 4, 2]
    assert all(head.strip().startswith("h0 & ") for head in heads)
    assert written.count(r"\begin{tabular}{lrrrr}") == 3
    assert set(re.findall(r"h\d+", written)) == {f"h{number}" for number in range(15)}
    assert latex(rows_and_heads(3, 15, "1")).count(r"\begin{tabular}") == 1


def test_parts_that_are_too_high_for_a_page_are_tables_of_their_own() -> None:
    written = latex(rows_and_heads(30, 15, "0.123 ± 0.4"))
    assert written.count(r"\begin{table}") == written.count(r"\end{table}") == 4
    assert written.count(r"\caption{Wide. ") == written.count(r"\label{tab:wide}") == 1
    assert written.count(r"\caption{Wide (continued).}") == 3
    assert written.count(r"\addtocounter{table}{-1}") == 3


def test_a_strategy_needs_no_labels_for_a_target_that_its_seed_has_not(tmp_path: Path) -> None:
    """random's last accuracy is known of seed 0 alone."""
    make_run(tmp_path, "random", 0, [0.3, 0.4, 0.5])
    for seed, last in enumerate((0.9, 0.9, 0.2)):
        make_run(tmp_path, "badge", seed, [0.3, 0.3, last])
    for seed in (1, 2):
        make_run(tmp_path, "margin", seed, [0.3, 0.3, 0.4])
    tables = {table.name: table for table in tables_of_setting(read_runs(tmp_path), "", [])}
    table = tables["labels_needed_accuracy"]
    needed = {row[0].text: row[1].text for row in table.rows}
    assert needed == {"random": "50 (1 of 1)", "badge": "50 (1 of 1)", "margin": "-"}


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


def test_seconds_are_of_whole_runs(tmp_path: Path) -> None:
    runs = read_runs(frozen(tmp_path))
    (table,) = (each for each in tables_of_setting(runs, "", []) if each.name == "seconds")
    values = {row[0].text: [cell.value for cell in row[1:]] for row in table.rows}
    assert values["random"] == [6.0, 1.5, 4.0, 11.5]


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


@pytest.mark.usefixtures("without_figures")
def test_one_strategy_is_compared_with_none(tmp_path: Path) -> None:
    for seed in range(3):
        make_run(tmp_path, "random", seed, [0.3, 0.5])
    written = markdown_of(tmp_path)
    assert "### Accuracy by number of labels" in written
    for absent in ("### Differences", "## All settings", "bold", "Wins"):
        assert absent not in written


@pytest.mark.usefixtures("without_figures")
def test_what_can_not_be_tested_with_the_best_is_marked_so(tmp_path: Path) -> None:
    for seed in range(4):
        make_run(tmp_path, "margin", seed, [0.3, 0.5 + seed / 100])
        if seed < 2:
            make_run(tmp_path, "bait", seed, [0.3, 0.1])
    written = markdown_of(tmp_path)
    assert "| **0.515 ± 0.013** |" in written
    assert "| 0.100 ± 0.000† |" in written
    assert "†: cannot be tested against the best (fewer than 3 pairs)" in written


def test_many_settings_are_drawn_in_processes_as_few_are_in_one(tmp_path: Path) -> None:
    for experiment in ("a", "b", "c"):
        make_run(tmp_path / "outputs", "random", 0, [0.3, 0.5], experiment=experiment)
    (tmp_path / "few").mkdir()
    shutil.copytree(tmp_path / "outputs" / "a", tmp_path / "few" / "a")
    assert report(tmp_path, "outputs").returncode == 0
    assert report(tmp_path, "few").returncode == 0
    one = tmp_path / "few" / "report" / "figures"
    several = tmp_path / "outputs" / "report" / "figures"
    for name in ("accuracy", "queries"):
        for ending in ("pdf", "png"):
            same = (several / f"a-{name}.{ending}").read_bytes()
            assert (one / f"{name}.{ending}").read_bytes() == same


class Counted:
    """How often a function was called, and with what first argument."""

    def __init__(self, patched: pytest.MonkeyPatch, name: str) -> None:
        module, _, function = name.rpartition(".")
        self.calls: list[Any] = []
        self.counted = getattr(importlib.import_module(module), function)
        patched.setattr(name, self)

    def __call__(self, *arguments: Any) -> Any:
        self.calls.append(arguments[0])
        return self.counted(*arguments)


@pytest.mark.usefixtures("without_figures")
def test_the_work_grows_as_runs_and_settings_do(tmp_path: Path) -> None:
    """Files are read once. Pairs are compared as often for many seeds as for few, and twice as
    often for twice as many settings."""
    comparisons: dict[tuple[int, int], int] = {}
    with pytest.MonkeyPatch.context() as patched:
        read = Counted(patched, "fm_al.records.reading.file_content")
        parsed = Counted(patched, "fm_al.records.json_files.file_content")
        compared = Counted(patched, "fm_al.report.statistics.compared")
        for settings, seeds in ((2, 3), (4, 3), (2, 6)):
            folder = tmp_path / f"{settings}x{seeds}"
            for number in range(settings):
                make_trial(folder, f"e{number}", seeds=seeds)
            for counted in (read, parsed, compared):
                counted.calls.clear()
            report_of(read_runs(folder), "A trial", "fm-al-report .", alone, [], False)
            comparisons[settings, seeds] = len(compared.calls)
            files = Counter(read.calls + parsed.calls)
            assert {*files.values()} == {1}
            assert sum(path.name == "rounds.jsonl" for path in files) == settings * seeds * 4
    assert comparisons[2, 6] == comparisons[2, 3]
    assert comparisons[4, 3] == 2 * comparisons[2, 3]


def test_published_numbers_are_those_of_the_figure() -> None:
    figure = published("imbalanced_cifar10", "cifar10")
    assert figure["random"][15] == 0.252
    assert published("imbalanced_cifar10_as_published", "cifar10_jpeg") == figure
    assert published("imbalanced_cifar10", "svhn") == {}
    assert published("imbalanced_fashion_mnist", "fashion_mnist") == {}
    assert published("balanced_cifar100", "cifar100") == {}
    assert set(published("imbalanced_mnist", "mnist")) == {
        "bait", "coreset", "entropy", "fishermask", "random"
    }  # fmt: skip
