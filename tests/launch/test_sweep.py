from __future__ import annotations

import io
import json
import re
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from rich.console import Console

from fm_al.errors import ConfigError, RunError, RunLockedError
from fm_al.launch.serial import SerialLauncher
from fm_al.launch.status import statuses_of
from fm_al.launch.summary import summary
from fm_al.launch.sweep import Sweep
from fm_al.planned_run import failure_recorded
from fm_al.records.lock import locked
from fm_al.records.notes import Assignment, assign_run, record_failure
from fm_al.records.reading import StoredRun, finished_result, stored_run
from fm_al.records.schema import Round
from fm_al.records.writing import open_run
from tests.helpers.made_records import a_result

DECIDES = {"budget": {"initial": 2, "per_round": 1, "total": 4}}
RESULT = a_result(0, 0.5)


class OneStep:
    """A run that does one thing and is finished."""

    # Nothing more, so that tables name it by its folder.
    config: ClassVar[dict[str, Any]] = {"output_dir": "outputs"}

    def __init__(self, directory: Path, does: Callable[[], Any] = lambda: None) -> None:
        self.directory = directory
        self.does = does
        self.starts = 0

    def result(self, contents: Any = None) -> Any:
        return finished_result(self.directory, DECIDES)

    def complete(self, _: Console, result: Any) -> bool:
        return True

    def run(self, _: Console, sweep: str | None = None) -> Any:
        with (
            failure_recorded(self.directory),
            open_run(self.directory, {}, DECIDES, [], []) as records,
        ):
            self.starts += 1
            self.does()
            records.finish(RESULT)
            return RESULT


class Elsewhere:
    """Takes all runs at once; what comes of them, the test does."""

    on_other_machines = True
    blocks = False
    poll = 0.0
    silence = 0.0

    def __init__(self, then: Callable[[list[Any], int], None]) -> None:
        self.then = then
        self.taken: list[Any] = []
        self.looks = 0

    def start(self, waiting: deque[Any], folder: Path) -> None:
        self.taken += waiting
        waiting.clear()
        self.then(self.taken, self.looks)
        self.looks += 1

    def ended(self, directory: Path) -> str | None:
        return None


def fail(error: BaseException) -> Callable[[], None]:
    def raise_it() -> None:
        raise error

    return raise_it


def swept(runs: list[OneStep], launcher: Any = None, retry_failed: bool = True) -> tuple[str, str]:
    """What a sweep prints, and its error."""
    console = Console(file=io.StringIO(), width=200, markup=False, soft_wrap=True)
    sweep = Sweep(runs, launcher or SerialLauncher(console), console)  # type: ignore[arg-type]
    sweep.start(sweep.triage(retry_failed), runs[0].directory.parent / "sweep", wait=True)
    error = ""
    try:
        sweep.summarize_or_raise()
    except (RunError, ConfigError) as raised:
        error = f"{type(raised).__name__}: {raised}"
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue(), error


def test_finished_runs_are_skipped_and_the_others_done(tmp_path: Path) -> None:
    runs = [OneStep(tmp_path / name) for name in "abc"]
    runs[1].run(Console(quiet=True))
    shown, error = swept(runs)
    assert [run.starts for run in runs] == [1, 1, 1]
    assert "1 of 3 runs are finished" in shown
    assert f"run 2 of 2: {tmp_path}/c" in shown
    assert error == ""
    again, _ = swept(runs)
    assert [run.starts for run in runs] == [1, 1, 1]
    assert "3 of 3 runs are finished" in again
    assert "run 1" not in again


def test_a_run_that_fails_does_not_stop_the_others_and_is_said_at_the_end(tmp_path: Path) -> None:
    runs = [OneStep(tmp_path / name) for name in "abcd"]
    runs[0].does = runs[2].does = fail(RunError("too dark"))
    runs[1].does = fail(ConfigError("k=3: too large"))
    shown, error = swept(runs)
    assert [run.starts for run in runs] == [1, 1, 1, 1]
    assert f"failed: too dark: {tmp_path}/a" in shown
    assert error == (
        f"RunError: 3 of 4 runs failed: {tmp_path}/a and 1 other: too dark; "
        f"{tmp_path}/b: k=3: too large"
    )


