"""A report in W&B: logged once for each experiment, into the group of its runs."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from pathlib import Path

import pytest
import yaml

from fm_al.errors import ConfigError, RunError
from fm_al.report.report import report_of
from fm_al.report.selection import read_runs
from fm_al.report.summary_run import log_summary_runs, trackers_of
from fm_al.report.typeset import NO_NUMBER, Cell, Table, columns_of
from fm_al.report.writing import write
from fm_al.tracking.upload import DEFAULT_OPTIONS, WANDB_TRACKER
from fm_al.tracking.wandb_log import history
from tests.helpers.command_line import fm_al
from tests.helpers.made_runs import make_run
from tests.helpers.wandb_server import known_server

WANTED = {"project": None, "entity": None, "group": None}


def make_tracked_runs(folder: Path, *experiments: str) -> None:
    """Two strategies of three seeds each, level on average."""
    last = {"random": (0.49, 0.5, 0.51), "badge": (0.5, 0.49, 0.51)}
    for experiment in experiments:
        for strategy, seed in itertools.product(("random", "badge"), range(3)):
            directory = make_run(
                folder, strategy, seed, [0.3, last[strategy][seed]], experiment=experiment
            )
            tracker = {"_target_": WANDB_TRACKER, **DEFAULT_OPTIONS, "project": "mine"}
            config = {"experiment_name": experiment, "tracker": tracker}
            (directory / "config.yaml").write_text(yaml.safe_dump(config))


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_ARTIFACT_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "of_wandb"))


@pytest.mark.slow
def test_tables_and_figures_are_logged_to_a_run_of_the_group(offline: None, tmp_path: Path) -> None:
    make_tracked_runs(tmp_path, "first", "second")
    report = report_of(read_runs(tmp_path), "Title", "fm-al-report .", "{} {}".format, [], False)
    folder = tmp_path / "report"
    write(report, folder)
    times = 2
    for _ in range(times):
        logged = log_summary_runs(report, folder, WANTED)
        assert [len([*Path(each).glob("run-*.wandb")]) for each in logged] == [1, 1]
    runs = [*(folder / "wandb").rglob("*.wandb")]
    ids = Counter(run.stem.removeprefix("run-") for run in runs)
    assert [*ids.values()] == [times, times], "the same two, each time"
    for run in runs:
        (row,) = history(run)
        names = {key.split("/")[1] for key in row if key.split("/")[0] in ("tables", "figures")}
        experiment = "first" if any("first-accuracy" in name for name in names) else "second"
        other = {"first": "second", "second": "first"}[experiment]
        assert {f"{experiment}-accuracy", "penalties", "wins"} <= names
        assert not any(name.startswith(other) for name in names)
        files = run.parent / "files" / "media"
        stored = {path.name.split("_")[0] for path in files.rglob("*.*")}
        assert f"{experiment}-accuracy" in stored
        (table,) = files.rglob("penalties_*.table.json")
        assert json.loads(table.read_text())["columns"] == ["beats", "badge", "random"]
        (table,) = files.rglob(f"{experiment}-accuracy_*.table.json")
        accuracy = json.loads(table.read_text())
        assert accuracy["columns"] == ["strategy", "10", "10 sd", "30", "30 sd"]
        assert accuracy["data"] == [
            [group, *map(pytest.approx, (0.3, 0, 0.5, 0.01))] for group in ("badge", "random")
        ]
        (table,) = files.rglob(f"{experiment}-labels_needed_accuracy_*.table.json")
        assert json.loads(table.read_text())["data"][1][-3:] == [None, None, None]


def test_a_column_is_of_numbers_or_of_texts() -> None:
    numbers = [Cell("0.5 ± 0.1", 0.5, 0.1), NO_NUMBER, Cell("never (0 of 3)", seeds=0)]
    texts = [Cell("<0.1", 0.05), NO_NUMBER, Cell("early")]
    table = Table("t", "T", ["of", "in"], [*zip(numbers, texts, strict=True)])
    assert columns_of(table) == [
        ("of", [0.5, None, None]),
        ("of sd", [0.1, None, None]),
        ("of seeds", [None, None, 0]),
        ("in", ["<0.1", "-", "early"]),
    ]


@pytest.mark.slow
def test_the_server_gets_them_once_for_each_report(monkeypatch, tmp_path: Path) -> None:
    make_tracked_runs(tmp_path / "outputs", "trial")
    with known_server(tmp_path / "of_wandb", monkeypatch) as server:
        for times in (1, 2):
            made = fm_al(tmp_path, "outputs", "--wandb", "--group=g", function="report")
            assert made.returncode == 0, made.stderr
            assert f"logged to {server.url}/team/mine/runs/" in made.stdout
            run = server.only_run
            assert (run.group, run.name, run.state) == ("g", "report trial", "finished")
            assert len(run.history) == times
            row = run.history[times - 1]
            assert {"tables/accuracy", "tables/penalties", "figures/accuracy"} <= row.keys()
            media = [value for key, value in row.items() if key.split("/")[0] != "_wandb"]
            paths = {value["path"] for value in media if isinstance(value, dict)}
            assert len(paths) > 10
            assert paths <= run.files


def test_without_a_project_it_is_an_error_before_anything_is_drawn(tmp_path: Path) -> None:
    directory = make_run(tmp_path / "outputs", "random", 0, [0.3, 0.5])
    config = "{experiment_name: trial, tracker: {_target_: fm_al.tracking.NoTracker}}"
    (directory / "config.yaml").write_text(config)
    refused = fm_al(tmp_path, "outputs", "--wandb", function="report")
    assert refused.returncode == 2
    assert "was run without W&B, so it names no project" in refused.stderr
    assert not (tmp_path / "outputs" / "report").exists()


ODD_CONFIGS = {
    "nested": "[" * 200_000,
    "long": f"seed: {'9' * 5000}",
    "recursive": "&a {tracker: *a, experiment_name: trial}",
    "project": yaml.safe_dump(
        {"experiment_name": "trial", "tracker": {"_target_": WANDB_TRACKER, "project": [1]}}
    ),
    "cut": "tracker: {project",
    "text": "a word",
    "empty": "",
}


@pytest.mark.parametrize("config", ODD_CONFIGS.values(), ids=ODD_CONFIGS)
def test_a_config_that_can_not_be_read_is_named_and_the_next_is_asked(
    tmp_path: Path, config: str, caplog: pytest.LogCaptureFixture
) -> None:
    make_tracked_runs(tmp_path, "trial")
    runs = read_runs(tmp_path)
    first, *others = [run.directory / "config.yaml" for run in runs.runs]
    first.write_text(config)
    if config.startswith("&a"):  # it can be read, and names no project
        with pytest.raises(ConfigError, match="was run without W&B"):
            trackers_of(runs, WANTED)
        return
    assert trackers_of(runs, WANTED)["trial"]["project"] == "mine"
    assert str(first) in caplog.text
    for other in others:
        other.write_text(config)
    with pytest.raises(RunError, match=rf"^{re.escape(str(first))} is damaged"):
        trackers_of(runs, WANTED)
    read_runs(tmp_path)  # for which no config.yaml counts


@pytest.mark.usefixtures("without_figures")
def test_where_logging_fails_it_says_where_the_report_is(monkeypatch, tmp_path: Path) -> None:
    make_tracked_runs(tmp_path / "outputs", "trial")
    monkeypatch.setenv("WANDB_API_KEY", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("wandb.login", lambda **_: False)
    failed = fm_al(tmp_path, "outputs", "--wandb", function="report")
    assert failed.returncode == 1
    assert failed.stdout.endswith("report: outputs/report/index.html\n")


def test_without_a_key_it_is_an_error_and_the_report_is_there(monkeypatch, tmp_path: Path) -> None:
    make_run(tmp_path, "random", 0, [0.3, 0.5])
    report = report_of(read_runs(tmp_path), "Title", "fm-al-report .", "{} {}".format, [], False)
    monkeypatch.setenv("WANDB_API_KEY", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("wandb.login", lambda **_: False)
    with pytest.raises(RunError, match="there is no W&B API key"):
        log_summary_runs(report, tmp_path, WANTED)
