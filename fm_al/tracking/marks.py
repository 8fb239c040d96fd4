"""Small files in a run's directory that say what its W&B run holds."""

from __future__ import annotations

import re
import secrets
from pathlib import Path
from typing import Any

from fm_al.errors import RunError
from fm_al.files import atomic_write, write_json
from fm_al.records.json_files import Schema, file_content, read_json
from fm_al.records.schema import Result

LOGGED = "wandb_logged.json"  # the view holds all of a finished run
UPLOADED = "wandb_uploaded.json"  # what fm-al-sync has uploaded
RUN_ID = re.compile(r"([A-Za-z0-9_-]+)\s*")


class Mark(Schema):
    """How much of a run W&B holds.

    Attributes:
        rounds: Number of rounds.
        state: `finished`, `failed` or `unfinished`.
    """

    rounds: int
    state: str


class UploadMark(Schema):
    """What fm-al-sync has uploaded of a run, and to where."""

    project: str | None = None
    entity: str | None = None
    group: str | None = None
    rounds: int | None = None
    state: str | None = None

    def covers(self, wanted: dict[str, Any]) -> bool:
        """Whether this much was uploaded to this place."""
        return self.as_json().items() >= wanted.items()


def run_id(directory: Path) -> str:
    """The W&B id of the run in a directory, drawn at random the first time. Raises RunError if its
    file is damaged."""
    file = directory / "wandb_run_id"
    content = file_content(file)
    if content is None:
        content = f"{secrets.token_hex(8)}\n".encode()
        atomic_write(file, content)
    found = RUN_ID.fullmatch(content.decode(errors="replace"))
    if found is None:
        raise RunError(
            f"{file} is damaged (should be an id of letters and digits); restore it from a copy: "
            "without it, W&B would hold the run twice"
        )
    return found[1]


def has_view(directory: Path) -> bool:
    """Whether a tracker has begun a W&B run of the run in a directory."""
    return (directory / "wandb_run_id").exists()


def mark_complete(directory: Path, rounds: int) -> None:
    """Marks that the view of a finished run holds all of it."""
    write_json(directory / LOGGED, Mark(rounds=rounds, state="finished").as_json())


def is_marked_complete(directory: Path, result: Result) -> bool:
    """Whether a mark says that the view of a finished run, or the server, holds all of it. Raises
    RunError if a mark is damaged."""
    for name in (LOGGED, UPLOADED):
        mark = read_json(directory / name, Mark, "remove it to have W&B's view completed again")
        if mark is not None and (mark.rounds, mark.state) == (result.rounds, "finished"):
            return True
    return False


def mark_uploaded(directory: Path, mark: UploadMark) -> None:
    """Replaces the mark of what was uploaded."""
    write_json(directory / UPLOADED, mark.as_json())


def upload_mark(directory: Path) -> UploadMark:
    """What fm-al-sync has uploaded; raises RunError if the mark is damaged."""
    advice = "remove it to upload the run again"
    return read_json(directory / UPLOADED, UploadMark, advice) or UploadMark()