def test_failures_of_configuration_alone_are_an_error_of_configuration(tmp_path: Path) -> None:
    runs = [OneStep(tmp_path / name, fail(ConfigError("k=3: too large"))) for name in "ab"]
    _, error = swept(runs)
    assert error.startswith("ConfigError: 2 of 2 runs failed: ")


def test_failed_runs_go_on_unless_they_are_not_to_be_tried_again(tmp_path: Path) -> None:
    run = OneStep(tmp_path / "a", fail(RunError("too dark")))
    swept([run])
    _, error = swept([run], retry_failed=False)
    assert run.starts == 1
    assert error == f"RunError: 1 of 1 runs failed: {tmp_path}/a: too dark"
    run.does = lambda: None
    assert swept([run])[1] == ""
    assert run.starts == 2
    assert not (tmp_path / "a" / "error.json").exists()


def test_a_run_that_was_stopped_says_so_and_did_not_fail(tmp_path: Path) -> None:
    run = OneStep(tmp_path / "a", fail(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        swept([run])
    (status,) = statuses_of([run.directory])
    assert (status.state, status.detail) == ("stale", "stopped by Ctrl-C")
    run.does = lambda: None
    assert swept([run], retry_failed=False)[1] == ""


def test_a_failure_that_can_not_be_noted_ends_the_run_all_the_same(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("fm_al.planned_run.record_failure", lambda *_: None)
    monkeypatch.setattr("fm_al.launch.sweep.record_failure", lambda *_: None)
    _, error = swept([OneStep(tmp_path / "a", fail(RunError("the disk is full")))])
    assert error == f"RunError: 1 of 1 runs failed: {tmp_path}/a: the disk is full"


def test_an_error_nobody_foresaw_shows_where_it_is(tmp_path: Path, capsys) -> None:
    _, error = swept([OneStep(tmp_path / "a", fail(KeyError("x")))])
    assert error.endswith("a: KeyError: 'x'")
    assert "raise_it" in capsys.readouterr().err


def test_a_run_that_another_process_runs_is_left_alone_and_waited_for(tmp_path: Path) -> None:
    """Its records tell how it ends."""
    ours, theirs = OneStep(tmp_path / "a"), OneStep(tmp_path / "b")
    with open_run(theirs.directory, {}, DECIDES, [], []) as records:
        ours.does = lambda: records.finish(RESULT)
        shown, error = swept([ours, theirs])
    assert (ours.starts, theirs.starts) == (1, 0)
    assert "left alone: 1 run: 1 running" in shown
    assert error == ""


def test_a_run_that_is_taken_at_the_same_moment_is_left_to_whoever_has_it(tmp_path: Path) -> None:
    run = OneStep(tmp_path / "a", fail(RunLockedError("a is being written by process 5")))
    run.result = lambda *_: None  # type: ignore[method-assign]
    shown, error = swept([run])
    assert "left to the process that runs it: a is being written by process 5" in shown
    assert error.endswith("ended without a word: killed, cancelled or out of memory?")


def test_jobs_are_followed_by_their_records(tmp_path: Path) -> None:
    def jobs(taken: list[OneStep], look: int) -> None:
        if look == 1:
            taken[1].run(Console(quiet=True))
        if look == 3:
            record_failure(taken[0].directory, RunError(), "no such module")

    runs = [OneStep(tmp_path / name) for name in "ab"]
    with locked(tmp_path / "lock"):
        for run in runs:  # as if SLURM had them
            assign_run(run.directory, Assignment(tmp_path, tmp_path / "log.out"))
    with locked(tmp_path / "lock"):
        statuses = Elsewhere(jobs)
        statuses.taken = list(runs)
        shown, error = swept(runs, statuses)
    assert "left alone: 2 runs: 2 waiting" in shown
    assert "finished 1 of 2: " in shown
    assert f"failed: no such module: {tmp_path}/a\n  log: {tmp_path}/log.out\n" in shown
    assert error == f"RunError: 1 of 2 runs failed: {tmp_path}/a: no such module"


def test_a_job_that_ended_without_a_word_has_failed_after_a_while(tmp_path: Path) -> None:
    """A network file system may be late with its records."""

    def jobs(taken: list[OneStep], look: int) -> None:
        if look == 3:
            taken[0].run(Console(quiet=True))

    runs = [OneStep(tmp_path / name) for name in "ab"]
    late = Elsewhere(jobs)
    late.silence = 0.5
    late.poll = 0.01
    shown, error = swept(runs, late)
    assert late.looks > 10
    assert "finished 1 of 2: " in shown
    assert error.startswith(f"RunError: 1 of 2 runs failed: {tmp_path}/b: ended without a word")


def test_one_damaged_run_does_not_stop_the_others(tmp_path: Path) -> None:
    runs = [OneStep(tmp_path / name) for name in "abc"]
    for run in runs[:2]:
        run.run(Console(quiet=True))
    (tmp_path / "a" / "result.json").write_text("{")
    provenance = json.loads((tmp_path / "b" / "provenance.json").read_text())
    changed = json.dumps(provenance | {"decides": {"budget": 3}})
    (tmp_path / "b" / "provenance.json").write_text(changed)
    _, error = swept(runs)
    assert [run.starts for run in runs] == [1, 1, 1]
    assert error.startswith("RunError: 2 of 3 runs failed: ")
    assert "result.json is damaged" in error
    assert "holds a run that differs in budget" in error


def test_a_run_whose_directory_can_not_be_written_does_not_stop_the_others(
    tmp_path: Path,
) -> None:
    runs = [OneStep(tmp_path / name) for name in "abc"]
    (tmp_path / "b" / "job.json").mkdir(parents=True)
    shown, error = swept(runs)
    assert [run.starts for run in runs] == [1, 0, 1]
    assert "finished 2 of 3: " in shown
    assert error.startswith(
        f"RunError: 1 of 3 runs failed: {tmp_path}/b: [Errno 21] Is a directory"
    )


def test_a_run_whose_directory_can_not_be_read_does_not_stop_the_others(tmp_path: Path) -> None:
    runs = [OneStep(tmp_path / name) for name in "ab"]
    (tmp_path / "a" / "provenance.json").mkdir(parents=True)
    _, error = swept(runs)
    assert [run.starts for run in runs] == [0, 1]
    assert "provenance.json is no regular file" in error


def test_what_can_not_be_read_for_a_moment_is_read_again(tmp_path: Path, monkeypatch) -> None:
    """As of a network file system, here of records and of a lock."""
    errors = iter([OSError(116, "Stale file handle"), None, OSError(5, "Input/output error")])

    def jobs(taken: list[OneStep], look: int) -> None:
        if look == 4:
            taken[0].run(Console(quiet=True))

    def read(directory: Path) -> StoredRun:
        if directory.name == "a" and (error := next(errors, None)):
            raise error
        return stored_run(directory)

    monkeypatch.setattr("fm_al.launch.status.stored_run", read)
    (tmp_path / "b" / "lock").mkdir(parents=True)
    runs = [OneStep(tmp_path / name) for name in "ab"]
    followed = Elsewhere(jobs)
    followed.silence, followed.poll = 0.2, 0.01
    shown, error = swept(runs, followed)
    assert "finished 1 of 2: " in shown
    assert followed.looks > 4
    assert error.startswith(
        f"RunError: 1 of 2 runs failed: {tmp_path}/b: [Errno 21] Is a directory"
    )


def test_a_start_that_is_refused_is_tried_again_unless_it_is_the_first(tmp_path: Path) -> None:
    class Refusing(Elsewhere):
        refused = 0

        def start(self, waiting: deque[Any], folder: Path) -> None:
            if self.looks > 0 and self.refused < 3:
                self.refused += 1
                raise RunError("sbatch refuses: Socket timed out")
            if waiting:
                waiting.popleft().run(Console(quiet=True))
            self.looks += 1

    runs = [OneStep(tmp_path / name) for name in "abc"]
    shown, error = swept(runs, Refusing(lambda *_: None))
    assert error == ""
    assert [run.starts for run in runs] == [1, 1, 1]
    assert shown.count("sbatch refuses: Socket timed out; trying again\n") == 1
    refused = Refusing(lambda *_: None)
    refused.looks = 1
    with pytest.raises(RunError, match=r"Socket timed out$"):
        swept([OneStep(tmp_path / "d")], refused)


def test_runs_whose_turn_has_not_come_are_not_judged(tmp_path: Path) -> None:
    """Here their folder says nothing of the sweep that they wait for."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "linked").symlink_to(tmp_path / "elsewhere")
    runs = [OneStep(tmp_path / "linked" / name) for name in "abc"]
    runs[0].does = lambda: (tmp_path / "linked" / "b" / "job.json").unlink()
    console = Console(file=io.StringIO(), width=200)
    here = SerialLauncher(console)
    here.silence = 0.0
    _, error = swept(runs, here)
    assert error == ""


def test_what_would_be_started_is_told_with_its_reason(tmp_path: Path) -> None:
    runs = [OneStep(tmp_path / name) for name in "abc"]
    record_failure_of = tmp_path / "b"
    with open_run(
        record_failure_of, {}, {"budget": {"initial": 2, "per_round": 1, "total": 4}}, [], []
    ) as records:
        records.add_round(Round(round=0, labelled=2, queried=[3], accuracy=0.5))
    record_failure(record_failure_of, RunError(), "too dark")
    runs[2].run(Console(quiet=True))
    console = Console(file=io.StringIO(), width=200, soft_wrap=True)
    sweep = Sweep(runs, SerialLauncher(console), console)  # type: ignore[arg-type]
    sweep.print_plan(sweep.triage(retry_failed=True).values())
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().splitlines() == [
        "1 of 3 runs are finished",
        "would start 2 of 3 runs",
        f"  {tmp_path}/a  new",
        f"  {tmp_path}/b  failed after 1 of 3 rounds: too dark",
    ]


def test_a_sweeps_folder_says_what_it_was_asked_for(tmp_path: Path) -> None:
    swept([OneStep(tmp_path / "a")])
    asked = json.loads((tmp_path / "sweep" / "sweep.json").read_text())
    assert asked["runs"] == [str(tmp_path / "a")]
    assert asked["command"]


def test_the_summary_has_a_row_for_what_differs_in_more_than_the_seed() -> None:
    results = {
        Path("outputs/trial/digits-none/cnn/badge/seed0"): a_result(31, 0.5),
        Path("outputs/trial/digits-none/cnn/badge/seed1"): a_result(31, 0.7),
        Path("outputs/trial/digits-none/cnn/random/seed0"): a_result(31, 0.4),
    }
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(summary(results, {directory: {} for directory in results}, {}))
    lines = [line for line in console.export_text().splitlines() if " 40 " in line]
    rows = [re.split("  +", line.strip()) for line in lines]
    badge, random = ["0.600 ± 0.141"] * 3, ["0.400"] * 3
    assert rows == [["badge", "2", "40", *badge], ["random", "1", "40", *random]]
    assert summary({}, {}, {}).row_count == 0


def test_a_start_that_is_refused_for_long_ends_the_sweep_when_the_others_have_ended(
    tmp_path: Path, monkeypatch
) -> None:
    class Refusing(Elsewhere):
        poll = 0.01

        def start(self, waiting: deque[Any], folder: Path) -> None:
            if len(waiting) < 2:
                raise RunError("sbatch refuses: invalid account")
            waiting.popleft().run(Console(quiet=True))

    monkeypatch.setattr("fm_al.launch.sweep.REFUSED_FOR", 0.1)
    runs = [OneStep(tmp_path / name) for name in "ab"]
    with pytest.raises(RunError, match=r"^sbatch refuses: invalid account$"):
        swept(runs, Refusing(lambda *_: None))
    assert runs[0].result() is not None
