from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fm_al import __version__
from fm_al.errors import RunError
from fm_al.records import writing as records
from fm_al.records.curve import area_under_curve
from fm_al.records.discovery import runs_below
from fm_al.records.notes import Assignment, assign_run
from fm_al.records.provenance import software, without_secrets
from fm_al.records.reading import finished_result, seems_finished, stored_run
from fm_al.records.result_config import result_config_of
from fm_al.records.schema import Round
from fm_al.records.writing import open_run
from tests.helpers.made_records import a_result, a_round, line, result_of, without_digests

DECIDES: dict[str, Any] = {"seed": 0, "strategy": {"k": 1}, "device": {"kind": "cpu"}}


def opened(directory: Path, decides: dict[str, Any] = DECIDES) -> Any:
    return open_run(directory, {"seed": 0}, decides, ["cat", "dog"], ["fm-al"])


def rounds_of(run: records.RunRecords) -> list[dict[str, Any]]:
    return [without_digests(record) for record in run.rounds]


def test_rounds_and_result_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    with opened(tmp_path / "run") as run:
        run.add_round(a_round(0))
        run.add_round(a_round(1))
    with opened(tmp_path / "run") as run:
        assert rounds_of(run) == [line(0), line(1)]
        assert run.result is None
        assert finished_result(run.directory, DECIDES) is None
        run.finish(a_result(2))
    with opened(tmp_path / "run") as run:
        assert without_digests(run.result) == result_of(2)
    result = finished_result(tmp_path / "run", DECIDES)
    assert result is not None
    assert without_digests(result) == result_of(2)


def test_provenance_says_what_decides_and_who_started_it_each_time(tmp_path: Path) -> None:
    for _ in range(2):
        with opened(tmp_path):
            pass
    provenance = json.loads((tmp_path / "provenance.json").read_text())
    assert provenance["decides"] == DECIDES
    assert len(provenance["fingerprint"]) == 64
    assert [start["command"] for start in provenance["starts"]] == [["fm-al"]] * 2
    assert provenance["software"]["torch"]


@pytest.mark.parametrize("cut", range(1, len(json.dumps(line(1), separators=(",", ":"))) + 1))
def test_a_torn_last_line_is_dropped_with_a_warning(tmp_path: Path, caplog, cut: int) -> None:
    with opened(tmp_path) as run:
        run.add_round(a_round(0))
        run.add_round(a_round(1))
    path = tmp_path / "rounds.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    before = path.read_bytes()
    with opened(tmp_path) as run:
        assert rounds_of(run) == [line(0)]
        assert path.read_bytes() == before  # until something takes its place
        run.add_round(a_round(1))
    assert "line 2 is torn" in caplog.text
    lines = [without_digests(json.loads(text)) for text in path.read_text().splitlines()]
    assert lines == [line(0), line(1)]


GOOD = json.dumps(line(0)).encode() + b"\n"


@pytest.mark.parametrize(
    ("content", "where"),
    [
        (b'{"round": 0\n{"round": 1}\n', "line 1 is damaged"),
        (GOOD + b"\n" + GOOD, "line 2 is damaged"),
        (GOOD + json.dumps(line(2)).encode() + b"\n", "line 2 is damaged .round 2 where 1 belongs"),
        (b'{"round": 0}\n[]\n', "line 1 is damaged"),
        (b'{"round": 0, "queried": [], "labelled": 5}\n', "line 1 is damaged .lacks accuracy"),
        (
            b'{"round": 0, "queried": [], "labelled": 5, "accuracy": "high"}\n',
            "accuracy=.high.: should be a valid number",
        ),
        (
            b'{"round": 0, "queried": 3, "labelled": 5, "accuracy": 1}\n',
            "queried=3: should be a valid list",
        ),
        (GOOD + b"\xff\n", "line 2 is damaged"),
        (b"{}\n" + GOOD[:9], "line 1 is damaged"),
    ],
)
def test_any_other_damage_is_an_error_that_names_the_line(tmp_path, content, where) -> None:
    with opened(tmp_path):
        pass
    (tmp_path / "rounds.jsonl").write_bytes(content)
    with pytest.raises(RunError, match=where), opened(tmp_path):
        pass
    assert (tmp_path / "rounds.jsonl").read_bytes() == content


@pytest.mark.parametrize("name", ["provenance.json", "result.json"])
def test_a_damaged_file_is_named(tmp_path: Path, name: str) -> None:
    with opened(tmp_path):
        pass
    (tmp_path / name).write_text('{"finger')
    with pytest.raises(RunError, match=f"{name} is damaged"), opened(tmp_path):
        pass


