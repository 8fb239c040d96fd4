from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from fm_al.errors import ConfigError, HeldError, RunError
from fm_al.records import open_run
from fm_al.run import failure_recorded, one_line
from fm_al.sweep import planned_run
from tests.made_records import result_of


def test_errors_are_one_line_and_name_their_kind_where_it_is_not_ours() -> None:
    assert one_line(RunError("two\nlines")) == "two lines"
    assert one_line(KeyError("x")) == "KeyError: 'x'"
    assert one_line(OSError(28, "No space left")) == "[Errno 28] No space left"


def test_a_run_that_an_error_of_the_system_ends_says_that_its_rounds_are_kept(
    compose, monkeypatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left")

    monkeypatch.setattr("fm_al.experiment.load_data", full)
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


@pytest.mark.parametrize("error", [HeldError("elsewhere"), SystemExit()])
def test_an_end_and_a_run_that_goes_on_elsewhere_are_no_failures(
    tmp_path: Path, error: BaseException
) -> None:
    with pytest.raises(type(error)), failure_recorded(tmp_path):
        raise error
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_looks_at_the_contents_of_a_data_set_once(compose, monkeypatch) -> None:
    looks: list[int] = []

    def stored_content(*_: object) -> str:
        looks.append(1)
        return "as it is"

    monkeypatch.setattr("fm_al.data.base.Dataset.stored_content", stored_content)
    contents: dict[str, str | None] = {}
    for seed in range(3):
        composed = compose(f"seed={seed}")
        run = planned_run(composed, composed.hydra.runtime.choices, [])
        decides = run.decides | {"dataset_content": "as it is"}
        with open_run(run.directory, {}, decides, [], []) as records:
            records.finish(result_of(0))
        assert run.result(contents=contents)
    assert len(looks) == 1
