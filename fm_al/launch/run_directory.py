"""Where a run's records go: a path derived from its configuration."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.types import Override

from fm_al.compose.arguments import parsed
from fm_al.files import atomic_write
from fm_al.records.naming import short_keys
from fm_al.records.result_config import NO_EFFECT_ON_RESULTS, Config

logger = logging.getLogger(__name__)

NAMED_BY_PATH = (
    "experiment",
    "experiment_name",
    "dataset",
    "imbalance",
    "backbone",
    "strategy",
    "seed",
)
# Options of these groups are compared most often. In a name that has to be cut they come first, and
# those of the budget last.
COMPARED = ("strategy", "trainer", "imbalance", "dataset")
LONGEST_NAME = 120  # characters
# Of one option, in a name that has to be cut.
LONGEST_KEY, LONGEST_VALUE = 40, 24
OVERRIDES = "overrides.yaml"
# Options with which a run is what it was before there were such options.
OLDER_THAN_THE_OPTION = {
    "features": "none",
    "budget.start": "random",
    "budget.growth": 1,
    "budget.whole_pool": False,
    "trainer.sampling": "uniform",
}


def run_directory(config: Config, choices: Mapping[str, Any], overrides: Sequence[str]) -> Path:
    """The directory of a run.

    `<output_dir>/<experiment_name>/<dataset>-<imbalance>/<backbone>/<strategy>[/<options>]/seed<k>`

    It depends on the configuration and the overrides, and not on their order or on what else a
    sweep holds: a single run and that run of a sweep share a directory. So a name cannot know which
    options are swept. It shows all options, sorted by key, if they fit as they are. Otherwise the
    options that are likely to be swept come first: single values before lists, strategy and trainer
    before the others, the budget last. Keys and values are shortened, a hash of all options makes
    the name unique, and `overrides.yaml` in that folder lists them whole. If a folder with the name
    that an earlier version gave exists, that one is used.

    Args:
        config: The resolved configuration.
        choices: The option chosen of each group.
        overrides: As typed or swept.
    """
    parts = [
        f"{choices['dataset']}-{choices['imbalance']}",
        choices["backbone"],
        choices["strategy"],
    ]
    setting = Path(config["output_dir"], config["experiment_name"], *map(_file_name, parts))
    seed = f"seed{config['seed']}"
    options = option_texts(overrides)
    if not options:
        return setting / seed
    # Earlier versions cut the sorted text, and cut the result again if that was still too long.
    # Where such a folder exists, its runs resume there.
    earlier = setting / _file_name(_file_name(_sorted_text(options)))
    name = _options_name(options)
    return (earlier if earlier.name != name and earlier.is_dir() else setting / name) / seed


def option_texts(overrides: Sequence[str]) -> dict[str, str]:
    """The options that name a run's folder, as they were typed: overrides that can affect results,
    but for those that name the folders above. Those that are likely to be swept come first. The
    last override of a key holds."""
    named = _named(overrides)
    return {key: override.get_value_element_as_str() for key, override in named.items()}


def option_values(overrides: Sequence[str]) -> dict[str, Any]:
    """The same options with their values; `~` before the key of one that was deleted."""
    return _values(_named(overrides))


def typed_values(overrides: Sequence[str]) -> dict[str, Any]:
    """Likewise, with options at the values of runs from before there were such options."""
    return _values(_typed(overrides))


def _values(named: Mapping[str, Override]) -> dict[str, Any]:
    return {
        f"~{key}" if override.is_delete() else key: override.value()
        for key, override in named.items()
    }


def value_text(value: Any) -> str:
    """A value as one line of YAML."""
    if isinstance(value, str) and "\n" in value:
        return json.dumps(value, ensure_ascii=False)
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=math.inf)
    return text.removesuffix("...\n").rstrip("\n")


def note_overrides(directory: Path, overrides: Sequence[str]) -> None:
    """Write `overrides.yaml` beside a run's directory, once that exists, if the folder's name was
    cut. It is for people alone, so failing to write it is a warning."""
    folder, options = directory.parent, option_texts(overrides)
    if not options or folder.name == _sorted_text(options) or not directory.exists():
        return
    lines = (f"{key}: {value_text(value)}\n" for key, value in option_values(overrides).items())
    path, content = folder / OVERRIDES, "".join(lines).encode()
    try:
        if not path.exists() or path.read_bytes() != content:
            atomic_write(path, content)
    except OSError as error:
        logger.warning("%s can't be written (%s)", path, error)


def _named(overrides: Sequence[str]) -> dict[str, Override]:
    typed = _typed(overrides)
    if any(parsed(text).key_or_group == "experiment" for text in overrides):
        return typed  # a preset may have another value, which is then another run
    return {
        key: override
        for key, override in typed.items()
        if key not in OLDER_THAN_THE_OPTION or override.value() != OLDER_THAN_THE_OPTION[key]
    }


def _typed(overrides: Sequence[str]) -> dict[str, Override]:
    typed = [parsed(text) for text in overrides]
    named = {each.key_or_group: each for each in typed if not _needs_no_name(each.key_or_group)}
    return dict(sorted(named.items(), key=_rank))


def _needs_no_name(key: str) -> bool:
    return key in NAMED_BY_PATH or re.split(r"[./@]", key)[0] in (*NO_EFFECT_ON_RESULTS, "hydra")


def _sorted_text(options: Mapping[str, str]) -> str:
    return ",".join(f"{key}={options[key]}" for key in sorted(options))


def _options_name(options: Mapping[str, str]) -> str:
    """The folder's name for a run's options, see `run_directory`."""
    text = _sorted_text(options)
    if _file_name(text) == text:
        return text
    short = short_keys([*options])
    shown: list[str] = []
    for key, value in options.items():
        part = f"{_readable(short[key], LONGEST_KEY)}={_readable(value, LONGEST_VALUE)}"
        if shown and len(",".join([*shown, part])) > LONGEST_NAME:
            shown.append(f"and-{len(options) - len(shown)}-more")
            break
        shown.append(part)
    return f"{','.join(shown)}-{_hash(text)}"


def _rank(named: tuple[str, Override]) -> tuple[bool, bool, int, str]:
    """The place of an option in a name that has to be cut."""
    key, override = named
    group = re.split(r"[./@]", key)[0]
    place = COMPARED.index(group) if group in COMPARED else len(COMPARED)
    return group == "budget", isinstance(override.value(), list | dict), place, key


def _readable(text: str, longest: int) -> str:
    """A key or value in a folder's name: `[16,32]` is `16,32`. The middle of a long one is left
    out, since lists may differ at their end, and paths begin alike."""
    plain = _plain_text(text).strip("-,")
    if len(plain) <= longest:
        return plain
    half = longest // 2 - 1
    return f"{plain[:half]}..{plain[-half:]}"


def _file_name(text: str) -> str:
    """A name for one folder; if that loses something of the text, a hash of it is appended."""
    name = _plain_text(text).lstrip(".-")
    if name == text and len(name) <= LONGEST_NAME:
        return name
    return f"{name[:LONGEST_NAME]}-{_hash(text)}"


def _plain_text(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._=,+-]+", "-", text)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