def test_another_run_in_the_directory_is_refused_with_the_keys_that_differ(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        run.finish(a_result(0))
    other = {"seed": 0, "strategy": {"k": 2, "j": 0}, "device": {"kind": "cpu"}}
    expected = r"differs in strategy.j \(null there, 0 now\), strategy.k \(1 there, 2 now\);"
    with pytest.raises(RunError, match=expected), opened(tmp_path, other):
        pass
    with pytest.raises(RunError, match=expected):
        finished_result(tmp_path, other)


ADDED = {
    "regularization_scale": "absolute",
    "labelled_weight": "mean",
    "temperature": 1.0,
    "approximation": None,
    "top_classes": 5,
}


@pytest.mark.parametrize("nested", [False, True])
def test_options_added_since_a_run_began_have_the_values_that_it_had(
    tmp_path: Path, nested: bool
) -> None:
    def decides(**added: Any) -> dict[str, Any]:
        options = {"regularization": 1, "oversampling": 0, **added}
        return DECIDES | {"strategy": {"inner": options, "k": 1} if nested else options}

    with opened(tmp_path, decides()) as run:
        run.add_round(a_round(0))
    with opened(tmp_path, decides(**ADDED)) as run:
        assert rounds_of(run) == [line(0)]
    another = decides(**ADDED | {"regularization_scale": "information"})
    differs = r'regularization_scale \("absolute" there, "information" now\);'
    with pytest.raises(RunError, match=differs), opened(tmp_path, another):
        pass


REPRESENTED = ["coreset.Coreset", "kmeans.KMeans"]


@pytest.mark.parametrize(
    "strategy",
    ["badge.BADGE", "bald.BALD", "coreset.Coreset", "entropy.Entropy", "kmeans.KMeans",
     "least_confidence.LeastConfidence", "margin.Margin", "random.Random"],
)  # fmt: skip
def test_a_run_from_before_candidates_were_limited_had_no_limit(
    tmp_path: Path, strategy: str
) -> None:
    def decides(**added: Any) -> dict[str, Any]:
        return DECIDES | {"strategy": {"_target_": f"fm_al.strategies.{strategy}", **added}}

    with opened(tmp_path, decides()) as run:
        run.finish(a_result(0))
    later = {"representation": "embeddings"} if strategy in REPRESENTED else {}
    assert finished_result(tmp_path, decides(max_candidates=None, **later))
    assert seems_finished(tmp_path, decides(max_candidates=None, **later)), "known without torch"
    differs = r"strategy.max_candidates \(null there, 30 now\)"
    with pytest.raises(RunError, match=differs):
        finished_result(tmp_path, decides(max_candidates=30, **later))


@pytest.mark.parametrize("strategy", REPRESENTED)
def test_a_run_from_before_there_was_a_representation_worked_on_embeddings(
    tmp_path: Path, strategy: str
) -> None:
    def decides(**added: Any) -> dict[str, Any]:
        return DECIDES | {"strategy": {"_target_": f"fm_al.strategies.{strategy}", **added}}

    with opened(tmp_path, decides()) as run:
        run.finish(a_result(0))
    assert seems_finished(tmp_path, decides(max_candidates=None, representation="embeddings"))
    differs = r'strategy.representation \("embeddings" there, "features" now\)'
    with pytest.raises(RunError, match=differs):
        finished_result(tmp_path, decides(max_candidates=None, representation="features"))


@pytest.mark.parametrize(
    ("added", "is_the_same"),
    [
        ({}, True),
        ({"start": {"_target_": "fm_al.starts.random.RandomStart"}}, True),
        ({"start": None, "growth": 1.0, "whole_pool": False}, True),
        ({"start": {"_target_": "fm_al.starts.balanced.BalancedStart"}}, False),
        ({"growth": 2}, False),
        ({"whole_pool": True}, False),
    ],
)
def test_a_run_from_before_budgets_had_more_options_is_that_of_their_defaults(
    tmp_path: Path, added: dict[str, Any], is_the_same: bool
) -> None:
    budget = {"initial": 10, "per_round": 10, "total": 20}
    with opened(tmp_path, DECIDES | {"dataset": {}, "budget": budget}) as run:
        run.finish(a_result(0))
    config = {**DECIDES, "dataset": {}, "budget": budget | added}
    assert seems_finished(tmp_path, result_config_of(config, {"kind": "cpu"})) == is_the_same


def test_components_from_before_they_could_stay_unscaled_were_whitened(tmp_path: Path) -> None:
    def decides(**added: Any) -> dict[str, Any]:
        return DECIDES | {"features": {"_target_": "fm_al.features.pca.PCA", **added}}

    with opened(tmp_path, decides()) as run:
        run.finish(a_result(0))
    assert finished_result(tmp_path, decides(whiten=True))
    with pytest.raises(RunError, match=r"features.whiten \(true there, false now\)"):
        finished_result(tmp_path, decides(whiten=False))


def test_changed_contents_of_the_data_set_are_refused(tmp_path: Path) -> None:
    with opened(tmp_path, DECIDES | {"dataset_content": "a"}) as run:
        run.finish(a_result(0))
    with (
        pytest.raises(RunError, match="dataset_content"),
        opened(tmp_path, DECIDES | {"dataset_content": "b"}),
    ):
        pass
    assert finished_result(tmp_path, DECIDES)  # known without reading the data


def test_a_run_that_another_process_writes_is_refused_by_its_name(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys\n"
            "from pathlib import Path\n"
            "from fm_al.records.writing import open_run\n"
            "with open_run(Path(sys.argv[1]), {}, {}, [], []):\n"
            "    print('held', flush=True)\n"
            "    sys.stdin.read()\n",
            str(tmp_path),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "SLURM_JOB_ID": "55"},
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    expected = rf"is being written by process {holder.pid} on \S+ \(job 55\)"
    with pytest.raises(RunError, match=expected), opened(tmp_path, {}):
        pass
    holder.kill()
    holder.communicate()
    with opened(tmp_path, {}):
        pass  # a dead process holds nothing


def test_a_full_disk_loses_the_round_in_progress_only(tmp_path: Path, monkeypatch) -> None:
    with opened(tmp_path) as run:
        run.add_round(a_round(0))
        with monkeypatch.context() as patched:

            def full(_: int) -> None:
                raise OSError(28, "No space left on device")

            patched.setattr("os.fsync", full)
            with pytest.raises(RunError, match=r"round 2 can't be written .*No space left"):
                run.add_round(a_round(1))
            with pytest.raises(RunError, match="result can't be written"):
                run.finish(a_result(1))
        assert rounds_of(run) == [line(0)]
    with opened(tmp_path) as run:
        assert rounds_of(run) == [line(0)]
        assert run.result is None
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_other_software_on_resume_is_said(tmp_path: Path, monkeypatch, caplog) -> None:
    with opened(tmp_path):
        pass
    before = json.loads((tmp_path / "provenance.json").read_text())
    monkeypatch.setattr(records, "software", lambda: {**before["software"], "python": "9.9"})
    with opened(tmp_path):
        pass
    assert "begun with other software" in caplog.text
    assert "-> 9.9" in caplog.text


def test_places_and_tracker_decide_nothing() -> None:
    config = {"seed": 1, "tracker": {}, "output_dir": "a", "data_dir": "b", "download": True}
    config["dataset"] = {"size": 8, "root": "c"}
    assert result_config_of({**config, "device": {"kind": "auto"}}, {"kind": "cpu"}) == {
        "seed": 1,
        "dataset": {"size": 8},
        "device": {"kind": "cpu"},
    }


@pytest.mark.parametrize("pool", [{0: 250, 1: 5000}, {"cat": 250, 5: 5000}])
def test_a_configuration_with_numbers_for_keys_is_the_same_when_read_back(tmp_path, pool) -> None:
    decides = result_config_of({"dataset": {}, "imbalance": {"pool": pool}}, {})
    for _ in range(2):
        with opened(tmp_path, decides):
            pass
    other = result_config_of({"dataset": {}, "imbalance": {"pool": {**pool, 5: 4}}}, {})
    with pytest.raises(RunError, match=r"imbalance.pool.5"), opened(tmp_path, other):
        pass


def test_a_result_without_provenance_is_not_taken_for_this_run(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        run.finish(a_result(0))
    (tmp_path / "provenance.json").unlink()
    with pytest.raises(
        RunError, match=r"provenance.json is missing, so that nothing says what run"
    ):
        finished_result(tmp_path, DECIDES)


def test_a_figure_that_is_no_number_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="finite number"):
        Round.model_validate(line(0) | {"loss": float("nan")})
    record = Round.model_validate(line(0) | {"strategy": {"spread": float("nan")}})
    with opened(tmp_path) as run, pytest.raises(ValueError, match="not JSON compliant"):
        run.add_round(record)


def test_weights_are_kept_for_one_round_and_then_dropped(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        for round in (0, 1):
            run.weights_path(round).touch()
        run.remove_weights(but=1)
        assert [path.name for path in tmp_path.glob("*.pt")] == ["weights-1.pt"]
        run.remove_weights()
        assert not list(tmp_path.glob("*.pt"))


def test_keys_that_a_command_may_hold_are_not_in_the_records(tmp_path: Path) -> None:
    command = ["fm-al", "-m", "hydra.launcher.partition=gpu"]
    keys = ["hydra.launcher.setup=[export KEY=1]", "+hydra.launcher.additional_parameters.export=K"]
    with open_run(tmp_path, {}, DECIDES, [], [*command, *keys]) as run:
        assert run.start.command == [
            *command,
            "hydra.launcher.setup=...",
            "+hydra.launcher.additional_parameters.export=...",
        ]


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("hydra.launcher={setup: [export KEY=1]}", "hydra.launcher=..."),
        ("+hydra.job={env_set: {KEY: 1}}", "+hydra.job=..."),
        ("++hydra.job.env_set.KEY=1", "++hydra.job.env_set.KEY=..."),
        ("++hydra={launcher: {setup: [export KEY=1]}}", "++hydra=..."),
        ("~hydra.launcher.teardown=[KEY\n=1]", "~hydra.launcher.teardown=..."),
    ],
)
def test_keys_are_concealed_with_all_that_holds_them(typed: str, kept: str) -> None:
    assert without_secrets(["fm-al", typed]) == ["fm-al", kept]


