"""Checks a configuration before anything is loaded, and builds objects from it.

The schema of the top level is defined here. The schema of a group is the signature of the class
that its `_target_` names, so that an option is declared once, where it is used. Pydantic checks
values.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
import json
import math
import types
import typing
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError

from fm_al.budget import Budget
from fm_al.errors import ConfigError, errors_named

GROUPS = (
    *("dataset", "imbalance", "features", "backbone", "strategy", "trainer", "device", "tracker"),
)
MAX_NAME_BYTES = 120  # of an experiment's name; file systems allow 255
GIVEN_BY_DATA = {"backbone": ("channels", "classes", "image_size")}
ANY_KIND: Mapping[str, type] = MappingProxyType({})
MAX_INT = 2**63 - 1
MAX_FLOAT = 3.4028234663852886e38  # the largest float32


def _path(text: str) -> str:
    if not text or not text.isprintable():
        raise ValueError("should be the name of a folder")
    return text


def _folder_name(text: str) -> str:
    # An accent may be a character of its own, which is neither letter nor digit.
    body = [c for c in text if not unicodedata.category(c).startswith("M")]
    if not text[:1].isalnum() or not all(c.isalnum() or c in "._+=,-" for c in body):
        raise ValueError("should be a letter or digit, then letters, digits and . _ + = , -")
    if (length := len(text.encode())) > MAX_NAME_BYTES:
        raise ValueError(f"should have at most {MAX_NAME_BYTES} bytes; it has {length}")
    return text


@dataclass(frozen=True)
class Settings:
    """The top level of a configuration, without the budget and the groups."""

    seed: Annotated[int, Field(ge=0, lt=2**63)]
    output_dir: Annotated[str, AfterValidator(_path)]
    data_dir: Annotated[str, AfterValidator(_path)]
    download: bool
    experiment_name: Annotated[str, AfterValidator(_folder_name)]


def check(config: dict[str, Any], kinds: Mapping[str, type] = ANY_KIND) -> None:
    """Check a resolved configuration.

    Args:
        config: The whole configuration.
        kinds: By group, the class that its `_target_` has to derive from.

    Raises:
        ConfigError: For the first invalid key.
    """
    check_settings(config)
    check_groups(config, {group: kinds.get(group, object) for group in GROUPS})
    if (start := config["budget"].get("start")) is not None:
        check_node("budget.start", start, kinds.get("budget.start", object))


def check_settings(config: dict[str, Any]) -> None:
    """Check everything but the contents of the groups. Raises ConfigError as `check` does."""
    sections = ("budget", *GROUPS)
    top_level = [*_options(Settings), *sections]
    _check_names("", list(config), allowed=top_level, required=top_level)
    check_arguments("", {k: v for k, v in config.items() if k not in sections}, Settings)
    if not isinstance(config["budget"], dict):
        raise ConfigError(f"budget={_format_value(config['budget'])}: should be a mapping")
    budget = {k: v for k, v in config["budget"].items() if k != "start"}
    check_arguments("budget", budget, Budget)  # checking the start would import torch
    Budget(**budget)


def check_groups(config: dict[str, Any], kinds: Mapping[str, type]) -> None:
    """Check these groups. Arguments and errors are those of `check`."""
    for group, kind in kinds.items():
        check_node(group, config[group], kind, GIVEN_BY_DATA.get(group, ()))


def build(node: Any, **given: Any) -> Any:
    """Build the object that a checked node describes, and those nested in it.

    Args:
        node: A mapping with a `_target_`; anything else is returned as it is. With `_partial_`, a
            function is returned that takes the missing arguments.
        given: Arguments that are not in the node.

    Raises:
        ConfigError: If the class raises any error.
    """
    if not isinstance(node, dict) or "_target_" not in node:
        return node
    target = _imported("", node["_target_"])
    arguments = {k: build(v) for k, v in node.items() if k not in ("_target_", "_partial_")}
    if node.get("_partial_"):
        return functools.partial(target, **arguments)
    with errors_named(f"{node['_target_']}.__init__ failed", ConfigError):
        return target(**arguments, **given)


def built_class(node: dict[str, Any]) -> type:
    """The class of the object that `build` makes of a checked node."""
    return _made_by(_imported("", node["_target_"]))


def check_node(key: str, node: Any, kind: Any, given: tuple[str, ...] = ()) -> None:
    """Check a node with a `_target_`.

    Args:
        key: Where it is in the configuration.
        node: The node.
        kind: What it has to describe: a class, or any annotation.
        given: Arguments that the program gives and a configuration may not.

    Raises:
        ConfigError: For the first invalid key.
    """
    if not isinstance(node, dict) or not isinstance(node.get("_target_"), str):
        raise ConfigError(f"{key}={_format_value(node)}: should be a mapping with a _target_")
    target = _imported(key, node["_target_"])
    there = f"{key}._target_={node['_target_']}"
    is_partial = node.get("_partial_", False)
    makes = _class_in(kind)
    if not (is_partial is False or (is_partial is True and makes is not kind)):
        raise ConfigError(f"{key}._partial_={_format_value(is_partial)}: should be left out")
    if not callable(target) or not (makes is object or issubclass(_made_by(target), makes)):
        name = f" derived from {makes.__module__}.{makes.__qualname__}" * (makes is not object)
        raise ConfigError(f"{there}: should be a class{name}")
    if inspect.isabstract(target):
        lacks = ", ".join(sorted(target.__abstractmethods__))
        raise ConfigError(f"{there}: is abstract; should be a class that has {lacks}")
    arguments = {k: v for k, v in node.items() if k not in ("_target_", "_partial_")}
    if is_partial:
        given = tuple(name for name, (_, needed) in _options(target).items() if needed)
    check_arguments(key, arguments, target, given)


def _class_in(annotation: Any) -> type:
    """The class that an option with this annotation has to be, or to return when called."""
    if typing.get_origin(annotation) is Callable:
        annotation = typing.get_args(annotation)[-1]
    is_open = annotation in (Any, inspect.Parameter.empty)
    return annotation if isinstance(annotation, type) and not is_open else object


def _made_by(target: Callable[..., Any]) -> type:
    """What calling a target makes: a class its objects, a function what its annotation says."""
    made = target if isinstance(target, type) else _hints(target).get("return")
    return made if isinstance(made, type) else object


def check_arguments(
    key: str, arguments: dict[str, Any], target: Any, given: tuple[str, ...] = ()
) -> None:
    """Check the arguments of a class or function; see `check_node` for the others."""
    options = {name: option for name, option in _options(target).items() if name not in given}
    required = [name for name, (_, needed) in options.items() if needed]
    _check_names(key, list(arguments), list(options), required)
    for name, value in arguments.items():
        annotation, _ = options[name]
        full_key = f"{key}.{name}" if key else name
        check_range(full_key, value)
        if isinstance(value, dict) and "_target_" in value:
            check_node(full_key, value, annotation)
        elif annotation is not inspect.Parameter.empty:
            _check_value(full_key, value, annotation)


def unknown_options(key: str, node: Any) -> list[str]:
    """List the keys of a node, and of nodes in it, that its `_target_` does not accept."""
    if not isinstance(node, dict) or not isinstance(node.get("_target_"), str):
        return []
    options = _options(_imported(key, node["_target_"]))
    unknown = []
    for name, value in node.items():
        if name not in ("_target_", "_partial_"):
            full_key = f"{key}.{name}"
            unknown += unknown_options(full_key, value) if name in options else [full_key]
    return unknown


def _check_names(key: str, names: list[str], allowed: list[str], required: list[str]) -> None:
    for name in names:
        if name not in allowed:
            raise ConfigError(no_such_option(key, name, allowed))
    for name in required:
        if name not in names:
            raise ConfigError(f"{key}.{name}: is missing" if key else f"{name}: is missing")


def no_such_option(parent: str, name: str, allowed: list[str], joint: str = ".") -> str:
    """Word the error for a misspelled name: what there is, and what was probably meant."""
    prefix = f"{parent}{joint}" if parent else ""
    close = difflib.get_close_matches(name, allowed, n=1)
    meant = f"; did you mean {prefix}{close[0]}?" if close else ""
    there = f"has: {', '.join(allowed)}" if allowed else "has no options"
    return f"{prefix}{name}: no such option; {parent or 'the top level'} {there}{meant}"


def _numbers(place: str, value: Any) -> Iterator[tuple[str, int | float]]:
    """Yield the numbers in an option's value, with their places in it."""
    if isinstance(value, int | float):
        yield place, value
    elif isinstance(value, list):
        for position, entry in enumerate(value):
            yield from _numbers(f"{place}[{position}] ", entry)
    elif isinstance(value, dict) and "_target_" not in value:
        for name, entry in value.items():
            yield from _numbers(f"{place}[{name}] ", entry)


