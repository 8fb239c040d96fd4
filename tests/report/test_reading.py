"""Which folders a report leaves out: unfinished, damaged and foreign ones."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fm_al.records.digests import chained, fingerprint
from fm_al.report.selection import read_runs
from tests.helpers.made_runs import make_run
from tests.report.left_out import RISING, whys


def test_unfinished_damaged_and_foreign_folders_are_named_and_left_out(tmp_path: Path) -> None:
    make_run(tmp_path, "random", 0, RISING)
    make_run(tmp_path, "random", 1, RISING, finished=False)
    failed = make_run(tmp_path, "random", 2, RISING, finished=False)
    (failed / "error.json").write_text('{"kind": "RunError", "message": "the disk is full"}')
    torn = make_run(tmp_path, "random", 3, RISING)
    (torn / "rounds.jsonl").write_text("nonsense\n")
    short = make_run(tmp_path, "random", 4, RISING)
    (short / "rounds.jsonl").write_text((short / "rounds.jsonl").read_text().split("\n")[0] + "\n")
    (make_run(tmp_path, "random", 5, RISING) / "result.json").write_text("{")
    bare = make_run(tmp_path, "random", 6, RISING)
    (bare / "provenance.json").write_text('{"decides": 3, "starts": []}')
    poor = make_run(tmp_path, "random", 7, RISING)
    rounds = [json.loads(line) for line in (poor / "rounds.jsonl").read_text().splitlines()]
    for record in rounds:
        del record["macro_f1"]
    (poor / "rounds.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in rounds))
    foreign = tmp_path / "elsewhere"
    foreign.mkdir()
    (foreign / "provenance.json").write_text('{"of": "another program"}')
    (make_run(tmp_path, "random", 8, RISING) / "provenance.json").unlink()
    (tmp_path / "report" / "wandb").mkdir(parents=True)
    (tmp_path / "report" / "wandb" / "config.yaml").write_text("of: wandb")
    (tmp_path / "notes.txt").write_text("mine")
    runs = read_runs(tmp_path)
    assert [run.seed for run in runs.runs] == [0]
    said = whys(runs)
    assert len(said) == 9
    assert said["random/seed8"] == "has result.json, rounds.jsonl and no provenance.json"
    assert said["random/seed7"] == "has rounds without macro_f1"
    assert said["random/seed1"] == "is not finished: 2 rounds so far"
    assert said["random/seed2"] == "failed after 2 rounds: the disk is full"
    assert "line 1 is damaged" in said["random/seed3"]
    assert said["random/seed4"].startswith("rounds.jsonl has 1 rounds, its result is of 3; ")
    assert "result.json is damaged" in said["random/seed5"]
    assert "is damaged" in said["random/seed6"]
    assert "lacks fingerprint, decides" in next(
        v for k, v in said.items() if k.endswith("elsewhere")
    )


ROUND, RESULT, PROVENANCE = "rounds.jsonl", "result.json", "provenance.json"


DAMAGE: list[tuple[str, str, Any, str]] = [
    (ROUND, "labelled", 10, "(labelled=10: should be 30)"),
    (ROUND, "labelled", 30.5, "(labelled=30.5: should be a valid integer"),
    (ROUND, "accuracy", True, "(accuracy=true: should be a valid number)"),
    (ROUND, "accuracy", 50, "(accuracy=50: should be less than or equal to 1)"),
    (ROUND, "accuracy", math.nan, "(accuracy=NaN: should be a finite number)"),
    (ROUND, "balanced_accuracy", "0.5", '(balanced_accuracy="0.5": should be a valid number)'),
    (ROUND, "macro_f1", None, "(macro_f1=null: should be a valid number)"),
    (ROUND, "per_class_accuracy", None, "(per_class_accuracy=null: should be a valid list)"),
    (ROUND, "per_class_accuracy", [0.5], "(length of per_class_accuracy=1: should be 3)"),
    (ROUND, "per_class_accuracy.1", "x", '(per_class_accuracy[1]="x": should be a valid number)'),
    (ROUND, "queried_classes", None, "(queried_classes=null: should be a valid list)"),
    (ROUND, "queried_classes", [20], "(length of queried_classes=1: should be 3)"),
    (ROUND, "queried_classes", [0, 0, 0], "(sum of queried_classes=0: should be 20)"),
    (ROUND, "queried_classes.0", -1, "(queried_classes[0]=-1: should be greater than or equal to"),
    (ROUND, "strategy", None, "(strategy=null: should be a valid dictionary)"),
    (ROUND, "strategy.mask_sizes", None, "(strategy.mask_sizes=null: should be a valid diction"),
    (ROUND, "strategy.mask_sizes", {"stem": "x"}, '(strategy.mask_sizes.stem="x": should be a'),
    (RESULT, "rounds", None, "(rounds=null: should be a valid integer)"),
    (RESULT, "class_names", None, "(class_names=null: should be a valid list)"),
    (RESULT, "class_names", ["a", "a", "b"], '(class_names=["a", "a", "b"]: should differ)'),
    (RESULT, "class_names", ["a", "b"], "line 1 is damaged (length of per_class_accuracy=3"),
    (RESULT, "class_names.0", 3, "(class_names[0]=3: should be a valid string)"),
    (RESULT, "seconds", None, "(seconds=null: should be a valid dictionary)"),
    (RESULT, "seconds", {}, "(seconds={}: Dictionary should have at least 1 item"),
    (RESULT, "seconds.train", "x", '(seconds.train="x": should be a valid number)'),
    (RESULT, "seconds.train", 10**30, f"(seconds.train={10**30}: should be less than"),
    (PROVENANCE, "decides", None, "(decides=null: should be a valid dictionary)"),
    *(
        (PROVENANCE, f"decides.{key}", value, f"decides.{key}")
        for group in ("dataset", "imbalance", "backbone", "strategy")
        for key, value in (
            (group, None),
            (f"{group}._target_", None),
            (f"{group}._target_", "Made"),
            (f"{group}.name", 3),
        )
    ),
    (PROVENANCE, "decides.budget", None, "(decides.budget=null: should be a valid dictionary)"),
    (PROVENANCE, "decides.budget", {}, "provenance.json lacks decides.budget.initial"),
    (PROVENANCE, "decides.budget.initial", 11, "line 1 is damaged (labelled=10: should be 11)"),
    (
        PROVENANCE,
        "decides.budget.per_round",
        0,
        "(decides.budget.per_round[0]=0: should be greater",
    ),
    (PROVENANCE, "decides.budget.per_round", [], "(decides.budget.per_round=[]: List should have"),
    (PROVENANCE, "decides.budget.per_round", [30, 10], "line 1 is damaged (sum of queried_classes"),
    (PROVENANCE, "decides.budget.growth", 0.5, "(decides.budget.growth=0.5: should be greater"),
    (PROVENANCE, "decides.budget.total", 2**62, f"(decides.budget.total={2**62}: should be less"),
    (PROVENANCE, "decides.budget.total", 10**6, "has queries of 40 images, its budget is of 99999"),
    (PROVENANCE, "decides.budget.total", 5, "(decides.budget.total=5: should be at least budget"),
    (PROVENANCE, "decides.budget.whole_pool", True, "has 3 rounds, its budget is of 1"),
    (PROVENANCE, "decides.budget.per_round", 1, "has 3 rounds, its budget is of 41"),
    (PROVENANCE, "decides.budget.total", "50", '(decides.budget.total="50": should be a valid int'),
    (PROVENANCE, "decides.budget.total", 10**30, f"(decides.budget.total={10**30}: should be less"),
    (PROVENANCE, "decides.budget.train_before_first_query", 3, "train_before_first_query=3: shoul"),
    (PROVENANCE, "decides.device", None, "(decides.device=null: should be a valid dictionary)"),
    (PROVENANCE, "decides.device", {}, "provenance.json lacks decides.device.kind"),
    (PROVENANCE, "decides.seed", "0", '(decides.seed="0": should be a valid integer)'),
    (PROVENANCE, "decides.experiment_name", None, "(decides.experiment_name=null: should be a va"),
    (PROVENANCE, "software", None, "(software=null: should be a valid dictionary)"),
    (PROVENANCE, "software", {}, "provenance.json lacks software.torch"),
    (PROVENANCE, "software.torch", 2, "(software.torch=2: should be a valid string)"),
    (PROVENANCE, "starts", None, "(starts=null: should be a valid list)"),
    (PROVENANCE, "starts.0", None, "(starts[0]=null: should be a valid dictionary)"),
    (PROVENANCE, "starts.0.time", 3, "(starts[0].time=3: should be a valid string)"),
    (PROVENANCE, "starts.0.host", 3, "(starts[0].host=3: should be a valid string)"),
    (PROVENANCE, "starts.0.command", None, "(starts[0].command=null: should be a valid list)"),
    (PROVENANCE, "starts.0.command.0", 3, "(starts[0].command[0]=3: should be a valid string)"),
]


@pytest.mark.parametrize(
    ("file", "key", "value", "why"),
    DAMAGE,
    ids=[f"{file}-{key}-{str(value)[:10]}" for file, key, value, _ in DAMAGE],
)
def test_a_run_with_a_value_that_can_not_be_is_named_and_left_out(
    tmp_path: Path, file: str, key: str, value: Any, why: str
) -> None:
    make_run(tmp_path, "random", 0, RISING)
    path = make_run(tmp_path, "fishermask", 0, RISING) / file
    lines = path.read_text().splitlines() if file == ROUND else [path.read_text()]
    damaged = 1 if file == ROUND else 0
    record = json.loads(lines[damaged])
    place: Any = record
    *parents, name = [int(step) if step.isdigit() else step for step in key.split(".")]
    for step in parents:
        place = place[step]
    place[name] = value
    lines[damaged] = json.dumps(record)
    path.write_text("".join(f"{line}\n" for line in lines))
    runs = read_runs(tmp_path)
    assert [run.group for run in runs.runs] == ["random"]
    (said,) = whys(runs).values()
    where = "rounds.jsonl: line 2" if file == ROUND else file
    assert (f"{where} is damaged {why}" if why.startswith("(") else why) in said


def as_folder(file: Path) -> None:
    file.unlink(missing_ok=True)
    (file / "x").mkdir(parents=True)


def as_link(file: Path) -> None:
    if file.exists():
        file.rename(file.with_name("elsewhere"))
    file.symlink_to("elsewhere")


def as_text(text: str) -> Callable[[Path], object]:
    return lambda file: file.write_text(f"{text}\n")


ODD_FILES: dict[str, Callable[[Path], object]] = {
    "nested": as_text("[" * 200_000),
    "nested and whole": as_text('{"a": ' + "[" * 200_000 + "]" * 200_000 + "}"),
    "long": as_text('{"round": ' + "9" * 5000 + "}"),
    "list": as_text("[1]"),
    "null": as_text("null"),
    "empty": as_text(""),
    "mapping": as_text("{}"),
    "bytes": lambda file: file.write_bytes(b"\xff\xfe\x00{\n"),
    "folder": as_folder,
    "link": as_link,
}


@pytest.mark.parametrize("odd", ODD_FILES)
@pytest.mark.parametrize("is_finished", [True, False])
@pytest.mark.parametrize(
    "file", ["provenance.json", "rounds.jsonl", "result.json", "job.json", "error.json"]
)
def test_one_odd_file_leaves_the_other_runs_to_report_on(
    tmp_path: Path, file: str, is_finished: bool, odd: str
) -> None:
    make_run(tmp_path, "badge", 0, RISING)
    directory = make_run(tmp_path, "random", 0, RISING, finished=is_finished)
    ODD_FILES[odd](directory / file)
    runs = read_runs(tmp_path)
    decides_nothing = is_finished and file in ("job.json", "error.json")
    assert [run.group for run in runs.runs] == ["badge", *["random"] * decides_nothing]
    if not decides_nothing:
        (why,) = whys(runs).values()
        assert file in why
        assert len(why) < 400


@pytest.mark.parametrize("odd", ODD_FILES)
def test_a_report_reads_no_configuration(tmp_path: Path, odd: str) -> None:
    directory = make_run(tmp_path, "random", 0, RISING)
    ODD_FILES[odd](directory / "config.yaml")
    assert not read_runs(tmp_path).left_out


def vouched_for(directory: Path) -> None:
    """As newer records are: each line and the result have the digest of what is before them."""
    provenance = json.loads((directory / "provenance.json").read_text())
    provenance["fingerprint"] = digest = fingerprint(provenance["decides"])
    (directory / "provenance.json").write_text(json.dumps(provenance))
    records = []
    for line in (directory / "rounds.jsonl").read_text().splitlines():
        record = json.loads(line) | {"weights_digest": "0"}
        digest = chained(digest, record)
        records.append(record | {"digest": digest})
    (directory / "rounds.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in records))
    result = json.loads((directory / "result.json").read_text())
    result["digest"] = chained(digest, result)
    (directory / "result.json").write_text(json.dumps(result))


def test_a_changed_number_is_noticed_by_the_digests(tmp_path: Path) -> None:
    make_run(tmp_path, "badge", 0, RISING)
    path = make_run(tmp_path, "random", 0, RISING) / "rounds.jsonl"
    vouched_for(path.parent)
    assert len(read_runs(tmp_path).runs) == 2
    lines = path.read_text().splitlines()
    changed = lines[1].replace('"accuracy": 0.5', '"accuracy": 0.6')
    assert changed != lines[1]
    path.write_text("\n".join([lines[0], changed, *lines[2:], ""]))
    (why,) = whys(read_runs(tmp_path)).values()
    assert why.startswith("rounds.jsonl: line 2 is damaged (its digest is not")


def test_a_class_without_test_images_is_no_damage(tmp_path: Path) -> None:
    path = make_run(tmp_path, "random", 0, RISING) / ROUND
    rounds = [json.loads(line) for line in path.read_text().splitlines()]
    for record in rounds:
        record["per_class_accuracy"][1] = None
    path.write_text("".join(f"{json.dumps(each)}\n" for each in rounds))
    assert not read_runs(tmp_path).left_out
