from __future__ import annotations

import copy
import functools
import json
from pathlib import Path

import pytest
from rich.console import Console

from fm_al.data.base import Stored
from fm_al.errors import ConfigError, RunError, RunLockedError
from fm_al.launch.planning import planned_run
from fm_al.planned_run import KINDS_WITHOUT_TORCH, PlannedRun, failure_recorded, one_line
from fm_al.preparation import KINDS
from fm_al.records.writing import open_run
from tests.helpers.command_line import QUICK
from tests.helpers.made_records import a_result


def test_errors_are_one_line_and_name_their_kind_where_it_is_not_ours() -> None:
    assert one_line(RunError("two\nlines")) == "two lines"
    assert one_line(KeyError("x")) == "KeyError: 'x'"
    assert one_line(OSError(28, "No space left")) == "[Errno 28] No space left"


def test_a_run_that_an_error_of_the_system_ends_says_that_its_rounds_are_kept(
    compose, monkeypatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left")

    monkeypatch.setattr("fm_al.preparation.load_data", full)
    composed = compose()
    run = planned_run(composed, composed.hydra.runtime.choices, [])
    with pytest.raises(RunError, match=r"^\[Errno 28\] No space left; finished rounds are kept: "):
        run.run(Console(quiet=True))


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (ConfigError("k=3: too large"), "ConfigError", "k=3: too large"),
        (ZeroDivisionError("by zero"), "ZeroDivisionError", "ZeroDivisionError: by zero"),
        (KeyboardInterrupt(), "KeyboardInterrupt", "stopped by Ctrl-C"),
    ],
)
def test_why_a_run_failed_is_noted_where_it_has_a_directory(tmp_path, error, kind, message) -> None:
    for directory in (tmp_path, tmp_path / "none"):
        with pytest.raises(type(error)), failure_recorded(directory):
            raise error
    noted = json.loads((tmp_path / "error.json").read_text())
    assert (noted["kind"], noted["message"]) == (kind, message)
    assert noted["host"]
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("error", [RunLockedError("elsewhere"), SystemExit()])
def test_an_end_and_a_run_that_goes_on_elsewhere_are_no_failures(
    tmp_path: Path, error: BaseException
) -> None:
    with pytest.raises(type(error)), failure_recorded(tmp_path):
        raise error
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_looks_at_the_contents_of_a_data_set_once(compose, monkeypatch) -> None:
    looks: list[int] = []

    def stored(*_: object) -> Stored:
        looks.append(1)
        return Stored("as it is", ("cat", "dog"), [1, 1], [1, 1])

    monkeypatch.setattr("fm_al.data.base.Dataset.stored", stored)
    contents: dict[str, Stored | None] = {}
    for seed in range(3):
        composed = compose(f"seed={seed}")
        run = planned_run(composed, composed.hydra.runtime.choices, [])
        decides = run.result_config | {"dataset_content": "as it is"}
        with open_run(run.directory, {}, decides, [], []) as records:
            records.finish(a_result(0))
        assert run.result(contents=contents)
    assert len(looks) == 1


def test_the_classes_and_their_counts_are_printed_and_recorded_at_the_start(
    compose, capsys
) -> None:
    composed = compose(*QUICK, "imbalance=counts", "imbalance.pool={3: 20, 8: 10}")
    run = planned_run(composed, composed.hydra.runtime.choices, [])
    run.run(Console())
    assert capsys.readouterr().out.startswith(
        "2 classes, 30 images in the pool and 99 in the test set: 3 20/51, 8 10/48\nround 1/3"
    )
    provenance = json.loads((run.directory / "provenance.json").read_text())
    assert provenance["class_names"] == ["3", "8"]
    assert provenance["pool_counts"] == [20, 10]
    assert provenance["test_counts"] == [51, 48]
    assert "start_uses_classes" not in provenance


@pytest.mark.parametrize("start", ["balanced", "stratified"])
def test_a_start_that_uses_classes_is_recorded_as_one(compose, start: str) -> None:
    composed = compose(*QUICK, f"budget.start={start}")
    run = planned_run(composed, composed.hydra.runtime.choices, [])
    run.run(Console(quiet=True))
    assert json.loads((run.directory / "provenance.json").read_text())["start_uses_classes"] is True