def check_range(key: str, value: Any) -> None:
    """Raise ConfigError if a number in a value is larger than tensors can hold.

    Infinity passes: the annotation decides about it.
    """
    for place, number in _numbers("", value):
        if isinstance(number, int) and abs(number) > MAX_INT:
            bound, what = str(MAX_INT), "64-bit integer"
        elif MAX_FLOAT < abs(number) < math.inf:
            bound, what = f"{MAX_FLOAT:.3g}", "32-bit float"
        else:
            continue
        wanted = f"at most {bound}, the largest" if number > 0 else f"at least -{bound}, the least"
        raise ConfigError(f"{key}={_format_value(value)}: {place}should be {wanted} {what}")


def _check_value(key: str, value: Any, annotation: Any) -> None:
    with errors_named(f"{key}: values of its type, {annotation}, can't be checked", ConfigError):
        validator = _validator(annotation)
    try:
        # As JSON, like the configuration, so that a list is accepted for a tuple.
        validator.validate_json(json.dumps(value))
    except ValidationError as error:
        wrong = dict.fromkeys(
            "".join(f"[{part}] " for part in problem["loc"] if isinstance(part, int))
            + _wanted(problem["type"], problem["msg"], problem.get("ctx", {}))
            for problem in error.errors()
        )
        if type(None) in typing.get_args(annotation):
            wrong["null"] = None
        first, *others = wrong
        wanted = " or ".join([first, *(text.removeprefix("should be ") for text in others)])
        raise ConfigError(f"{key}={_format_value(value)}: {wanted}") from None


