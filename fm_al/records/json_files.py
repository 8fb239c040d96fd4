"""Read JSON files that may be damaged: a checked model, or a one-line error that names the file."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from fm_al.errors import RunError
from fm_al.files import not_through_links

MAX_DEPTH = 100  # levels of nesting; Python's own limit depends on the caller
LONGEST_VALUE = 60  # characters of a value in an error


class Schema(BaseModel):
    """A JSON object, checked strictly. Unknown keys are kept: a newer version may have written
    them."""

    model_config = ConfigDict(strict=True, extra="allow", frozen=True, allow_inf_nan=False)

    def lacks(self, *names: str) -> list[str]:
        """Returns the fields among `names` that the file does not have."""
        return [name for name in names if name not in self.model_fields_set]

    def as_json(self) -> dict[str, Any]:
        """Returns what the file holds: only the fields that were set, in the schema's order."""
        return self.model_dump(exclude_unset=True)


AnySchema = TypeVar("AnySchema", bound=Schema)


def file_content(path: Path) -> bytes | None:
    """Reads a regular file.

    Returns:
        The content, or None if the file does not exist.

    Raises:
        RunError: The path is a symbolic link (which may lead anywhere), a folder or a pipe.
    """
    try:
        descriptor = not_through_links(str(path), os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
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


def parse_object(text: bytes) -> dict[str, Any]:
    """Parses a JSON object. Raises ValueError, which says what is wrong with the text."""
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError(f"should be an object, is {shortened(value)}")
    if text.count(b"[") + text.count(b"{") > MAX_DEPTH and _is_deeper(value, MAX_DEPTH):
        raise ValueError("nested too deeply")
    return value


def validated(value: dict[str, Any], schema: type[AnySchema]) -> AnySchema:
    """Checks an object against a schema. Raises ValueError, which names the first wrong field."""
    try:
        return schema.model_validate(value)
    except ValidationError as error:
        raise ValueError(_first_problem(error)) from None


def read_object(path: Path, advice: str) -> dict[str, Any] | None:
    """Reads a JSON object from a file; None if the file does not exist. Raises RunError, with the
    advice, if it is damaged."""
    with damage_named(path, advice):
        content = file_content(path)
        return None if content is None else parse_object(content)


def read_json(path: Path, schema: type[AnySchema], advice: str) -> AnySchema | None:
    """Reads and checks a JSON file; None if it does not exist. Raises RunError, with the advice, if
    it is damaged."""
    value = read_object(path, advice)
    if value is None:
        return None
    with damage_named(path, advice):
        return validated(value, schema)


@contextmanager
def damage_named(path: Path, advice: str) -> Iterator[None]:
    """Turns a ValueError about a file's content into a RunError that names the file and ends with
    the advice."""
    try:
        yield
    except RunError as error:
        raise RunError(f"{error}; {advice}") from None
    except ValueError as error:
        raise RunError(f"{path} is damaged ({error}); {advice}") from None


def shortened(value: Any) -> str:
    """A value as JSON, cut to the length that an error has room for."""
    text = json.dumps(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."


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


def _first_problem(error: ValidationError) -> str:
    errors = error.errors(include_url=False)
    if missing := [_dotted(each["loc"]) for each in errors if each["type"] == "missing"]:
        return f"lacks {', '.join(missing)}"
    first = errors[0]
    expected, _, _ = first["msg"].removeprefix("Input ").partition(" or instance of")
    return f"{_dotted(first['loc'])}={shortened(first['input'])}: {expected}"


def _dotted(steps: tuple[int | str, ...]) -> str:
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
    return text.removeprefix(".")
