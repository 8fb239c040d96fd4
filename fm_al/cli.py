"""The command line: composes a configuration, checks it, and runs one experiment or a sweep."""

from __future__ import annotations

import functools
import os
import re
import sys
from argparse import Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from pathlib import Path

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import Container, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from fm_al.compose.arguments import expanded, parsed_flags, parsed_overrides, parser, shown
from fm_al.compose.composer import NAME, Composer, explained, resolved
from fm_al.config import build, check_node
from fm_al.data.base import Dataset
from fm_al.errors import ArgumentParser, ConfigError, MethodError
from fm_al.launch.planning import plain_config, planned_run, without_hydra
from fm_al.launch.run_directory import note_overrides
from fm_al.launch.status_command import show
from fm_al.launch.sweeper import ExperimentSweep
from fm_al.planned_run import EXPECTED_ERRORS, closing_line, exit_code, one_line
from fm_al.tracking.sync import sync

FULL_ERROR = "HYDRA_FULL_ERROR"
LONGEST_LINE = 4000  # characters of an error
OF_FEATURES = ("dataset", "features", "device", "data_dir", "download")
FEATURES_HELP = """examples:
  fm-al-features dataset=fashion_mnist features=pca features.dimensions=64 folder=features/fashion
  fm-al-features dataset=cifar10 features=torchvision features.name=resnet50 folder=features/cifar10
  fm-al dataset=features dataset.root=features/fashion backbone=linear

The same command again resumes, or finds that the folder is complete. fm-al --help lists the data
sets and extractors and their options."""

_full_error_wanted = os.environ.get(FULL_ERROR) == "1"


def run_one(composed: DictConfig, about: Sequence[str]) -> None:
    """Run what is missing of one experiment. about: lines to print about its composition."""
    os.environ.update(composed.hydra.job.env_set)
    overrides = composed.hydra.overrides.task
    planned = planned_run(composed, composed.hydra.runtime.choices, overrides)
    console = Console(markup=False, highlight=False)
    for line in about:
        console.print(line, soft_wrap=True)
    result = planned.result()
    try:
        if result is not None:
            planned.complete(console, result)
            console.print("this run is finished already")
        else:
            result = planned.run(console)
    finally:  # a run that fails before its first round may leave no folder
        note_overrides(planned.directory, overrides)
    console.print(f"{closing_line(result)}\nrecords: {planned.directory}", soft_wrap=True)


def _reported(error: BaseException) -> int:
    """Print an error as one line, after its place in a user's method; return the exit code."""
    if isinstance(error, MethodError):
        print(error.shown, end="", file=sys.stderr)
    line = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in one_line(error))
    if len(line) > LONGEST_LINE:
        line = f"{line[: LONGEST_LINE // 2]} ... {line[-LONGEST_LINE // 2 :]}"
    print(f"fm-al: {line}", file=sys.stderr)
    return exit_code(error)


def _command(function: Callable[[], None]) -> Callable[[], None]:
    """A console script that prints expected errors as one line, without a traceback."""

    @functools.wraps(function)
    def script() -> None:
        if _full_error_wanted:
            return function()
        try:
            return function()
        except (HydraException, OmegaConfBaseException) as error:  # some are OSErrors too
            sys.exit(_reported(ConfigError(explained(error))))
        except EXPECTED_ERRORS as error:
            sys.exit(_reported(error))
        except KeyboardInterrupt:
            print("fm-al: stopped; run the same command again to resume", file=sys.stderr)
            sys.exit(130)

    return script


@_command
def main() -> None:
    """`fm-al`."""
    flags = parsed_flags(sys.argv[1:])
    try:
        _obey(flags, Composer(flags.config_dir))
    finally:
        GlobalHydra.instance().clear()


def _obey(flags: Namespace, composer: Composer) -> None:
    if flags.shell_completion:
        composer.complete(flags.overrides)
        return
    shows_only = bool(flags.hydra_help or flags.help or flags.cfg or flags.info)
    overrides = parsed_overrides(flags.overrides, flags.multirun, shows_only)
    typed = [str(each.input_line) for each in overrides]
    about = []
    if flags.multirun:
        sweep = ExperimentSweep(composer, overrides)
        if not shows_only:
            sweep.run()
            return
        composed, typed = sweep.first, sweep.first_overrides
        about.append(f"the first of {len(sweep.plan.combinations)} runs")
    else:
        composed = composer.compose(typed)
    HydraConfig.instance().set_config(composed)
    about += composer.left_out
    if flags.resolve:
        resolved(without_hydra(composed))  # raises ConfigError
    if flags.hydra_help:
        composer.hydra.hydra_help(None, parser(), Namespace(overrides=[]))
    elif flags.help:
        flags.overrides = typed
        composer.hydra.app_help(NAME, parser(), flags)
    elif flags.cfg:
        _show(composed, flags, about)
    elif flags.info:
        composer.hydra.show_info(flags.info, NAME, typed)
    else:
        run_one(composed, about)


