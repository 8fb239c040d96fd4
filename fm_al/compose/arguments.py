"""The arguments of `fm-al`: which flags and options of Hydra it takes, and how it reads values."""

from __future__ import annotations

import argparse
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException

from fm_al import __version__
from fm_al.config import GROUPS
from fm_al.errors import ArgumentParser, ConfigError

CHOSEN = (*GROUPS, "protocol", "experiment")  # keys whose value is the name of a file
CHOSEN_BELOW = {"start": "budget.start"}  # groups that are chosen by the key they are nested at
TEXTS = ("experiment_name", "output_dir", "data_dir")  # text, even if it looks like a number
OF_A_SWEEP = ("hydra.launcher", "hydra/launcher", "hydra.sweeper", "hydra/sweeper")
OF_HYDRA = (*OF_A_SWEEP, "hydra.job.env_set")
INSTEAD = {
    "hydra.run": "output_dir=FOLDER sets where records go",
    "hydra.sweep": "output_dir=FOLDER sets where records go",
    "hydra.output_subdir": "a run's config.yaml and provenance.json have its configuration",
    "hydra.job.chdir": "paths start where fm-al is started; set output_dir and data_dir instead",
    "hydra.mode": "-m makes a sweep",
    "hydra.searchpath": "--config-dir FOLDER adds options of your own",
    "hydra.verbose": "HYDRA_FULL_ERROR=1 shows where an error came from",
    "hydra/sweeper": "fm-al has one sweeper; leave this out",
}
REFUSED_FLAGS = {
    "experimental_rerun": "fm-al loads no pickles; the same command again resumes a run",
    "config_name": "fm-al has one configuration; --config-dir adds options of your own",
    "config_path": "fm-al has one configuration; --config-dir adds options of your own",
}
KEY = re.compile(r"(\+\+?|~)?[A-Za-z_$][\w./@:$-]*", re.ASCII)
LONGEST_SHOWN = 200  # characters of an argument in a message


def parser() -> argparse.ArgumentParser:
    hydra = get_args_parser()
    (version,) = (action for action in hydra._actions if action.dest == "version")
    version.version = f"fm-al {__version__}, {version.version}"  # type: ignore[attr-defined]
    return ArgumentParser(prog="fm-al", parents=[hydra], add_help=False)


def parsed_flags(arguments: list[str]) -> argparse.Namespace:
    """Separate Hydra's flags, wherever they stand, from the overrides. Raises ConfigError for flags
    that fm-al does not take."""
    for argument in arguments:
        if any("\ud800" <= character <= "\udfff" for character in argument):
            raise ConfigError(f"{shown(argument)}: is not UTF-8 text")
    flags = parser().parse_intermixed_args(arguments)
    for name, instead in REFUSED_FLAGS.items():
        if getattr(flags, name) is not None:
            raise ConfigError(f"--{name.replace('_', '-')}: {instead}")
    modes = {
        "--cfg": flags.cfg is not None,
        "--info": flags.info is not None,
        "--shell-completion": flags.shell_completion,
        "--run": flags.run,
    }
    given = [name for name, is_given in modes.items() if is_given]
    if flags.multirun and given not in ([], ["--cfg"], ["--info"]):
        given.append("-m")
    if len(given) > 1:
        raise ConfigError(f"{' and '.join(given)}: give one of them")
    if flags.resolve and flags.cfg is None and not flags.help:
        raise ConfigError("--resolve: goes with --cfg job or --help, which it resolves")
    if flags.package is not None and flags.cfg is None:
        raise ConfigError(f"--package {shown(flags.package)}: goes with --cfg job, as a part of it")
    if flags.config_dir is not None and not Path(flags.config_dir).is_dir():
        raise ConfigError(f"--config-dir {shown(flags.config_dir)}: is not a folder")
    return flags


def parsed_overrides(texts: list[str], multirun: bool, shows_only: bool = False) -> list[Override]:
    """Read overrides.

    Args:
        texts: As typed.
        multirun: Whether they are for a sweep.
        shows_only: Nothing will run, so options of a sweep are accepted without -m.

    Raises:
        ConfigError: If an override cannot be read, or has no effect in fm-al.
    """
    overrides = [parsed(text) for text in texts]
    for override in overrides:
        if override.is_sweep_override() and not multirun:
            text = shown(str(override.input_line))
            raise ConfigError(f"{text}: has several values; add -m to sweep over them")
        _refuse_odd_choice(override, multirun)
        _refuse_of_hydra(override, multirun, multirun or shows_only)
    return overrides


@functools.lru_cache(maxsize=10_000)
def parsed(text: str) -> Override:
    """Read an override as Hydra does. Plain text that Hydra's grammar refuses, such as names in
    other scripts, is read as if quoted. Raises ConfigError."""
    hydra = OverridesParser.create()
    key, equals, value = text.partition("=")
    if len(key) > LONGEST_SHOWN:
        raise ConfigError(f"{shown(key)}: no such option")
    if not key.lstrip("+~"):
        raise ConfigError(f"{shown(text) or 'an empty argument'}: should be key=value")
    try:
        override = hydra.parse_override(text)
        if key.lstrip("+") in (*TEXTS, *CHOSEN, "hydra/launcher") and isinstance(
            override.value(), (int, float)
        ):
            override = hydra.parse_override(f"{key}={_quoted(value)}")
        return override
    except HydraException as error:
        if isinstance(error.__cause__, ValueError):
            raise ConfigError(f"{shown(text)}: {error.__cause__}") from None
    except (ValueError, RecursionError, TypeError) as error:
        raise ConfigError(f"{shown(text)}: can't be read ({_brief(error)})") from None
    if not equals:
        raise ConfigError(f"{shown(text)}: should be key=value")
    if not KEY.fullmatch(key):
        raise ConfigError(f"{shown(text)}: the name before = can't be read")
    if re.match(r"[\"'\[{]", value) or re.search(r"[\[\](){}]|\$\{", value):
        raise ConfigError(f"{shown(text)}: {_unreadable(key, value)}")
    try:
        return hydra.parse_override(f"{key}={','.join(map(_quoted, value.split(',')))}")
    except HydraException:
        raise ConfigError(f"{shown(text)}: the name before = can't be read") from None


