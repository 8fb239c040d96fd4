"""What a configuration may hold, checked before anything is loaded.

The schema of the top level stands here; that of a group's option is the signature of the class its
`_target_` names, so an option is declared once, where it is used. Pydantic does the checking.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
import json
import typing
import unicodedata
from dataclasses import dataclass, is_dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError

from fm_al.errors import ConfigError

GROUPS = ("dataset", "imbalance", "backbone", "strategy", "trainer", "device", "tracker")
LONGEST_NAME = 120  # bytes of an experiment's name; file systems take 255
GIVEN_BY_DATA = {"backbone": ("channels", "classes", "image_size")}


@dataclass(frozen=True)
class Budget:
    """How many images are labelled, in images.

    initial: before the first round. per_round: by each query; the last may be smaller. total: when
    the experiment ends. train_before_first_query: false queries first with an untrained network,
    as the FisherMask code does for all strategies but BAIT.
    """

    initial: Annotated[int, Field(ge=2)]
    per_round: Annotated[int, Field(ge=1)]
    total: Annotated[int, Field(ge=2)]
    train_before_first_query: bool = True

    def __post_init__(self) -> None:
        if self.total < self.initial:
            raise ConfigError(
                f"budget.total={self.total}: should be at least budget.initial={self.initial}"
            )

    def labelled(self) -> list[int]:
        """How many images are labelled in each round."""
        return [*range(self.initial, self.total, self.per_round), self.total]

    def fit_to_pool(self, pool: int) -> None:
        """Raises ConfigError where there are fewer images than the budget wants to label."""
        for key, labels in (("initial", self.initial), ("total", self.total)):
            if labels > pool:
                raise ConfigError(f"budget.{key}={labels}: the pool has {pool} images")


def _path(text: str) -> str:
    if not text or not text.isprintable():
        raise ValueError("should be the name of a folder")
    return text


def _folder_name(text: str) -> str:
    # Accents may be characters of their own, which are neither letters nor digits.
    body = [c for c in text if not unicodedata.category(c).startswith("M")]
    if not text[:1].isalnum() or not all(c.isalnum() or c in "._+=,-" for c in body):
        raise ValueError("should be a letter or digit, then letters, digits and . _ + = , -")
    if (length := len(text.encode())) > LONGEST_NAME:
        raise ValueError(f"should have at most {LONGEST_NAME} bytes; it has {length}")
    return text


@dataclass(frozen=True)
class Settings:
    """The top level of a configuration, beside the budget and the groups."""

    seed: Annotated[int, Field(ge=0, lt=2**63)]
    output_dir: Annotated[str, AfterValidator(_path)]
    data_dir: Annotated[str, AfterValidator(_path)]
    download: bool
    experiment_name: Annotated[str, AfterValidator(_folder_name)]


def check(config: dict[str, Any]) -> None:
    """Checks a resolved configuration. Raises ConfigError for the first key that can't be."""
    sections = ("budget", *GROUPS)
    top_level = [*_options(Settings), *sections]
    _check_names("", list(config), allowed=top_level, required=top_level)
    check_arguments("", {k: v for k, v in config.items() if k not in sections}, Settings)
    if not isinstance(config["budget"], dict):
        raise ConfigError(f"budget={_shown(config['budget'])}: should be a mapping")
    check_arguments("budget", config["budget"], Budget)
    Budget(**config["budget"])
    for group in GROUPS:
        check_node(group, config[group], GIVEN_BY_DATA.get(group, ()))


def build(node: Any, **given: Any) -> Any:
    """The object that a checked node with a `_target_` describes, nested ones first; with
    `_partial_` a function that still takes arguments. given: arguments beside the node's."""
    if not isinstance(node, dict) or "_target_" not in node:
        return node
    target = _imported("", node["_target_"])
    arguments = {k: build(v) for k, v in node.items() if k not in ("_target_", "_partial_")}
    if node.get("_partial_"):
        return functools.partial(target, **arguments)
    return target(**arguments, **given)


def check_node(key: str, node: Any, given: tuple[str, ...] = ()) -> None:
    """Checks a node with a `_target_`. given: arguments that a configuration may not give."""
    if not isinstance(node, dict) or not isinstance(node.get("_target_"), str):
        raise ConfigError(f"{key}={_shown(node)}: should be a mapping with a _target_")
    target = _imported(key, node["_target_"])
    arguments = {k: v for k, v in node.items() if k not in ("_target_", "_partial_")}
    options = _options(target)
    if node.get("_partial_"):
        given = tuple(name for name, (_, needed) in options.items() if needed)
    check_arguments(key, arguments, target, given)


def check_arguments(
    key: str, arguments: dict[str, Any], target: Any, given: tuple[str, ...] = ()
) -> None:
    options = {name: option for name, option in _options(target).items() if name not in given}
    required = [name for name, (_, needed) in options.items() if needed]
    _check_names(key, list(arguments), list(options), required)
    for name, value in arguments.items():
        annotation, _ = options[name]
        full_key = f"{key}.{name}" if key else name
        if isinstance(value, dict) and "_target_" in value:
            check_node(full_key, value)
        elif annotation is not inspect.Parameter.empty:
            _check_value(full_key, value, annotation)


def unknown_options(key: str, node: Any) -> list[str]:
    """The keys in a node with a `_target_`, and in those within it, that this does not have."""
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
    """The line for a misspelt name: what there is instead, and what was probably meant."""
    prefix = f"{parent}{joint}" if parent else ""
    close = difflib.get_close_matches(name, allowed, n=1)
    meant = f"; did you mean {prefix}{close[0]}?" if close else ""
    there = f"has: {', '.join(allowed)}" if allowed else "has no options"
    return f"{prefix}{name}: no such option; {parent or 'the top level'} {there}{meant}"


def _check_value(key: str, value: Any, annotation: Any) -> None:
    try:
        # As JSON, since that is what a configuration holds: a list may then stand for a tuple.
        _validator(annotation).validate_json(json.dumps(value))
    except ValidationError as error:
        wrong = dict.fromkeys(
            "".join(f"[{part}] " for part in problem["loc"] if isinstance(part, int))
            + _wanted(problem["type"], problem["msg"], problem.get("ctx", {}))
            for problem in error.errors()
        )
        if type(None) in typing.get_args(annotation):
            wrong["null"] = None
        raise ConfigError(f"{key}={_shown(value)}: {' or '.join(wrong)}") from None


def _wanted(kind: str, message: str, context: dict[str, Any]) -> str:
    """What Pydantic asks for, in our words."""
    if message.startswith("Cannot check `isinstance`"):  # of an object: a node describes it
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
    return TypeAdapter(annotation, config=ConfigDict(strict=True, arbitrary_types_allowed=True))


@functools.cache
def _options(target: Any) -> dict[str, tuple[Any, bool]]:
    """Name of each option of a class: its type, and whether it has no default."""
    # A dataclass's inherited fields are annotated with names of the module they stand in.
    annotated = target if is_dataclass(target) else getattr(target, "__init__", target)
    try:
        hints = typing.get_type_hints(annotated, include_extras=True)
        parameters = inspect.signature(target).parameters
    except (TypeError, ValueError):
        raise ConfigError(f"_target_={target}: can't be built from options") from None
    return {
        name: (hints.get(name, inspect.Parameter.empty), p.default is inspect.Parameter.empty)
        for name, p in parameters.items()
    }


def _imported(key: str, target: str) -> Any:
    module, _, name = target.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise ConfigError(f"{key}._target_={target}: can't be imported ({error})") from None


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