def test_a_run_of_classes_that_its_configuration_no_longer_names_is_not_resumed(compose) -> None:
    composed = compose(*QUICK, "imbalance=counts", "imbalance.pool={3: 20, 8: 10}")
    run = planned_run(composed, composed.hydra.runtime.choices, [])
    with open_run(run.directory, {}, run.result_config, ["5", "9"], []):
        pass
    with pytest.raises(RunError, match=r'classes \["5", "9"\], and .* now names \["3", "8"\]; use'):
        run.run(Console(quiet=True))


def changed(config: dict, key: str, value: object) -> dict:
    config = copy.deepcopy(config)
    *groups, name = key.split(".")
    functools.reduce(dict.__getitem__, groups, config)[name] = value
    return config


@pytest.fixture
def finished(compose) -> PlannedRun:
    composed = compose(*QUICK, "budget.total=10", "trainer.optimizer.weight_decay=1")
    run = planned_run(composed, composed.hydra.runtime.choices, [])
    run.run(Console(quiet=True))
    return run


def test_what_is_checked_without_torch_is_checked_alike_with_it() -> None:
    assert KINDS_WITHOUT_TORCH.items() <= KINDS.items()


def test_a_finished_run_is_recognised_without_building_it(finished: PlannedRun) -> None:
    elsewhere = changed(finished.config, "tracker", {"_target_": "fm_al.tracking.NoTracker"})
    for config in (
        finished.config,
        changed(elsewhere, "output_dir", "other"),
        changed(finished.config, "data_dir", "other"),
        changed(finished.config, "device.kind", "auto"),
        changed(finished.config, "device.precision", "auto"),
    ):
        run = PlannedRun.of(config, finished.directory)
        assert run.is_recorded
        assert run.result() == finished.result()
        assert "experiment" not in vars(run), "was built"


@pytest.mark.parametrize(
    ("key", "value", "error"),
    [
        ("seed", 1, "differs in seed"),
        ("seed", False, "seed=false: should be a valid integer"),
        ("strategy", {"_target_": "fm_al.strategies.entropy.Entropy"}, "differs in strategy"),
        ("strategy.nonsense", 1, "strategy.nonsense: no such option"),
        ("trainer.max_epochs", 2.0, "trainer.max_epochs=2.0: should be a valid integer"),
        ("trainer.optimizer.weight_decay", True, "trainer.optimizer.weight_decay=true: should be"),
        ("budget.total", 20, "differs in budget.total"),
        ("backbone._target_", "nowhere.Nothing", "backbone._target_=nowhere.Nothing: can't be"),
        ("device.threads", 2, "differs in device.threads"),
        ("device.threads", 1.0, "device.threads=1.0: should be"),
        ("device.kind", "abacus", "device.kind=abacus: should be"),
        ("tracker.nonsense", 1, "tracker.nonsense: no such option"),
        ("output_dir", "", "output_dir=: should be"),
        ("data_dir", 3, "data_dir=3: should be"),
        ("dataset.pad_to", 0, "dataset.pad_to=0: should be"),
        ("imbalance.nonsense", 1, "imbalance.nonsense: no such option"),
    ],
)
def test_what_is_not_exactly_a_finished_run_is_checked_whole(
    finished: PlannedRun, key: str, value: object, error: str
) -> None:
    """Python takes 1, 1.0 and True for equal."""
    config = changed(finished.config, key, value)
    assert not PlannedRun(config, finished.directory).is_recorded
    with pytest.raises((ConfigError, RunError), match=error):
        PlannedRun.of(config, finished.directory).result()


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("result.json", None),
        ("result.json", "{}"),
        ("provenance.json", None),
        ("provenance.json", "{"),
        ("rounds.jsonl", None),
        ("rounds.jsonl", "{}\n"),
    ],
)
def test_damage_of_a_finished_run_is_noticed(
    finished: PlannedRun, file: str, content: str | None
) -> None:
    path = finished.directory / file
    path.unlink() if content is None else path.write_text(content)
    run = PlannedRun.of(finished.config, finished.directory)
    if (file, content) == ("result.json", None):
        assert run.result() is None
    else:
        with pytest.raises(RunError, match=file):
            run.result()