def _quoted(value: str) -> str:
    if re.match(r"~[\w-]*(/|$)", value):
        value = expanded(value)
    return QuotedString(value, Quote.single).with_quotes()


def expanded(path: str) -> str:
    """Replace ~ in a path by the home folder. Raises ConfigError."""
    try:
        return str(Path(path).expanduser()) if path.startswith("~") else path
    except RuntimeError:
        raise ConfigError(f"{shown(path)}: there is no such home folder") from None


def _unreadable(key: str, value: str) -> str:
    for opening, closing in ("[]", "{}", "()"):
        if value.count(opening) > value.count(closing):
            return f"a {opening} is not closed"
        if value.count(opening) < value.count(closing):
            return f"a {closing} closes nothing"
    for quote in "'\"":
        if value.startswith(quote) and value.count(quote) % 2:
            return f"a {quote} is not closed"
    if value.startswith(("{", "[")):
        return (
            "the value can't be read; text with special characters needs quotes in it, and names "
            "before a colon can't have them: keep those in a file, for --config-dir"
        )
    return f"the value can't be read; text with special characters needs quotes: '{key}=\"...\"'"


def _refuse_odd_choice(override: Override, multirun: bool) -> None:
    """Raise ConfigError if a group's option is chosen by anything but its name."""
    key, value, text = override.key_or_group, override.value(), shown(override.input_line or "")
    if key in CHOSEN_BELOW:
        raise ConfigError(f"{text}: should be {CHOSEN_BELOW[key]}=...")
    if key not in (*CHOSEN, "hydra/launcher", "hydra/sweeper"):
        if isinstance(value, list) and multirun and key in ("seed", *TEXTS):
            raise ConfigError(f"{text}: is one list; to sweep over its values: {_swept(override)}")
        return
    if override.is_delete():
        raise ConfigError(f"{text}: can't be left out; choose another one: {key}=...")
    if isinstance(value, dict):
        return  # sets options of the chosen one
    if (at := override.package) is not None:
        raise ConfigError(f"{text}: should be {at if '.' in at else key}=...")
    if override.is_add() or override.is_force_add():
        raise ConfigError(f"{text}: leave + out: {shown(text.lstrip('+'))}")
    if value is None or value == "" or (isinstance(value, str) and "${" in value):
        raise ConfigError(f"{text}: should be the name of an option, or be left out")
    if isinstance(value, list):
        raise ConfigError(
            f"{text}: is one list; to sweep over its options: {_swept(override)}"
            + " with -m" * (not multirun)
        )


def _swept(override: Override) -> str:
    """The spelling that sweeps over the values of a list."""
    inside = override.get_value_element_as_str()[1:-1]
    return shown(f"{override.get_key_element()}={inside}")


def _refuse_of_hydra(override: Override, multirun: bool, may_be_of_sweep: bool) -> None:
    """Raise ConfigError for an option of Hydra that has no effect in fm-al."""
    if not re.match(r"hydra(?![\w-])", override.key_or_group):
        return
    text = shown(override.input_line or "")
    if override.is_delete():
        raise ConfigError(f"{text}: can't be left out")
    if not override.is_hydra_override():
        raise ConfigError(f"{text}: should be hydra.launcher.OPTION=... and so on, one by one")
    if multirun and override.is_sweep_override():
        raise ConfigError(f"{text}: Hydra's own options can't be swept; give one value")
    for key in _keys(override.key_or_group, override.value()):
        if key == "hydra/sweeper" and override.value() == "experiments" and may_be_of_sweep:
            continue
        for refused, instead in INSTEAD.items():
            if _is_of(key, refused):
                raise ConfigError(f"{text}: has no effect here; {instead}")
        if not any(_is_of(key, allowed) for allowed in OF_HYDRA):
            raise ConfigError(
                f"{text}: has no effect here; of Hydra's own options, fm-al takes hydra/launcher, "
                "hydra.launcher, hydra.sweeper and hydra.job.env_set"
            )
        if not may_be_of_sweep and any(_is_of(key, part) for part in OF_A_SWEEP):
            raise ConfigError(f"{text}: is for a sweep; add -m")


def _keys(key: str, value: Any) -> Iterator[str]:
    """The options that an override sets; several if its value is a mapping."""
    if isinstance(value, dict) and value and not any(_is_of(key, part) for part in OF_HYDRA):
        for name, inner in value.items():
            yield from _keys(f"{key}.{name}", inner)
    else:
        yield key


def _is_of(key: str, parent: str) -> bool:
    return key == parent or key.startswith((f"{parent}.", f"{parent}/"))


def shown(text: str) -> str:
    """An argument as a message shows it."""
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def _brief(error: BaseException) -> str:
    return shown(" ".join(str(error).split()))
