"""What a sweep prints at its end: a table of the finished runs, and why others failed."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

from rich import box
from rich.table import Table

from fm_al.errors import ConfigError, RunError
from fm_al.launch.run_directory import typed_values, value_text
from fm_al.launch.status import RunStatus, short_names
from fm_al.records.naming import run_names
from fm_al.records.result_config import Config
from fm_al.records.schema import Result

MOST_NAMED = 5  # of the reasons why runs failed


def shared_options(overrides: Sequence[Sequence[str]]) -> str:
    """The typed options that all runs of a sweep share, but for those that its folders are named
    by. overrides: of each run."""
    options = [typed_values(each) for each in overrides]
    first = options[0] if options else {}
    shared = [key for key in first if all(key in o and o[key] == first[key] for o in options)]
    return " ".join(f"{key}={value_text(first[key])}" for key in shared)


def summary(
    results: Mapping[Path, Result],
    configs: Mapping[Path, Config],
    overrides: Mapping[Path, Sequence[str]],
) -> Table:
    """A row for the runs that differ in the seed alone.

    It has the mean and standard deviation over seeds of the final accuracy, balanced accuracy and
    area under the accuracy curve.

    Args:
        results: The results of finished runs, by their directories.
        configs: Their configurations.
        overrides: Their overrides, as typed or swept. A row is named by those that differ.
    """
    table = Table(
        title="mean ± standard deviation over seeds; area: under the accuracy curve",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        show_edge=False,
    )
    for column in ("run", "seeds", "labels", "accuracy", "balanced", "area"):
        is_name = column == "run"
        table.add_column(
            column,
            justify="left" if is_name else "right",
            no_wrap=not is_name,
            overflow="fold",
        )
    by_setting: dict[Path, list[Path]] = {}
    for directory in results:
        by_setting.setdefault(directory.parent, []).append(directory)
    firsts = [first for first, *_ in by_setting.values()]
    names = run_names(
        firsts,
        [configs[first] for first in firsts],
        short_names(list(by_setting)),
        with_seed=False,
        typed=[typed_values(overrides.get(first, ())) for first in firsts],
    )
    for name, directories in zip(names, by_setting.values(), strict=True):
        runs = [results[directory] for directory in directories]
        table.add_row(
            name,
            str(len(runs)),
            str(runs[0].labelled),
            *(
                _mean_and_deviation([getattr(run, metric) for run in runs])
                for metric in ("accuracy", "balanced_accuracy", "area_under_curve")
            ),
        )
    return table


def _mean_and_deviation(values: list[float]) -> str:
    mean = f"{statistics.fmean(values):.3f}"
    return f"{mean} ± {statistics.stdev(values):.3f}" if len(values) > 1 else mean


def failure_of_sweep(
    failures: Mapping[Path, RunStatus], n_runs: int, any_finished: bool
) -> RunError | ConfigError:
    """The error of a sweep in which runs failed: a ConfigError if all did, because of their
    configuration. n_runs: all runs of the sweep."""
    failed_alike: dict[str, list[Path]] = {}
    for directory, status in failures.items():
        failed_alike.setdefault(status.detail, []).append(directory)
    listed = "; ".join(
        f"{first}{_and_more(len(others))}: {why}"
        for why, (first, *others) in islice(failed_alike.items(), MOST_NAMED)
    )
    if len(failed_alike) > MOST_NAMED:
        listed += f"; and {len(failed_alike) - MOST_NAMED} other reasons, see above"
    all_config = all(status.is_config_error for status in failures.values())
    kind = ConfigError if all_config and not any_finished else RunError
    return kind(f"{len(failures)} of {n_runs} runs failed: {listed}")


def _and_more(others: int) -> str:
    return f" and {others} other{'s' * (others > 1)}" if others else ""
