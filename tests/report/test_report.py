"""The whole of a report of frozen records: its Markdown to the letter, and its folder."""

from __future__ import annotations

import importlib
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from fm_al.report.report import report_of
from fm_al.report.selection import read_runs
from fm_al.report.writing import GENERATOR
from tests.helpers.made_runs import make_run, make_trial
from tests.report.made_reports import alone, frozen, markdown_of, report

EXPECTED = Path(__file__).with_name("expected.md")


def test_a_report_of_frozen_records_is_the_same_to_the_letter(tmp_path: Path) -> None:
    assert markdown_of(frozen(tmp_path), [0.7], with_published=True) == EXPECTED.read_text()


@pytest.mark.slow
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


@pytest.mark.slow
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
        (["outputs", "--wandb"], "--wandb: outputs/.* was run without W&B, .* add --project NAME"),
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


@pytest.mark.slow
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
