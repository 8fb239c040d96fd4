"""Classes as a configuration names them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from fm_al.errors import ConfigError


def class_numbers(key: str, wanted: Iterable[int | str], class_names: tuple[str, ...]) -> list[int]:
    """The number of each class, given by its number, from 0, or by its name. `key` is the option
    that names them. Raises ConfigError for one that is not there, or is there twice."""
    numbers: list[int] = []
    for which in wanted:
        number = _class_number(key, which, class_names)
        if number in numbers:
            raise ConfigError(f"{key}: class {number} ({class_names[number]}) is named twice")
        numbers.append(number)
    return numbers


def _class_number(key: str, which: int | str, class_names: tuple[str, ...]) -> int:
    last = len(class_names) - 1
    if isinstance(which, int):
        if not 0 <= which <= last:
            raise ConfigError(f"{key}: no class {which}; the classes are numbered 0 to {last}")
        return which
    if which not in class_names:
        close = difflib.get_close_matches(which, class_names, n=3) or class_names[:3]
        raise ConfigError(
            f"{key}: no class {which!r}; the {last + 1} classes have names such as "
            f"{', '.join(map(repr, close))}, and numbers from 0 to {last}"
        )
    return class_names.index(which)
