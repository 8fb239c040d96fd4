"""The log that wandb writes of a run, `run-<id>.wandb`: its rows, and whether it is complete."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fm_al.records.schema import Result

BLOCK, HEADER = 32_768, 7  # bytes; of the file format LevelDB's logs have
WHOLE, FIRST, MIDDLE, LAST = 1, 2, 3, 4  # kinds of pieces


def complete_log(directory: Path, result: Result) -> Path | None:
    """Returns a log that holds all of a finished run, if there is one."""
    # Older versions, whose results have no digest, did not mark what they had sent.
    logs = "offline-run-*" if result.digest else "*run-*"
    found = (directory / "wandb").glob(f"{logs}/run-*.wandb")
    return next((log for log in sorted(found) if _is_complete(log, result.rounds)), None)


def remove_superseded_logs(log: Path) -> None:
    """Removes the folders of offline runs that the one with this log replaces."""
    for other in log.parents[1].glob(f"offline-run-*-{log.stem.removeprefix('run-')}*"):
        if other != log.parent:
            shutil.rmtree(other)


def history(log: Path) -> Iterator[dict[str, Any]]:
    """Yields the rows of a run's history, up to where the log breaks off."""
    return (_row(message) for message in _messages(log) if message.HasField("history"))


def _is_complete(log: Path, rounds: int) -> bool:
    """Whether it has an end and the row after the last round, which is logged last."""
    step, has_ended = -1, False
    try:
        for message in _messages(log):
            if message.HasField("history"):
                step = _row(message)["_step"]
            has_ended = has_ended or message.HasField("exit")
    except (ValueError, KeyError):  # damaged
        return False
    return has_ended and step == rounds


def _row(message: Any) -> dict[str, Any]:
    return {
        item.key or "/".join(item.nested_key): json.loads(item.value_json)
        for item in message.history.item
    }


def _messages(log: Path) -> Iterator[Any]:
    """Yields the protobuf records of a log, up to where it breaks off.

    The format is LevelDB's: blocks with pieces of records, each after a header of checksum (4
    bytes), length (2) and kind (1).
    """
    from google.protobuf.message import DecodeError
    from wandb.proto import wandb_internal_pb2

    content = log.read_bytes()
    position, record = HEADER, b""  # after the file's own header
    while position + HEADER <= len(content):
        if (left := BLOCK - position % BLOCK) < HEADER:
            position += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, position)
        piece = content[position + HEADER : position + HEADER + length]
        if len(piece) < length or kind not in (WHOLE, FIRST, MIDDLE, LAST):
            return
        position += HEADER + length
        record = piece if kind in (WHOLE, FIRST) else record + piece
        if kind in (WHOLE, LAST):
            try:
                yield wandb_internal_pb2.Record.FromString(record)  # type: ignore[attr-defined]
            except DecodeError:
                return
