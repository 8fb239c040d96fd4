"""Whatever is done to a file of a run, whoever meets it names it, and leaves the rest as it was."""

from __future__ import annotations

import io
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from fm_al.errors import ConfigError, RunError
from fm_al.launch.serial import SerialLauncher
from fm_al.launch.status import statuses_of
from fm_al.launch.sweep import Sweep
from fm_al.planned_run import PlannedRun
from fm_al.progress import RunProgress
from fm_al.tracking.sync import upload_below
from tests.helpers.command_line import fm_al
from tests.test_experiment import without_times

OPTIONS = [
    "backbone=linear",
    "strategy=random",
    "tracker=none",
    "device=cpu",
    "device.threads=1",
    "trainer.max_epochs=2",
    "budget.initial=10",
    "budget.per_round=10",
    "budget.total=40",
]


def flipped(file: Path) -> None:
    """A bit of a figure, so that the file is still what it should be, with another value."""
    content = bytearray(file.read_bytes())
    keys = (b'"accuracy":', b'"seed":', b'"time":', b"data/0")
    start = next(content.rindex(key) + len(key) for key in keys if key in content)
    place = next(place for place in range(start, len(content)) if chr(content[place]).isdigit())
    content[place] ^= 1
    file.write_bytes(content)


def linked(file: Path) -> None:
    """The content is as it was, elsewhere."""
    elsewhere = file.parents[len(file.parents) - 2].joinpath(*file.parts[2:-1], f"{file.name}.away")
    file.rename(elsewhere)
    file.symlink_to(elsewhere.name)


def folder(file: Path) -> None:
    file.unlink()
    (file / "x").mkdir(parents=True)