def _show(composed: DictConfig, flags: Namespace, about: Sequence[str]) -> None:
    """Print a configuration, or a part of it, below comments about it."""
    shows_hydra = flags.cfg in ("hydra", "all")
    whole = composed if shows_hydra else without_hydra(composed)
    if flags.cfg == "hydra":
        whole = OmegaConf.masked_copy(composed, "hydra")
    package = None if flags.package == "_global_" else flags.package
    part = whole if package is None else OmegaConf.select(whole, package)
    if package is not None and part is None:
        raise ConfigError(f"--package {shown(package)}: the configuration has no such part")
    if not isinstance(part, Container):
        print(part)
        return
    for line in about:
        print(f"# {line}")
    if package is not None:
        print(f"# @package {package}")
    if flags.resolve:
        part = OmegaConf.create(OmegaConf.to_container(part, resolve=True))
    print(OmegaConf.to_yaml(part), end="")


@_command
def download() -> None:
    """`fm-al-data NAME [data_dir=...]`."""
    arguments = ArgumentParser(
        prog="fm-al-data",
        description="Downloads a data set, for machines without a network.",
        epilog="fm-al --help lists the data sets and their options.",
    )
    arguments.add_argument("name", metavar="NAME", help="a data set, such as cifar10")
    arguments.add_argument(
        "options", nargs="*", metavar="KEY=VALUE", help="data_dir=FOLDER, dataset.OPTION=VALUE"
    )
    given = arguments.parse_args(sys.argv[1:])
    overrides = parsed_overrides([f"dataset={given.name}", *given.options], multirun=False)
    composed = Composer().compose([str(each.input_line) for each in overrides])
    config = plain_config(without_hydra(composed))
    check_node("dataset", config["dataset"], Dataset)
    data_dir = Path(config["data_dir"])
    data = build(config["dataset"]).load(data_dir, download=True)
    print(
        f"{given.name}: {len(data.train)} training images, {len(data.test)} test images, "
        f"{len(data.class_names)} classes, in {data_dir.resolve()}"
    )


@_command
def features() -> None:
    """`fm-al-features folder=DIR dataset=NAME features=NAME`."""
    arguments = ArgumentParser(
        prog="fm-al-features",
        description="Computes features of a data set into a folder that dataset=features reads.",
        epilog=FEATURES_HELP,
        formatter_class=RawDescriptionHelpFormatter,
    )
    arguments.add_argument(
        "options",
        nargs="+",
        metavar="KEY=VALUE",
        help="folder=DIR, dtype=float32 (default) or float16; as for fm-al: dataset, features, "
        "device, data_dir, download",
    )
    given = arguments.parse_args(sys.argv[1:]).options
    own = {key: expanded(value) for key, _, value in (text.partition("=") for text in given)}
    overrides = parsed_overrides(
        [text for text in given if text.partition("=")[0] not in ("folder", "dtype")],
        multirun=False,
    )
    for override in overrides:
        if re.split(r"[./@]", override.key_or_group)[0] not in OF_FEATURES:
            raise ConfigError(
                f"{override.input_line}: has no effect here; fm-al-features takes folder, dtype, "
                f"{', '.join(OF_FEATURES)}"
            )
    if not (folder := own.get("folder")):
        raise ConfigError("folder: has no default; give it as folder=DIR")
    if (dtype := own.get("dtype", "float32")) not in ("float16", "float32"):
        raise ConfigError(f"dtype={dtype}: should be float16 or float32")
    composed = Composer().compose([str(each.input_line) for each in overrides])
    config = plain_config(without_hydra(composed))

    from fm_al.features.command import compute  # imports torch: only here

    compute(config, Path(folder), dtype)


@_command
def upload() -> None:
    """`fm-al-sync DIR`."""
    sys.exit(sync(sys.argv[1:]))


@_command
def report() -> None:
    """`fm-al-report DIR`."""
    from fm_al.report.command import report  # imports matplotlib: only here

    report(sys.argv[1:])


@_command
def verdict() -> None:
    """`fm-al-verdict FOLDER`."""
    from fm_al.report.verdict.command import verdict  # imports matplotlib: only here

    verdict(sys.argv[1:])


@_command
def status() -> None:
    """`fm-al-status DIR`."""
    show(sys.argv[1:])
