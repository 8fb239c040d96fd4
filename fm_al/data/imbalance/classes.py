"""Finds the classes that a configuration names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from fm_al.errors import ConfigError


def class_numbers(key: str, wanted: Iterable[int | str], class_names: tuple[str, ...]) -> list[int]:
    """Look up classes that are given by name or by number.

    If the names are numbers themselves, and not those of their classes (folders `1` to `12`), an
    integer is a name: 7 is the class `7`, or `07`. For digits, MNIST and SVHN both are the same.

    Args:
        key: The option that names the classes, for errors.
        wanted: Names or numbers of classes.
        class_names: By a class's number.

    Returns:
        The classes' numbers, from 0, in the order of `wanted`.

    Raises:
        ConfigError: If a class is unknown, ambiguous or named twice.
    """
    numbers: list[int] = []
    for which in wanted:
        number = _class_number(key, which, class_names)
        if number in numbers:
            raise ConfigError(f"{key}: class {class_names[number]!r} is named twice")
        numbers.append(number)
    return numbers


def _class_number(key: str, which: object, class_names: tuple[str, ...]) -> int:
    # YAML reads a name such as `true` or `1.5` as a bool or a float, and a bool is an int.
    name = str(which).lower() if isinstance(which, bool) else str(which)
    if type(which) is int:
        as_integers = [_as_integer(each) for each in class_names]
        if all(value in (None, number) for number, value in enumerate(as_integers)):
            if which not in range(len(class_names)):
                raise ConfigError(
                    f"{key}: no class {which}; the classes are numbered 0 to {len(class_names) - 1}"
                )
            return which
        alike = [number for number, value in enumerate(as_integers) if value == which]
        if len(alike) > 1:
            spelt = ", ".join(repr(class_names[number]) for number in alike)
            raise ConfigError(f"{key}: {which} could be any of the classes {spelt}; quote its name")
        if alike:
            return alike[0]
    if name not in class_names:
        close = difflib.get_close_matches(name, class_names, n=3) or class_names[:3]
        listed = ", ".join(map(repr, close))
        raise ConfigError(
            f"{key}: no class {name!r}; the {len(class_names)} classes have names such as {listed}"
        )
    return class_names.index(name)


def _as_integer(name: str) -> int | None:
    return int(name) if re.fullmatch(r"-?[0-9]+", name) else None
