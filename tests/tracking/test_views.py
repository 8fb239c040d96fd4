"""The W&B view of a finished run is completed by the next start."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from fm_al.launch.status import NOT_WHOLE
from tests.helpers.command_line import QUICK, fm_al
from tests.helpers.made_records import without_digests
from tests.helpers.tracked_runs import folders, rows

pytestmark = pytest.mark.slow

QUICK_WANDB = [each for each in QUICK if each != "tracker=none"] + ["tracker=wandb"]


def view_of(result: Path) -> tuple[list[list[int]], str]:
    """The steps in each log of a run, and what its status says."""
    shown = fm_al(result.parent, ".", function="status")
    said = " ".join(shown.stdout.split())
    return [[row["_step"] for row in rows(folder)] for folder in folders(result.parent)], said


@pytest.mark.parametrize("sweep", [[], ["-m"]], ids=["run", "sweep"])
def test_a_view_that_lacks_rounds_is_completed_by_the_next_start(
    tmp_path: Path, sweep: list[str]
) -> None:
    command = [*sweep, *QUICK_WANDB, "strategy=random"]
    assert fm_al(tmp_path, *command).returncode == 0
    (result,) = tmp_path.rglob("result.json")
    whole = [[0, 1, 2, 3]]
    assert view_of(result)[0] == whole
    assert NOT_WHOLE not in view_of(result)[1]
    # As a kill leaves it: without the note, and with a log that breaks off, or with none.
    (log,) = folders(result.parent)[0].glob("*.wandb")
    for left in (len(log.read_bytes()) // 2, None):
        (result.parent / "wandb_logged.json").unlink()
        (result.parent / ".result.json.4711").touch()
        (log,) = folders(result.parent)[0].glob("*.wandb")
        if left is None:
            shutil.rmtree(result.parent / "wandb")
        else:
            os.truncate(log, left)
        assert view_of(result)[0] != whole
        assert NOT_WHOLE in view_of(result)[1]
        if sweep:
            fm_al(tmp_path, *command, "hydra.sweeper.dry_run=true")
            assert view_of(result)[0] != whole  # it only says what would be done
        again = fm_al(tmp_path, *command)
        assert (again.returncode, again.stderr) == (0, "")
        assert "completing the W&B view" in again.stdout
        assert view_of(result)[0] == whole
        assert NOT_WHOLE not in view_of(result)[1]
        assert not (result.parent / ".result.json.4711").exists()
    assert "completing" not in fm_al(tmp_path, *command).stdout


def test_a_view_of_an_earlier_version_is_known_by_its_log(tmp_path: Path) -> None:
    command = [*QUICK_WANDB, "strategy=random"]
    fm_al(tmp_path, *command)
    (result,) = tmp_path.rglob("result.json")
    directory = result.parent
    (directory / "wandb_logged.json").unlink()
    (before,) = folders(directory)
    for file in (result, directory / "rounds.jsonl"):
        lines = [file.read_text()] if file == result else file.read_text().splitlines()
        old = [json.dumps(without_digests(json.loads(line))) + "\n" for line in lines]
        file.write_text("".join(old))
    assert NOT_WHOLE not in view_of(result)[1]
    assert "completing" not in fm_al(tmp_path, *command).stdout
    assert folders(directory) == [before]
    assert (directory / "wandb_logged.json").exists()


def test_a_damaged_note_on_a_view_is_named_and_written_anew(tmp_path: Path) -> None:
    command = [*QUICK_WANDB, "strategy=random"]
    fm_al(tmp_path, *command)
    (result,) = tmp_path.rglob("result.json")
    note = result.parent / "wandb_logged.json"
    note.write_text("[")
    assert "wandb_logged.json is damaged" in view_of(result)[1]
    assert fm_al(tmp_path, *command).returncode == 0
    assert json.loads(note.read_text()) == {"rounds": 3, "state": "finished"}


def test_a_finished_run_says_nothing_of_wandb_where_it_had_none(tmp_path: Path) -> None:
    command = [*QUICK, "strategy=random"]
    fm_al(tmp_path, *command)
    (result,) = tmp_path.rglob("result.json")
    assert NOT_WHOLE not in view_of(result)[1]
    assert "completing" not in fm_al(tmp_path, *command).stdout