def holding(content: bytes) -> Callable[[Path], None]:
    return lambda file: file.write_bytes(content) and None


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "cut": lambda file: os.truncate(file, file.stat().st_size // 2),
    "flipped": flipped,
    "emptied": holding(b""),
    "null": holding(b"null\n"),
    "list": holding(b"[]\n"),
    "object": holding(b"{}\n"),
    "string": holding(b'"text"\n'),
    "number": holding(b"7\n"),
    "NaN": holding(b"NaN\n"),
    "deep": holding(b"[" * 200_000 + b"\n"),
    "deep object": holding(b'{"a":' * 300 + b"1" + b"}" * 300 + b"\n"),
    "long number": holding(b'{"round": ' + b"9" * 5000 + b"}\n"),
    "bytes": holding(b"\xff\xfe\x00\n"),
    "link": linked,
    "folder": folder,
    "gone": lambda file: file.unlink(),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of a finished and of an interrupted run, each beside a finished one."""
    folders = {}
    for name, rounds in (("finished", None), ("interrupted", 3)):
        folders[name] = tmp_path_factory.mktemp(name)
        fm_al(folders[name], "-m", *OPTIONS, "seed=1")
        with pytest.MonkeyPatch.context() as patched:
            if rounds is not None:
                patched.setattr(RunProgress, "stage", stop_in_round(rounds))
            fm_al(folders[name], "-m", *OPTIONS, "seed=0")
    return folders


def stop_in_round(rounds: int) -> Any:
    original, trained = RunProgress.stage, []

    def stage(self: RunProgress, doing: str) -> None:
        trained.extend(["train"] * (doing == "train"))
        if len(trained) == rounds:
            raise KeyboardInterrupt
        original(self, doing)

    return stage


class Found:
    """A run's directory in a copy of such a folder, for those who meet it."""

    def __init__(self, folder: Path) -> None:
        damaged, other = sorted(folder.rglob("seed[01]"))
        assert (damaged.name, other.name) == ("seed0", "seed1")
        self.folder, self.directory = folder, damaged
        self.planned = [planned(folder, directory) for directory in (damaged, other)]

    def by_run(self) -> str:
        """What a single start says; "" where all is well."""
        run, console = self.planned[0], Console(quiet=True)
        try:
            result = run.result()
            if result is not None:
                run.complete(console, result)
            else:
                run.run(console)
        except (RunError, OSError) as error:
            return str(error)
        return ""

    def by_sweep(self) -> str:
        console = Console(file=io.StringIO(), width=200, soft_wrap=True)
        launcher = SerialLauncher(console)
        launcher.poll = launcher.silence = 0.0
        sweep = Sweep(self.planned, launcher, console)
        sweep.start(sweep.triage(retry_failed=True), self.folder / "sweep", wait=True)
        assert self.planned[1].directory in sweep.results
        try:
            sweep.summarize_or_raise()
        except (RunError, ConfigError) as error:
            return str(error)
        return ""

    def by_status(self) -> str:
        status, other = statuses_of([run.directory for run in self.planned])
        assert other.state == "finished"
        return status.detail if status.state == "damaged" else ""

    def by_sync(self) -> str:
        console = Console(file=io.StringIO(), width=200, soft_wrap=True)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("fm_al.tracking.sync._upload_all", lambda *_: None)
            code = upload_below(self.folder, {"project": "p"}, console)
        assert isinstance(console.file, io.StringIO)
        *lines, _ = console.file.getvalue().splitlines()
        assert (code == 1) == bool(lines)
        return "\n".join(lines)

    def files(self) -> dict[str, Any]:
        """What must not be changed: all but what a start notes of itself."""
        return {
            str(path): path.readlink() if path.is_symlink() else path.is_dir() or path.read_bytes()
            for path in self.directory.rglob("*")
            if path.name not in ("lock", "error.json", "job.json")
        }


def planned(folder: Path, directory: Path) -> PlannedRun:
    config = yaml.safe_load((directory / "config.yaml").read_text())
    return PlannedRun.of(config | {"output_dir": str(folder / "outputs")}, directory)


@pytest.fixture
def copied(tmp_path: Path, made: dict[str, Path]) -> Callable[[str], Found]:
    def copy(name: str) -> Found:
        shutil.copytree(made[name], tmp_path / "copy")
        return Found(tmp_path / "copy")

    return copy


@pytest.fixture(autouse=True)
def warnings(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    caplog.set_level(logging.WARNING)
    return caplog


MEETING = [Found.by_run, Found.by_sweep, Found.by_status, Found.by_sync]


def assert_named_by_all(found: Found, file: Path, *says: str) -> None:
    before = found.files()
    for meets in MEETING:
        said = meets(found)
        assert str(file) in said, (meets.__name__, said)
        assert len(said.splitlines()) == 1, said
        assert len(said) < 1500
        for text in says:
            assert text in said, (meets.__name__, said)
        assert "remove the run" not in said
        assert found.files() == before, meets.__name__


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", ["provenance.json", "rounds.jsonl", "result.json"])
def test_a_finished_run_that_its_records_do_not_back_is_damaged(
    copied: Callable[[str], Found], name: str, damage: str
) -> None:
    found = copied("finished")
    file = found.directory / name
    DAMAGE[damage](file)
    if (name, damage) == ("result.json", "gone"):
        assert found.by_run() == ""  # the rounds are all there is to it
        return
    assert_named_by_all(found, file, "restore it from a copy, or move the run's directory away")


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", ["job.json", "error.json"])
def test_what_decides_nothing_of_a_finished_run_is_named_and_may_go(
    copied: Callable[[str], Found], warnings: pytest.LogCaptureFixture, name: str, damage: str
) -> None:
    found = copied("finished")
    file = found.directory / name
    file.write_text(
        '{"time": "2026", "kind": "X", "message": ""}'
    ) if name == "error.json" else None
    DAMAGE[damage](file)
    is_damaged = damage not in ("gone", "flipped")
    for meets in (Found.by_status, Found.by_sync):
        warnings.clear()
        assert meets(found) == ""
        said = [text for text in warnings.messages if str(file) in text]
        assert len(said) == is_damaged
        assert all("the run is finished" in text for text in said)
    warnings.clear()
    assert found.by_run() == found.by_sweep() == ""
    assert not [text for text in warnings.messages if str(file) in text]


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", ["provenance.json", "rounds.jsonl"])
def test_an_interrupted_run_whose_records_are_damaged_is_not_resumed(
    copied: Callable[[str], Found], name: str, damage: str
) -> None:
    found = copied("interrupted")
    file = found.directory / name
    DAMAGE[damage](file)
    if name == "rounds.jsonl" and damage in ("cut", "emptied", "gone"):
        assert found.by_run() == ""  # a round that is not there whole is redone
        return
    assert_named_by_all(found, file, "restore it from a copy", "move the run's directory away")


@pytest.mark.parametrize("damage", [each for each in DAMAGE if each not in ("flipped", "gone")])
@pytest.mark.parametrize("name", ["job.json", "error.json"])
def test_a_damaged_note_on_an_interrupted_run_is_named_and_holds_no_start_up(
    copied: Callable[[str], Found], made: dict[str, Path], name: str, damage: str
) -> None:
    found = copied("interrupted")
    file = found.directory / name
    DAMAGE[damage](file)
    before = found.files()
    for meets in (Found.by_status, Found.by_sync):
        said = meets(found)
        assert str(file) in said
        assert len(said.splitlines()) == 1
    assert found.files() == before
    is_in_the_way = damage == "folder"
    said = found.by_run()
    assert said == "" or (is_in_the_way and str(file) in said)
    if not is_in_the_way:
        assert without_times(found.directory) == without_times(Found(made["finished"]).directory)


@pytest.mark.parametrize(
    "damage", ["cut", "emptied", "list", "string", "deep", "bytes", "link", "gone"]
)
@pytest.mark.parametrize("state", ["finished", "interrupted"])
def test_a_damaged_configuration_is_named_and_written_anew(
    copied: Callable[[str], Found], state: str, damage: str
) -> None:
    found = copied(state)
    file = found.directory / "config.yaml"
    kept = yaml.safe_load(file.read_text())
    DAMAGE[damage](file)
    before = found.files()
    assert found.by_status() == ""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("fm_al.tracking.sync._upload_all", lambda *_: None)
        console = Console(file=io.StringIO(), width=200, soft_wrap=True)
        assert upload_below(found.folder, {}, console) == 1
    assert isinstance(console.file, io.StringIO)
    assert f"{file} is " in console.file.getvalue()
    assert "start the run's own command again, which rewrites it" in console.file.getvalue()
    assert found.files() == before
    assert found.by_run() == ""
    assert not file.is_symlink()
    written = yaml.safe_load(file.read_text())
    assert written | {"output_dir": kept["output_dir"]} == kept


@pytest.mark.parametrize("damage", ["flipped", "cut", "emptied", "folder", "gone"])
def test_weights_that_are_not_those_of_their_round_are_not_resumed_from(
    tmp_path: Path, damage: str
) -> None:
    options = [*OPTIONS, "trainer.reset=none"]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(RunProgress, "stage", stop_in_round(3))
        fm_al(tmp_path, *options)
    (file,) = tmp_path.rglob("weights-*.pt")
    before = (file.parent / "rounds.jsonl").read_bytes()
    DAMAGE[damage](file)
    ended = fm_al(tmp_path, *options)
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert file.name in line
    assert (file.parent / "rounds.jsonl").read_bytes() == before


def test_a_symbolic_link_is_never_written_through(
    copied: Callable[[str], Found], tmp_path: Path
) -> None:
    found = copied("interrupted")
    for name in ("rounds.jsonl", "lock"):
        file, elsewhere = found.directory / name, tmp_path / name
        file.rename(elsewhere)
        content = elsewhere.read_bytes()
        file.symlink_to(elsewhere)
        assert f"{file} is a symbolic link" in found.by_run()
        assert elsewhere.read_bytes() == content
        file.unlink()
        elsewhere.rename(file)
    assert found.by_run() == ""


def test_records_of_an_earlier_version_are_resumed_and_vouched_for_from_then_on(
    copied: Callable[[str], Found], made: dict[str, Path]
) -> None:
    found = copied("interrupted")
    path = found.directory / "rounds.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert all(line.pop("digest") for line in lines)
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert found.by_run() == ""
    whole = path.read_text()
    path.write_text(whole.replace('"round": 0, "labelled": 10', '"round": 0, "labelled": 11'))
    assert path.read_text() != whole
    assert_named_by_all(found, path, f"line {len(lines) + 1} is damaged")


def test_a_damaged_run_is_one_line_of_its_commands(
    copied: Callable[[str], Found], tmp_path: Path
) -> None:
    found = copied("finished")
    (found.directory / "result.json").write_text('{"rounds": 4}')
    for sweep in ([], ["-m"]):
        ended = fm_al(found.folder, *sweep, *OPTIONS, "seed=0")
        assert ended.returncode == 1
        (line,) = ended.stderr.splitlines()
        assert "result.json is damaged (lacks labelled, accuracy" in line
    ended = fm_al(found.folder, "-m", *OPTIONS, "seed=0,1")
    assert ended.returncode == 1
    assert "1 of 2 runs failed" in ended.stderr
    assert "mean ± standard deviation" in ended.stdout
