"""Runs cut at a number of labels are reported as if they had been started with that budget."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from fm_al.errors import ConfigError
from fm_al.report.budgets import budgets_in_words
from fm_al.report.export import inline_svg
from fm_al.report.figures import figures_of_setting
from fm_al.report.notices import notices_of
from fm_al.report.palette import Palette
from fm_al.report.runs import Runs
from fm_al.report.selection import read_runs
from tests.helpers.command_line import QUICK, fm_al
from tests.helpers.made_runs import make_run
from tests.report.left_out import whys
from tests.report.made_pages import change_provenance
from tests.report.made_reports import markdown_of, report
from tests.report.test_budgets import make as make_of_sizes

ACCURACY = {
    "fishermask": [[0.30, 0.55, 0.71, 0.8, 0.82], [0.34, 0.6, 0.76, 0.79, 0.84]],
    "badge": [[0.30, 0.56, 0.70, 0.78, 0.8], [0.34, 0.58, 0.75, 0.77, 0.83]],
    "random": [[0.30, 0.47, 0.60, 0.66, 0.7], [0.34, 0.52, 0.66, 0.7, 0.72]],
}
LABELS = [10, 30, 50, 70, 90]
POOL = [400, 400, 200]
CUT = re.compile(r"^- compared up to .*\n", re.MULTILINE)


def make_runs(folder: Path, rounds: int, **named: Any) -> None:
    """Three strategies with three seeds; the third is the first again, and a little better."""
    for strategy, of_seed in ACCURACY.items():
        better = [round(each + 0.01, 2) for each in of_seed[0]]
        for seed, accuracy in enumerate([*of_seed, better]):
            make_run(folder, strategy, seed, accuracy[:rounds], further=True, pool=POOL, **named)


def unfinish(directory: Path, rounds: int | None = None) -> Path:
    """Remove the result, and the rounds beyond these."""
    (directory / "result.json").unlink()
    lines = (directory / "rounds.jsonl").read_text().splitlines(keepends=True)
    (directory / "rounds.jsonl").write_text("".join(lines[:rounds]))
    return directory


def drawn(runs: Runs) -> list[str]:
    return [inline_svg(each) for each in figures_of_setting(runs, "", Palette.of(runs.groups), {})]


@pytest.mark.usefixtures("without_figures")
@pytest.mark.parametrize("rounds", [1, 2, 3, 4])
def test_a_run_that_is_cut_is_reported_as_one_started_with_that_budget(
    tmp_path: Path, rounds: int
) -> None:
    make_runs(tmp_path / "longer", 5)
    make_runs(tmp_path / "shorter", rounds)
    cut = markdown_of(tmp_path / "longer", [0.5], up_to=LABELS[rounds - 1])
    assert CUT.search(cut)
    assert CUT.sub("", cut) == markdown_of(tmp_path / "shorter", [0.5])


def test_its_figures_are_the_same_too(tmp_path: Path) -> None:
    make_runs(tmp_path / "longer", 5)
    make_runs(tmp_path / "shorter", 3)
    cut, whole = read_runs(tmp_path / "longer", up_to=50), read_runs(tmp_path / "shorter")
    assert drawn(cut) == drawn(whole)


@pytest.mark.usefixtures("without_figures")
def test_unfinished_runs_that_reach_the_labels_are_used_as_finished_ones(tmp_path: Path) -> None:
    for name in ("finished", "unfinished"):
        make_runs(tmp_path / name, 5)
    runs = read_runs(tmp_path / "unfinished").of_group("badge")
    for run, rounds in zip(runs, [3, 4, 5], strict=True):
        unfinish(run.directory, rounds)
    (runs[1].directory / "error.json").write_text('{"kind": "RunError", "message": "disk full"}')
    cut, whole = (markdown_of(tmp_path / name, up_to=50) for name in ("unfinished", "finished"))
    assert "compared up to 50 labels: 9 of 9 runs go further, 3 are unfinished" in cut
    assert CUT.sub("", cut) == CUT.sub("", whole)


def test_the_rounds_are_those_of_a_real_run_with_that_budget(tmp_path: Path) -> None:
    ours = [*QUICK, "strategy=margin", "experiment_name=trial"]
    for total in (20, 30):
        done = fm_al(tmp_path, *ours, f"budget.total={total}", f"output_dir={total}")
        assert done.returncode == 0, done.stderr
    (whole,), (cut,) = read_runs(tmp_path / "20").runs, read_runs(tmp_path / "30", up_to=20).runs
    assert cut.flat == whole.flat
    timed = {"seconds", "digest", "confusion_matrix"}  # only the run's last round has the matrix
    for mine, real in ((cut.result, whole.result), *zip(cut.rounds, whole.rounds, strict=True)):
        there, expected = mine.as_json(), real.as_json()
        assert there["seconds"].keys() == expected["seconds"].keys()
        assert {key: each for key, each in there.items() if key not in timed} == {
            key: each for key, each in expected.items() if key not in timed
        }


@pytest.mark.parametrize(
    ("budget", "sizes", "words"),
    [
        ({"per_round": [20, 20, 40, 80]}, [20, 20, 40, 80], "20, 20 per round, 50 in total"),
        ({"per_round": [20, 20]}, [20, 20, 20, 5], "20, 20 per round, 50 in total"),
        ({"per_round": 10, "growth": 3.0}, [10, 30, 90], "10, 30 per round, 50 in total"),
    ],
)
def test_schedules_are_cut_with_the_budget(
    tmp_path: Path, budget: dict[str, Any], sizes: list[int], words: str
) -> None:
    directory = make_of_sizes(tmp_path, sizes=sizes, **budget)
    for _ in range(2):
        runs = read_runs(tmp_path, up_to=50)
        assert not runs.left_out
        assert words in budgets_in_words(runs.of("trial"))
        if (directory / "result.json").exists():
            unfinish(directory, 3)


def test_settings_that_differ_in_a_larger_total_become_one(tmp_path: Path) -> None:
    for rounds, strategy in ((5, "fishermask"), (4, "badge"), (3, "random"), (2, "margin")):
        make_run(tmp_path, strategy, 0, ACCURACY["badge"][0][:rounds])
    assert len(read_runs(tmp_path).settings) == 4
    runs = read_runs(tmp_path, up_to=50)
    assert runs.settings == ["trial"]
    assert runs.groups == ["badge", "fishermask", "random"]
    assert runs.of("trial").labels == [10, 30, 50]
    assert whys(runs) == {"margin/seed0": "ends at 30 of 50 labels"}
    assert notices_of(runs)[0] == (
        "compared up to 50 labels: 2 of 3 runs go further, 0 are unfinished"
    )


def test_runs_without_that_number_of_labels_are_left_out_with_those_near_it(tmp_path: Path) -> None:
    rising = [0.3, 0.5, 0.6, 0.7]
    make_run(tmp_path, "random", 0, rising)
    make_run(tmp_path, "random", 1, rising, per_round=15)
    make_run(tmp_path, "random", 2, rising, initial=55)
    unfinish(make_run(tmp_path, "random", 3, rising), 2)
    failed = unfinish(make_run(tmp_path, "random", 4, rising), 1)
    (failed / "error.json").write_text('{"kind": "RunError", "message": "the disk is full"}')
    unfinish(make_run(tmp_path, "random", 5, rising), 0)
    unnamed = unfinish(make_run(tmp_path, "random", 6, rising))
    change_provenance(unnamed, lambda there: there.pop("class_names"))
    runs = read_runs(tmp_path, up_to=50)
    assert [run.seed for run in runs.runs] == [0]
    assert whys(runs) == {
        "random/seed1": "has no round with 50 labels; nearest: 40 and 55",
        "random/seed2": "has no round with 50 labels; nearest: 55",
        "random/seed3": "has reached 30 of 50 labels; is not finished: 2 rounds so far",
        "random/seed4": ("has reached 10 of 50 labels; failed after 1 round: the disk is full"),
        "random/seed5": "is not finished: 0 rounds so far",
        "random/seed6": (
            "is not finished: 4 rounds so far; provenance.json does not name its classes"
        ),
    }


@pytest.mark.parametrize(
    ("labels", "error"),
    [
        (-1, "--up-to -1: no run has this number of labels; runs have 10, 30, 50, 70, 90"),
        (0, "--up-to 0: no run has this number of labels; runs have 10, 30, 50, 70, 90"),
        (9, "--up-to 9: no run has this number of labels; runs have 10, 30, 50, 70, 90"),
        (49, "--up-to 49: no run has this number of labels; runs have 10, 30, 50, 70, 90"),
        (91, "--up-to 91: no run has this number of labels; runs have 10, 30, 50, 70, 90"),
        ("many", "argument --up-to: invalid int value: 'many'; fm-al-report --help lists"),
        ("", "argument --up-to: invalid int value: ''; fm-al-report --help lists"),
    ],
)
def test_a_number_of_labels_that_no_run_has_is_one_line(
    tmp_path: Path, labels: object, error: str
) -> None:
    make_run(tmp_path, "random", 0, ACCURACY["random"][0])
    unfinish(make_run(tmp_path, "random", 1, ACCURACY["random"][1]), 2)
    done = report(tmp_path, ".", f"--up-to={labels}")
    assert done.returncode == 2
    assert error in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize(
    ("labels", "listed"),
    [
        (12, "10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60, 65, …, 110"),
        (61, "10, …, 35, 40, 45, 50, 55, 60, 65, 70, 75, 80, 85, 90, …, 110"),
        (999, "10, …, 55, 60, 65, 70, 75, 80, 85, 90, 95, 100, 105, 110"),
        (47, "10, …, 20, 25, 30, 35, 40, 45, 50, 55, 60, 65, 70, 75, …, 110"),
        (42, "10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60, 65, 70, …, 110"),
    ],
)
def test_of_many_numbers_those_near_it_are_listed(tmp_path: Path, labels: int, listed: str) -> None:
    make_run(tmp_path, "random", 0, [0.3] * 21, per_round=5)
    with pytest.raises(ConfigError, match=f"labels; runs have {listed}$"):
        read_runs(tmp_path, up_to=labels)


def test_runs_that_were_not_asked_for_are_neither_listed_nor_left_out(tmp_path: Path) -> None:
    make_run(tmp_path, "random", 0, ACCURACY["random"][0])
    make_run(tmp_path, "random", 0, [0.3, 0.4], experiment="short", initial=12)
    runs = read_runs(tmp_path, {"experiment_name": ["trial"], "budget.total": ["50"]}, up_to=50)
    assert not runs.left_out
    with pytest.raises(ConfigError, match=r"runs have 12, 32$"):
        read_runs(tmp_path, {"experiment_name": ["short"]}, up_to=50)


def test_a_run_repeated_with_a_larger_budget_is_used_once(tmp_path: Path) -> None:
    """Its times differ, and the shorter one's last round has a confusion matrix."""
    make_run(tmp_path, "badge", 0, ACCURACY["badge"][0])
    shorter = make_run(tmp_path, "badge", 0, ACCURACY["badge"][0][:3], overrides="total=50")
    lines = [json.loads(line) for line in (shorter / "rounds.jsonl").read_text().splitlines()]
    lines[0]["seconds"]["train"] = 9.0
    lines[-1]["confusion_matrix"] = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    (shorter / "rounds.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in lines))
    runs = read_runs(tmp_path, up_to=50)
    assert len(runs.runs) == 1
    (left_out,) = runs.left_out
    assert left_out.why == f"repeats the rounds of {runs.runs[0].directory}"
    lines[1]["accuracy"] = 0.57
    (shorter / "rounds.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in lines))
    with pytest.raises(ConfigError, match=r"has the same setting and seed as .*: keep one"):
        read_runs(tmp_path, up_to=50)


def test_a_snapshot_of_a_run_is_a_copy_of_it(tmp_path: Path) -> None:
    whole = make_run(tmp_path, "badge", 0, ACCURACY["badge"][0])
    copy = unfinish(make_run(tmp_path / "earlier", "badge", 0, ACCURACY["badge"][0]), 4)
    runs = read_runs(tmp_path, up_to=50)
    assert [run.directory for run in runs.runs] == [whole]
    assert [(each.directory, each.why) for each in runs.left_out] == [
        (copy, f"is a copy of {whole}")
    ]


def test_runs_on_the_whole_pool_stay_bounds_uncut(tmp_path: Path) -> None:
    make_runs(tmp_path, 5)
    bound = {"budget": {"whole_pool": True}, "pool": POOL}
    make_run(tmp_path, "random", 0, [0.9], overrides="whole", **bound)
    unfinish(make_run(tmp_path, "random", 1, [0.9], overrides="whole", **bound))
    runs = read_runs(tmp_path, up_to=50)
    (of_setting,) = runs.of("trial").bounds
    assert of_setting.rounds[-1].labelled == 1000
    assert whys(runs) == {"whole/seed1": "is not finished: 1 round so far"}
    with pytest.raises(ConfigError, match=r"--up-to 1000: .*; runs have 10, 30, 50, 70, 90$"):
        read_runs(tmp_path, up_to=1000)


def test_a_folder_without_a_round_is_one_line(tmp_path: Path) -> None:
    unfinish(make_run(tmp_path, "random", 0, [0.3, 0.5]), 0)
    with pytest.raises(ConfigError, match=r"no run with a recorded round in this .*; .* 0 rounds"):
        read_runs(tmp_path, up_to=30)


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        (
            "labelled",
            35,
            "rounds.jsonl: line 2 is damaged (sum of queried_classes=20: should be 5)",
        ),
        ("labelled", 30, "has 3 rounds, its budget is of 2"),
        ("labelled", 5, "has 3 rounds, its budget is of 1"),
        ("labelled", 10**9, "has queries of 40 images, its budget is of 80"),
        ("per_class_accuracy", [0.5], "line 3 is damaged (length of per_class_accuracy=1"),
        ("seconds", {"train": "x"}, 'line 3 is damaged (seconds.train="x"'),
    ],
)
def test_an_unfinished_run_is_checked_as_a_finished_one(
    tmp_path: Path, key: str, value: object, why: str
) -> None:
    make_run(tmp_path, "badge", 0, ACCURACY["badge"][0])
    path = unfinish(make_run(tmp_path, "random", 0, ACCURACY["random"][0]), 3) / "rounds.jsonl"
    *first, last = path.read_text().splitlines()
    lines = [*first, json.dumps(json.loads(last) | {key: value})]
    path.write_text("".join(f"{line}\n" for line in lines))
    runs = read_runs(tmp_path, up_to=30)
    assert runs.groups == ["badge"]
    assert why in whys(runs)["random/seed0"]


