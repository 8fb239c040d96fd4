"""Whatever happens to a run, its records end as those of one that nothing happened to."""

from __future__ import annotations

import functools
import json
import os
import random
import resource
import shutil
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fm_al.launch.status import NOT_WHOLE
from fm_al.records import lock, provenance
from tests.helpers.command_line import QUICK, fm_al
from tests.helpers.disturbed_runs import (
    ADD_ROUND,
    BEFORE_LOCKING,
    FINISH,
    FIT,
    IN_EACH_ROUND,
    LOCKED,
    LONGER,
    NEXT_RUN,
    OPTIONS,
    PLANNED,
    REVEAL,
    ROUNDS,
    SAVE,
    STAGES,
    TRACKING,
    WANDB,
    WRITES,
    Undisturbed,
    assert_one_clear_line,
    files_in,
    in_step,
    interrupt,
    put,
    resume,
    starts_of,
    status_after_kill,
    status_of,
    tracked_steps,
    undisturbed_run,
)
from tests.helpers.fault_runs import Start
from tests.helpers.made_records import without_times

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Undisturbed:
    return undisturbed_run(tmp_path_factory.mktemp("undisturbed"), OPTIONS, [])


@pytest.fixture(scope="module")
def longer(tmp_path_factory) -> Undisturbed:
    # Only a run that resumes loads a network.
    places = [place for stage, place in STAGES.items() if stage != "loading the network"]
    return undisturbed_run(tmp_path_factory.mktemp("longer"), LONGER, places)


@pytest.fixture(scope="module")
def tracked(tmp_path_factory) -> Undisturbed:
    return undisturbed_run(tmp_path_factory.mktemp("tracked"), WANDB, TRACKING)


# kill -9


@pytest.mark.parametrize("stage", STAGES)
def test_a_run_killed_at_drawn_moments_of_a_stage_resumes_to_the_same_end(
    stage: str, longer: Undisturbed, tmp_path: Path
) -> None:
    """Three times in each of twelve stages. Each kill happens: a process that reaches the end of
    the stage before its moment has come stops and is killed there."""
    directory = longer.in_folder(tmp_path)
    place, drawn = STAGES[stage], random.Random(stage)
    if stage == "loading the network":
        Start(tmp_path, LONGER, [ADD_ROUND]).until(ADD_ROUND, "left").kill()
    for may_be_later in (False, True, False):  # so that rounds are left for the third
        call = drawn.randint(1, 2) if may_be_later and stage in IN_EACH_ROUND else 1
        after = drawn.uniform(0, longer.seconds.get((place, 1), longer.seconds[SAVE, 1]))
        print(f"{stage}, call {call}: killed {after:.5f} s after it began")  # for a failure
        start = Start(tmp_path, LONGER, [place]).until(place, call=call)
        before = status_of(directory)
        start.kill(after)
        if stage in BEFORE_LOCKING:
            assert before.state == "new"
        else:
            assert before.state == "running"
            assert before.detail.startswith(f"process {start.pid} on ")
        if (directory / "result.json").exists():
            longer.assert_equals(directory)
            (directory / "result.json").unlink()  # to be killed there again
        began = (directory / "provenance.json").exists()
        assert status_after_kill(directory).state == ("stale" if began else "new")
    resume(directory, longer)
    longer.assert_equals(directory)


def test_a_run_resumes_to_the_same_end_from_all_that_a_kill_can_leave(
    undisturbed: Undisturbed, tmp_path: Path
) -> None:
    """What lies in the directory when the process is stopped before and after all that it writes
    and does is what there would be if it were killed there."""
    directory = undisturbed.in_folder(tmp_path)
    start, left = Start(tmp_path, OPTIONS, [*WRITES, *STAGES.values()]), []
    for _ in start.stops():
        if directory.exists() and (files := files_in(directory)) not in left:
            left.append(files)
    assert start.ended().returncode == 0
    assert len(left) > 5 * ROUNDS
    for number, files in enumerate(left):
        print(f"state {number}: {sorted(files)}")  # for a failure
        again = put(files, tmp_path / str(number))
        resume(again, undisturbed)
        undisturbed.assert_equals(again)