def _wanted(kind: str, message: str, context: dict[str, Any]) -> str:
    """Word what Pydantic expects."""
    # The option is an object, or a function that makes one, which a node describes.
    if message.startswith(("Cannot check `isinstance`", "Input should be callable")):
        return "should be a mapping with a _target_"
    match kind:
        case "missing":
            return "is missing"
        case "dict_type":
            return "should be a mapping"
        case "too_short":
            return f"should have at least {context['min_length']} entries"
        case "too_long":
            return f"should have at most {context['max_length']} entries"
        case "string_too_short":
            return "should not be empty"
        case "string_pattern_mismatch":
            return f"should match {context['pattern']}"
        case "int_parsing_size":
            return "should have fewer digits"
        case "value_error":
            return str(context["error"])
    return message.removeprefix("Input ")


@functools.cache
def _validator(annotation: Any) -> TypeAdapter[Any]:
    config = ConfigDict(strict=True, arbitrary_types_allowed=True, allow_inf_nan=False)
    return TypeAdapter(_without_dataclasses(annotation), config=config)


class _Built:
    """Stands in for a dataclass, whose fields Pydantic would accept in place of a node."""


def _without_dataclasses(annotation: Any) -> Any:
    if is_dataclass(annotation):
        return _Built
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return typing.Union[tuple(map(_without_dataclasses, typing.get_args(annotation)))]  # noqa: UP007
    return annotation


@functools.cache
def _options(target: Any) -> dict[str, tuple[Any, bool]]:
    """Each option of a class or function: its type, and whether it is required."""
    hints = _hints(_annotated(target))
    with errors_named(f"what {target!r} takes can't be read", ConfigError):
        parameters = inspect.signature(target).parameters
    return {
        name: (hints.get(name, inspect.Parameter.empty), p.default is inspect.Parameter.empty)
        for name, p in parameters.items()
    }


def _annotated(target: Any) -> Any:
    """Find what annotates a target's options: the class for a dataclass, else its `__init__`."""
    init = getattr(target, "__init__", target)
    for base in getattr(target, "__mro__", ()):
        if "__init__" in vars(base):
            # The annotations of inherited fields are names of the module that defines the field.
            return target if "__dataclass_params__" in vars(base) else init
    return init


def _hints(annotated: Any) -> dict[str, Any]:
    name = getattr(annotated, "__qualname__", annotated)
    with errors_named(f"the types of what {name} takes can't be read", ConfigError):
        return typing.get_type_hints(annotated, include_extras=True)


def _imported(key: str, target: str) -> Any:
    module, _, name = target.rpartition(".")
    there = f"{key}._target_={target}"
    if not all(part.isidentifier() for part in target.split(".")) or not module:
        raise ConfigError(f"{there}: should be a class with its module, package.module.Class")
    with errors_named(f"{there}: can't be imported", ConfigError):
        return getattr(importlib.import_module(module), name)


def _format_value(value: Any) -> str:
    try:
        return value if isinstance(value, str) else json.dumps(value)
    except ValueError:  # Python prints at most 4,300 digits; hex in a YAML file may stand for more
        return "(an integer of thousands of digits)"
