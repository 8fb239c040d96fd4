"""Reads files that anything may have happened to: each gives what it should hold, or one line that
names it."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fm_al.errors import RunError
from fm_al.files import not_through_links

Record = dict[str, Any]

DEEPEST = 100  # levels of nesting; Python's own limit depends on who calls
LONGEST_SHOWN = 60  # characters of a value


class Schema(BaseModel):
    """What a record has to hold; further keys are left alone."""

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)


# Neither a path nor an argument of a command can hold a NUL.
Text = Annotated[str, Field(pattern=r"^[^\x00]*$")]


def content_of(path: Path) -> bytes | None:
    """None where there is no such file. Raises RunError for what is no regular file: a symbolic
    link, which may lead anywhere, a folder or a pipe."""
    try:
        descriptor = not_through_links(str(path), os.O_RDONLY)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise RunError(f"{path} is a symbolic link, where a regular file belongs") from None
        raise
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise RunError(f"{path} is no regular file")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(descriptor)


def parsed(text: bytes, schema: type[Schema]) -> Record:
    """The JSON object in a text. Raises ValueError, which says what is wrong with it."""
    try:
        record = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(record, dict):
        raise ValueError(f"should be an object, is {shown(record)}")
    if text.count(b"[") + text.count(b"{") > DEEPEST and _is_deeper(record, DEEPEST):
        raise ValueError("nested too deeply")
    try:
        schema.model_validate(record)
    except ValidationError as error:
        raise ValueError(_first_of(error)) from None
    return record


def read_json(path: Path, schema: type[Schema], advice: str) -> Record | None:
    """None where there is no such file. Raises RunError, with the advice, for one that is
    damaged."""
    try:
        content = content_of(path)
        return None if content is None else parsed(content, schema)
    except RunError as error:
        raise RunError(f"{error}; {advice}") from None
    except ValueError as error:
        raise RunError(f"{path} is damaged ({error}); {advice}") from None


def shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def _is_deeper(value: Any, levels: int) -> bool:
    level = [value]
    for _ in range(levels):
        level = [
            child
            for each in level
            for child in (each.values() if isinstance(each, dict) else each)
            if isinstance(child, dict | list)
        ]
    return bool(level)


def _first_of(error: ValidationError) -> str:
    errors = error.errors(include_url=False)
    if lacks := [_key(each["loc"]) for each in errors if each["type"] == "missing"]:
        return f"lacks {', '.join(lacks)}"
    first = errors[0]
    should, _, _ = first["msg"].removeprefix("Input ").partition(" or instance of")
    return f"{_key(first['loc'])}={shown(first['input'])}: {should}"


def _key(steps: tuple[int | str, ...]) -> str:
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
    return text.removeprefix(".")