@pytest.mark.parametrize("strategy", ["galaxy", "direct"])
def test_a_round_killed_after_some_classes_are_revealed_is_redone_from_its_start(
    strategy: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    options = [option for option in OPTIONS if not option.startswith("strategy")]
    options.append(f"strategy={strategy}")
    undisturbed = undisturbed_run(tmp_path_factory.mktemp(strategy), options, [])
    directory = undisturbed.in_folder(tmp_path)
    Start(tmp_path, options, [REVEAL]).until(REVEAL, "left", call=14).kill()
    assert len((directory / "rounds.jsonl").read_text().splitlines()) == 1
    resume(directory, undisturbed)
    undisturbed.assert_equals(directory)


def test_a_run_killed_while_wandb_begins_logs_and_finishes_is_tracked_once(
    tracked: Undisturbed, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    assert tracked.records == undisturbed.records
    directory, drawn = tracked.in_folder(tmp_path), random.Random("tracker")
    begin, log_round, log_result, finish = TRACKING
    for place, call in ((begin, 1), (log_round, 1), (log_round, 2), (finish, 1)):
        after = drawn.uniform(0, tracked.seconds[place, call])
        print(f"{place}, call {call}: killed {after:.5f} s after it began")  # for a failure
        start = Start(tmp_path, WANDB, [place, FINISH], in_step)
        if place == finish:  # that of a run which is not
            start.until(FINISH)
            start.go_on(interrupt)
        start.until(place, call=call)
        start.kill(after)
        assert status_after_kill(directory).state == "stale"
    assert Start(tmp_path, WANDB).ended().returncode == 0
    tracked.assert_equals(directory)
    every_step = [*range(ROUNDS), ROUNDS]  # the confusion matrix is in a row of its own
    assert tracked_steps(directory) == [every_step]

    (directory / "result.json").unlink()
    shutil.rmtree(directory / "wandb")
    start = Start(tmp_path, WANDB, [log_result]).until(log_result)
    start.kill(drawn.uniform(0, tracked.seconds[log_result, 1]))
    assert without_times(directory) == tracked.records
    after = status_after_kill(directory)
    assert (after.state, after.detail) == ("finished", NOT_WHOLE)
    again = Start(tmp_path, WANDB).ended().stdout
    assert "completing the W&B view" in again
    assert "finished already" in again
    tracked.assert_equals(directory)
    assert tracked_steps(directory) == [every_step]
    assert "completing" not in Start(tmp_path, WANDB).ended().stdout


# A full disk


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="limits are set from outside: Linux")
@pytest.mark.parametrize(
    ("place", "call", "limit", "says"),
    [
        (LOCKED, 1, 10, "lock"),
        ("fm_al.records.writing:atomic_write", 1, 700, "config.yaml"),
        ("fm_al.records.writing:write_json", 1, 700, "provenance.json"),
        (SAVE, 2, 700, "weights-1.pt"),
        (ADD_ROUND, 3, 1500, "round 3 can't be written to"),
        (FINISH, 1, 700, "the result can't be written to"),
    ],
)
def test_what_can_not_be_written_ends_a_run_that_resumes_later(
    place: str, call: int, limit: int, says: str, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    """By a limit on the size of files that comes into force in mid-run, and in mid-line."""
    directory = undisturbed.in_folder(tmp_path)
    start = Start(tmp_path, OPTIONS, [place]).until(place, call=call)
    hard = resource.prlimit(start.pid, resource.RLIMIT_FSIZE)[1]
    resource.prlimit(start.pid, resource.RLIMIT_FSIZE, (limit, hard))
    end = start.ended()
    assert_one_clear_line(end, says, "File too large")
    recorded = (directory / "error.json").exists()
    assert status_of(directory).state == ("failed" if recorded else "new")
    assert recorded or limit == 10
    resume(directory, undisturbed)
    undisturbed.assert_equals(directory)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4k", "fm_al", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("to mount a file system needs root, with the right to")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_on_a_full_disk_a_run_gets_further_with_every_bit_of_room(
    small_disk: Path, undisturbed: Undisturbed
) -> None:
    directory = undisturbed.in_folder(small_disk)
    (small_disk / "other").write_bytes(bytes(4096))
    rounds = [0]
    for pages in range(1, 20):
        remount = ["mount", "-o", f"remount,size={4 * pages}k", str(small_disk)]
        subprocess.run(remount, check=True)
        end = Start(small_disk, OPTIONS).ended()
        if end.returncode == 0:
            break
        assert_one_clear_line(
            end, "No space left on device", str(directory.relative_to(small_disk))
        )
        rounds.append(status_of(directory).rounds)
    assert rounds == sorted(rounds)
    assert rounds[-1] > 0
    undisturbed.assert_equals(directory)


# A torn line


def test_a_run_resumes_to_the_same_end_wherever_its_last_line_is_cut(
    undisturbed: Undisturbed, tmp_path: Path
) -> None:
    """That any cut is read as this line's absence is shown of each byte where the reading is."""
    Start(tmp_path, OPTIONS, [ADD_ROUND]).until(ADD_ROUND, "left", call=3).kill()
    files = files_in(undisturbed.in_folder(tmp_path))
    before, line = files["rounds.jsonl"][:-1].rsplit(b"\n", 1)
    for cut in [0, *random.Random("cuts").sample(range(1, len(line)), 10), len(line)]:
        print(f"cut after {cut} bytes of {len(line)}")  # for a failure
        torn = files | {"rounds.jsonl": before + b"\n" + line[:cut]}
        directory = put(torn, tmp_path / str(cut))
        resume(directory, undisturbed)
        undisturbed.assert_equals(directory)


# Two starts


@pytest.mark.parametrize("_", range(3))
def test_of_two_starts_at_one_moment_one_runs_and_the_other_names_it(
    _: int, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    directory = undisturbed.in_folder(tmp_path)
    starts = [Start(tmp_path, OPTIONS, [LOCKED, FIT]) for _ in range(2)]
    for start in starts:
        start.until(LOCKED, "left")  # made, not entered yet
    for start in starts:
        start.go_on()
    reached = [next(start.stops(), None) for start in starts]
    (stop,) = filter(None, reached)
    winner, loser = starts if reached[0] == stop else reversed(starts)
    assert status_of(directory).detail.startswith(f"process {winner.pid} on ")
    assert_one_clear_line(loser.ended(), f"is being written by process {winner.pid} on ")
    assert winner.ended().returncode == 0
    undisturbed.assert_equals(directory)
    assert [entry["process"] for entry in starts_of(directory)] == [winner.pid]


def test_a_start_that_comes_to_a_run_as_it_ends_finds_it_finished(
    undisturbed: Undisturbed, tmp_path: Path
) -> None:
    directory = undisturbed.in_folder(tmp_path)
    late = Start(tmp_path, OPTIONS, [LOCKED]).until(LOCKED)
    first = Start(tmp_path, OPTIONS).ended()
    end = late.ended()
    assert (first.returncode, end.returncode) == (0, 0)
    assert "round 4/4" in first.stdout
    assert "round 4/4" not in end.stdout
    assert first.stdout.splitlines()[-2:] == end.stdout.splitlines()[-2:]
    undisturbed.assert_equals(directory)
    assert len(starts_of(directory)) == 1


def test_two_starts_of_one_sweep_share_its_runs(tmp_path: Path) -> None:
    sweep = ["-m", *QUICK, "strategy=random", "seed=range(0,3)"]
    alone, together = tmp_path / "alone", tmp_path / "together"
    for folder in (alone, together):
        folder.mkdir()
    table = fm_al(alone, *sweep).stdout.partition("mean ±")[2]
    assert table

    first, second = (Start(together, sweep, [PLANNED, NEXT_RUN, FIT]) for _ in range(2))
    for place in (PLANNED, NEXT_RUN):  # each knows nothing of the other
        for start in (first, second):
            start.until(place)
    first.until(FIT)
    second.until(NEXT_RUN, call=2)
    second.go_on(freely=True)
    ends = [start.ended() for start in (first, second)]
    assert [end.returncode for end in ends] == [0, 0], ends
    assert [end.stdout.partition("mean ±")[2] for end in ends] == [table] * 2
    assert "left to the process that runs it: outputs/" in ends[1].stdout
    assert f"is being written by process {first.pid} on " in ends[1].stdout
    results = sorted(alone.rglob("result.json"))
    assert len(results) == 3
    for result in results:
        directory = together / result.parent.relative_to(alone)
        assert without_times(directory) == without_times(result.parent)
        assert len(starts_of(directory)) == 1


# A lock that is left


def mark_files(directory: Path, hours: float) -> None:
    """Sets all files' times so far from now."""
    for path in directory.iterdir():
        os.utime(path, (time.time() + 3600 * hours,) * 2)


@pytest.mark.parametrize(
    ("change", "hours"),
    [
        ({}, 0),
        ({"pid": os.getpid()}, 5),
        *(({"machine": "elsewhere"}, hours) for hours in (-5, 0, 5)),
    ],
)
def test_a_lock_left_by_a_dead_process_holds_nobody_up(
    change: dict[str, Any], hours: float, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    """Of this machine, also where another process has its number by now, or of another machine."""
    directory = undisturbed.in_folder(tmp_path)
    start = Start(tmp_path, OPTIONS, [FIT]).until(FIT, call=2)
    start.kill()
    file = directory / "lock"
    left = json.loads(file.read_text())
    assert left["pid"] == start.pid
    file.write_text(json.dumps(left | change))
    mark_files(directory, hours)
    # A sign of life from another machine is believed for a while by those who only look.
    believed = "machine" in change and hours >= 0
    assert status_of(directory).state == ("running" if believed else "stale")
    with pytest.MonkeyPatch.context() as patched:
        for name, value in (("BEAT", 0.02), ("WATCH", 0.2), ("RETRY", 0.1)):
            patched.setattr(lock, name, value)
        resume(directory, undisturbed)
    undisturbed.assert_equals(directory)


# A clock that jumps


def set_clock(hours: float) -> None:
    """Puts this process's clock so far from the true one, and shows life often."""
    true_time, true_now = time.time, datetime.now
    lock.BEAT, lock.RETRY = 0.01, 0.1
    time.time = lambda: true_time() + 3600 * hours

    class Now(datetime):
        @classmethod
        def now(cls, *zone: Any) -> datetime:
            return true_now(*zone) + timedelta(hours=hours)

    provenance.datetime = Now


@pytest.mark.parametrize("hours", [-5, 5])
def test_a_clock_that_jumps_changes_nothing(
    hours: float, tracked: Undisturbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In mid-run, between two starts, and for those who look."""
    directory = tracked.in_folder(tmp_path)
    first = Start(tmp_path, WANDB, [FIT], functools.partial(set_clock, 0))
    first.until(FIT, call=2)
    mark_files(directory, hours)
    true_time = time.time
    for jump in (hours, -hours):
        monkeypatch.setattr(time, "time", lambda jump=jump: true_time() + 3600 * jump)
        assert status_of(directory).state == "running"
        monkeypatch.undo()
        other = Start(tmp_path, WANDB, change=functools.partial(set_clock, jump))
        assert_one_clear_line(other.ended(), f"is being written by process {first.pid} on ")
    first.go_on(functools.partial(set_clock, hours))
    first.until(FIT, call=3).kill()
    mark_files(directory, hours)
    assert status_of(directory).state == "stale"
    again = Start(tmp_path, WANDB, change=functools.partial(set_clock, -hours))
    assert again.ended().returncode == 0, again.ended()
    tracked.assert_equals(directory)
    assert tracked_steps(directory) == [[*range(ROUNDS), ROUNDS]]
    began, went_on = (datetime.fromisoformat(start["time"]) for start in starts_of(directory))
    assert abs(went_on - began + timedelta(hours=hours)) < timedelta(hours=1)