@pytest.mark.parametrize(
    ("field", "why"),
    [
        ("loss", "has rounds without loss"),
        ("seconds", "has rounds without seconds"),
        (
            "stages",
            "rounds.jsonl is damaged (it gives a result with seconds: Dictionary should have at "
            "least 1 item after validation, not 0)",
        ),
    ],
)
def test_rounds_that_no_result_can_be_made_from_are_named(
    tmp_path: Path, field: str, why: str
) -> None:
    make_run(tmp_path, "badge", 0, ACCURACY["badge"][0])
    for seed in (0, 1):
        path = make_run(tmp_path, "random", seed, ACCURACY["random"][0]) / "rounds.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for each in lines:
            each.pop(field, None)
            if field == "stages":
                each["seconds"] = {}
        path.write_text("".join(f"{json.dumps(each)}\n" for each in lines))
    unfinish(path.parent)
    assert whys(read_runs(tmp_path, up_to=50)) == {"random/seed0": why, "random/seed1": why}
    assert "random/seed0" not in whys(read_runs(tmp_path))


@pytest.mark.usefixtures("without_figures")
def test_the_command_and_the_notice_are_in_the_report(tmp_path: Path) -> None:
    for experiment in ("one", "two"):
        make_run(tmp_path, "random", 0, [0.3, 0.5, 0.7], experiment=experiment)
        unfinish(make_run(tmp_path, "badge", 0, [0.3, 0.5, 0.7], experiment=experiment), 2)
    done = report(tmp_path, ".", "--up-to", "30")
    assert done.returncode == 0, done.stderr
    notice = "compared up to 30 labels: 4 of 4 runs go further, 2 are unfinished"
    assert done.stdout.startswith(f"{notice}\n")
    written = (tmp_path / "report" / "report.md").read_text()
    assert "Written by `fm-al-report . --up-to=30`." in written
    assert f"- {notice}\n" in written
    page = (tmp_path / "report" / "index.html").read_text()
    assert notice in page
    assert "fm-al-report . --where experiment_name=one --up-to=30 --out=report-one" in page