@pytest.mark.parametrize(
    "typed",
    [
        "hydra/launcher=slurm",
        "hydra.launcher.partition=gpu",
        "hydra.launcher.setup_time=3",
        "hydra.sweeper.dry_run=true",
        "hydrant=3",
        "strategy=random",
        "-m",
    ],
)
def test_what_holds_no_key_is_kept(typed: str) -> None:
    assert without_secrets([typed]) == [typed]


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        (
            "job.json",
            '{"folder": "..", "job": 7, "log": null}',
            "is damaged .job=7: should be a valid string.;",
        ),
        ("job.json", '{"folder": ".."}', "is damaged .lacks job, log.;"),
        (
            "error.json",
            '{"kind": "RunError", "message": []}',
            "is damaged .message=.*: should be a valid string.;",
        ),
        (
            "provenance.json",
            '{"decides": 3, "starts": []}',
            "is damaged .lacks fingerprint, software.;",
        ),
    ],
)
def test_a_file_that_holds_something_else_is_damaged(tmp_path, name, content, why) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(RunError, match=f"{name} {why}"):
        stored_run(tmp_path)


def test_runs_behind_links_are_found_and_each_run_once(tmp_path: Path) -> None:
    scratch, folder = tmp_path / "scratch", tmp_path / "outputs"
    for run in (scratch / "a" / "seed0", scratch / "a" / "seed1", folder / "z" / "seed0"):
        assign_run(run, Assignment(tmp_path))
    (folder / "linked").symlink_to(scratch / "a")
    (folder / "again").symlink_to(scratch)
    (folder / "a").symlink_to(folder / "z" / "seed0")
    (scratch / "a" / "up").symlink_to(scratch)
    (folder / "gone").symlink_to(tmp_path / "nowhere")
    found = runs_below(folder)
    assert len(found) == 3
    assert {run.resolve() for run in found} == {run.parent for run in tmp_path.rglob("job.json")}
    assert folder / "z" / "seed0" in found
    assert runs_below(folder / "linked") == [
        folder / "linked" / name for name in ("seed0", "seed1")
    ]


def test_reading_records_needs_no_torch() -> None:
    code = "import sys, fm_al.records.writing; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("labelled", "accuracy", "area"),
    [
        ([10], [0.7], 0.7),
        ([10, 20], [0.5, 0.7], 0.6),
        ([10, 20, 25], [0.0, 1.0, 1.0], 2 / 3),
        ([10, 20, 30], [1.0, 1.0, 1.0], 1.0),
    ],
)
def test_area_under_curve(labelled: list[int], accuracy: list[float], area: float) -> None:
    assert area_under_curve(labelled, accuracy) == pytest.approx(area)


def test_the_version_in_provenance_is_the_packages_own(monkeypatch) -> None:
    """Also in a checkout that is not installed."""

    def not_installed(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", not_installed)
    software.cache_clear()
    try:
        versions = software()
    finally:
        software.cache_clear()
    assert (versions["fm_al"], versions["torch"]) == (__version__, None)
