"""Every field is documented once, and records of any version are read and written back as they
were."""

from __future__ import annotations

import json
import math
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

from fm_al.errors import RunError
from fm_al.records.digests import chained, fingerprint
from fm_al.records.discovery import runs_below
from fm_al.records.json_files import Schema
from fm_al.records.reading import stored_run
from fm_al.records.schema import Failure, JobNote, Provenance, Result, Round, Start
from tests.helpers.command_line import ROOT
from tests.helpers.made_records import line, result_of

ARCHIVES = ROOT / "outputs" / "results"
FILES: dict[str, type[Schema]] = {
    "rounds.jsonl": Round,
    "result.json": Result,
    "provenance.json": Provenance,
    "provenance.json, starts": Start,
    "job.json": JobNote,
    "error.json": Failure,
}
FIELDS = [(model, name) for model in FILES.values() for name in model.model_fields]


def row(model: type[Schema], name: str) -> str:
    """A field's row in docs/records.md."""
    field = model.model_fields[name]
    assert isinstance(field.json_schema_extra, dict)
    return f"| `{name}` | {field.json_schema_extra['unit']} | {field.description} |"


@pytest.mark.parametrize(("model", "name"), FIELDS)
def test_a_field_has_a_meaning_and_a_unit_and_its_row_in_the_documentation(
    model: type[Schema], name: str
) -> None:
    field = model.model_fields[name]
    assert field.description
    assert field.description.endswith(".")
    assert isinstance(field.json_schema_extra, dict)
    assert field.json_schema_extra["unit"]
    documentation = (ROOT / "docs" / "records.md").read_text()
    assert row(model, name) in documentation.splitlines()


@pytest.fixture(scope="module")
def archived(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Runs of several versions: the first 30 of an archive, each with its four files."""
    folder = tmp_path_factory.mktemp("archived")
    with tarfile.open(ARCHIVES / "records.tar.xz") as archive:
        for member in archive.getmembers()[:200]:
            if member.isfile():
                place = folder / member.name
                place.parent.mkdir(parents=True, exist_ok=True)
                content = archive.extractfile(member)
                assert content is not None
                with content, place.open("wb") as file:
                    shutil.copyfileobj(content, file)
    runs = [run for run in runs_below(folder) if (run / "result.json").exists()]
    return runs[:30]


def test_real_records_are_written_back_byte_for_byte(archived: list[Path]) -> None:
    assert len(archived) == 30
    for directory in archived:
        run = stored_run(directory)
        assert run.provenance is not None
        assert run.result is not None
        lines = [json.dumps(each.as_json(), separators=(",", ":")) for each in run.rounds]
        assert lines == (directory / "rounds.jsonl").read_text().splitlines()
        for name, record in (("provenance", run.provenance), ("result", run.result)):
            written = json.dumps(record.as_json(), indent=2) + "\n"
            assert written == (directory / f"{name}.json").read_text()


def written(directory: Path, rounds: list[dict[str, Any]], result: dict[str, Any]) -> Path:
    provenance = {"fingerprint": "f", "decides": {"seed": 0}, "software": {}, "starts": [{}]}
    directory.mkdir()
    (directory / "provenance.json").write_text(json.dumps(provenance))
    (directory / "rounds.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in rounds))
    (directory / "result.json").write_text(json.dumps(result))
    return directory


def test_a_record_without_the_fields_of_later_versions_is_read(tmp_path: Path) -> None:
    run = stored_run(written(tmp_path / "run", [line(0)], result_of(1)))
    (first,) = run.rounds
    assert first.as_json() == line(0)
    assert first.lacks("round", "macro_f1", "queried", "digest") == ["macro_f1", "digest"]
    assert math.isnan(first.macro_f1)
    assert first.queried_classes == []
    assert first.weights_digest is None
    assert run.result is not None
    assert run.result.as_json() == result_of(1)
    assert run.provenance is not None
    assert run.provenance.class_names == []
    assert run.provenance.starts == [Start()]


def test_a_result_config_is_completed_by_the_options_added_since(tmp_path: Path) -> None:
    directory = written(tmp_path / "run", [line(0)], result_of(1))
    old = {"strategy": {"regularization": 1}}
    provenance = json.loads((directory / "provenance.json").read_text()) | {"decides": old}
    (directory / "provenance.json").write_text(json.dumps(provenance))
    run = stored_run(directory)
    assert run.provenance is not None
    assert run.provenance.result_config["strategy"]["regularization_scale"] == "absolute"
    assert run.provenance.as_json()["decides"] == old


def test_unknown_keys_of_a_newer_version_are_kept_and_belong_to_the_digest(tmp_path: Path) -> None:
    newer = line(0) | {"joules": {"train": 5}, "accuracy": 1}  # 1 is not 1.0 to a digest
    newer["digest"] = chained(provenance_of_newer(tmp_path), newer)
    result = result_of(1, 1.0) | {"labelled": 10, "joules": 7}
    result["digest"] = chained(newer["digest"], result)
    directory = tmp_path / "run"
    (directory / "rounds.jsonl").write_text(json.dumps(newer) + "\n")
    (directory / "result.json").write_text(json.dumps(result))
    run = stored_run(directory)
    assert run.result is not None
    assert run.rounds[0].as_json() == newer
    assert run.result.as_json() == result
    (directory / "rounds.jsonl").write_text(json.dumps(newer | {"joules": {"train": 6}}) + "\n")
    with pytest.raises(RunError, match="its digest is not that of this line"):
        stored_run(directory)


def provenance_of_newer(folder: Path) -> str:
    """Writes a run's provenance; returns its fingerprint."""
    directory = written(folder / "run", [], {})
    provenance = json.loads((directory / "provenance.json").read_text())
    provenance["fingerprint"] = fingerprint(provenance["decides"])
    (directory / "provenance.json").write_text(json.dumps(provenance))
    return provenance["fingerprint"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("accuracy", 1.5),
        ("accuracy", "high"),
        ("labelled", -1),
        ("labelled", True),
        ("per_class_accuracy", [2.0]),
        ("seconds", {"train": -1.0}),
        ("loss", math.inf),
    ],
)
def test_a_value_out_of_range_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=field):
        Round.model_validate(line(0) | {field: value})
