"""The command line: composes a configuration, checks it, and runs one experiment or a sweep."""

from __future__ import annotations

import functools
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException, ValidationError
from rich.console import Console

from fm_al.config import build, check_node, no_such_option
from fm_al.errors import ConfigError
from fm_al.run import FORESEEN, closing_line, exit_code, one_line
from fm_al.status import show
from fm_al.sweep import OF_SUBMITIT, planned_run, register
from fm_al.sync import sync

CONF = str(Path(__file__).parent / "conf")
FULL_ERROR = "HYDRA_FULL_ERROR"

_full_error_wanted = os.environ.get(FULL_ERROR) == "1"


def run_one(composed: DictConfig) -> None:
    """Runs what is missing of one experiment."""
    hydra_config = HydraConfig.get()
    for override in hydra_config.overrides.hydra:
        if re.match(r"\+*hydra[./](launcher|sweeper)", override):
            raise ConfigError(f"{override}: is for a sweep; add -m")
    planned = planned_run(composed, hydra_config.runtime.choices, hydra_config.overrides.task)
    console = Console(markup=False, highlight=False)
    result = planned.result()
    if result is not None:
        planned.complete(console, result)
        console.print("this run is finished already")
    else:
        result = planned.run(console)
    console.print(f"{closing_line(result)}\nrecords: {planned.directory}", soft_wrap=True)


def _task(composed: DictConfig) -> None:
    try:
        run_one(composed)
    except FORESEEN as error:
        # Here, since Hydra adds lines of its own to an exception that passes through it.
        if _full_error_wanted:
            raise
        sys.exit(_reported(error))


def _reported(error: BaseException) -> int:
    """Prints an error as one line; the exit code."""
    print(f"fm-al: {one_line(error)}", file=sys.stderr)
    return exit_code(error)


def _command(function: Callable[[], None]) -> Callable[[], None]:
    """A console script whose foreseen errors are one line, without a traceback."""

    @functools.wraps(function)
    def script() -> None:
        if _full_error_wanted:
            return function()
        os.environ[FULL_ERROR] = "1"  # Hydra then raises instead of printing
        try:
            return function()
        except (HydraException, OmegaConfBaseException) as error:  # some are OSErrors too
            sys.exit(_reported(ConfigError(_explained(error))))
        except FORESEEN as error:
            sys.exit(_reported(error))
        except KeyboardInterrupt:
            print("fm-al: stopped; the same command goes on from here", file=sys.stderr)
            sys.exit(130)
        finally:
            os.environ.pop(FULL_ERROR, None)

    return script


def _explained(error: Exception) -> str:
    """Hydra's account of a composition that failed, as one line with what there is instead."""
    cause = error.__cause__
    if isinstance(cause, ValidationError):
        said = str(cause.msg).splitlines()[0]
        return f"{cause.full_key}: {'should be a list: [...]' if 'ListConfig' in said else said}"
    if isinstance(cause, OmegaConfBaseException) and isinstance(cause.parent_node, DictConfig):
        parent, _, name = str(cause.full_key).rpartition(".")
        names = [str(name) for name in cause.parent_node]
        there = [name for name in names if not name.startswith("_") and name != "hydra"]
        if not names:
            return f"{cause.full_key}: is new; put + before it: +{cause.full_key}=..."
        return no_such_option(parent, name, there)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, name = error.missing_cfg_file.rpartition("/")
        options = [each for each in error.options if not each.startswith(OF_SUBMITIT)]
        return no_such_option(group, name, options, joint="=")
    return one_line(ConfigError(error))


def _composed(overrides: list[str]) -> DictConfig:
    with hydra.initialize_config_dir(CONF, version_base="1.3"):
        return hydra.compose("config", overrides)


def _overrides_together(arguments: list[str]) -> list[str]:
    """For Hydra, which refuses overrides on both sides of an option with a value."""
    overrides = get_args_parser().parse_intermixed_args(arguments).overrides
    options = [each for each in arguments if each not in overrides]
    first = arguments.index(overrides[0]) if overrides else 0
    return [*options[:first], *overrides, *options[first:]]


@_command
def main() -> None:
    """`fm-al`."""
    register()
    sys.argv[1:] = _overrides_together(sys.argv[1:])
    hydra.main(config_path=CONF, config_name="config", version_base="1.3")(_task)()


@_command
def download() -> None:
    """`fm-al-data NAME [data_dir=...]`: downloads a data set for machines without a network."""
    match sys.argv[1:]:
        case [name, *overrides] if not name.startswith("-"):
            config = _composed([f"dataset={name}", *overrides])
            node = OmegaConf.to_container(config.dataset, resolve=True, throw_on_missing=True)
            check_node("dataset", node)
            data = build(node).load(Path(config.data_dir), download=True)
            print(
                f"{name}: {len(data.train)} images to learn from, {len(data.test)} to test on, "
                f"{len(data.class_names)} classes, in {Path(config.data_dir).resolve()}"
            )
        case _:
            print("usage: fm-al-data NAME [data_dir=FOLDER] [dataset.OPTION=VALUE ...]")
            sys.exit(2)


@_command
def upload() -> None:
    """`fm-al-sync DIR`."""
    sys.exit(sync(sys.argv[1:]))


@_command
def report() -> None:
    """`fm-al-report DIR`."""
    from fm_al.report.command import report  # here, since the others do without matplotlib

    report(sys.argv[1:])


@_command
def status() -> None:
    """`fm-al-status DIR`."""
    show(sys.argv[1:])


if __name__ == "__main__":
    main()
