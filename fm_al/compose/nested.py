"""Groups that are nested in options of other groups, such as a strategy's inner strategy.

An option, or `config.yaml`, nests a group at a key of its own by its defaults list:

    defaults:                      # of conf/strategy/balanced.yaml
      - /strategy@inner: entropy

Hydra's override for that is `strategy@strategy.inner=badge`. fm-al takes `strategy.inner=badge`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from hydra._internal.config_repository import IConfigRepository
from hydra._internal.defaults_list import create_defaults_list
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.types import Override, OverrideType

from fm_al.compose.arguments import shown
from fm_al.config import no_such_option
from fm_al.errors import ConfigError


def nested_groups(choices: Iterable[str]) -> dict[str, str]:
    """The group that is nested at a key, by that key.

    Args:
        choices: Hydra's names of the groups of which an option is chosen, such as
            `strategy@strategy.inner`.
    """
    parts = (choice.partition("@") for choice in choices)
    return {key: group for group, _, key in parts if "." in key}


def chooses_nested(override: Override, nested: Mapping[str, str]) -> bool:
    """Whether an override chooses the option of a nested group."""
    return override.key_or_group in nested and _may_choose(override)


def with_nested_choices(
    typed: Sequence[Override], repository: IConfigRepository, config_name: str
) -> list[Override]:
    """Turn overrides that choose the option of a nested group into those that Hydra takes.

    Which groups are nested depends on the options that are chosen, those of nested groups among
    them.

    Args:
        typed: All overrides.
        repository: The files.
        config_name: The primary one.

    Raises:
        ConfigError: If there is no such option.
        HydraException: If the choices cannot be composed.
    """
    overrides = list(typed)
    while open_ones := [each for each in overrides if _may_choose(each)]:
        choices = [each for each in overrides if repository.group_exists(each.key_or_group)]
        defaults = create_defaults_list(repository, config_name, choices, True, False)
        nested = nested_groups(defaults.overrides.known_choices)
        if not any(each.key_or_group in nested for each in open_ones):
            break
        overrides = [
            _choice(each, nested[each.key_or_group], repository)
            if chooses_nested(each, nested)
            else each
            for each in overrides
        ]
    return overrides


def _may_choose(override: Override) -> bool:
    """Whether an override may choose an option, if its key is that of a nested group."""
    changes = override.type == OverrideType.CHANGE and override.package is None
    has_one_value = not override.is_sweep_override() and not isinstance(override.value(), dict)
    return changes and has_one_value and "." in override.key_or_group


def _choice(override: Override, group: str, repository: IConfigRepository) -> Override:
    """Hydra's form of `key=option`. It keeps the text that was typed. Raises ConfigError."""
    key, value = override.key_or_group, override.value()
    options = repository.get_group_options(group, ObjectType.CONFIG)
    if not isinstance(value, str) or value not in options:
        text = override.get_value_element_as_str()
        raise ConfigError(no_such_option(key, shown(text), options, joint="="))
    return replace(override, key_or_group=group, package=key)
