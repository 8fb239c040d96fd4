"""The runs that a command asks for, read, chosen and named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from fm_al.errors import ConfigError
from fm_al.report.naming import named_runs
from fm_al.report.reading import check_key, chosen_runs, finished_runs, matching
from fm_al.report.runs import STRATEGY, FinishedRun, LeftOut, Runs
from fm_al.report.up_to import runs_up_to, with_budget_up_to
from fm_al.report.values import MISSING
from fm_al.report.whole_pool import bounds_of_settings, where_for_bounds


def read_runs(
    folder: Path,
    where: Mapping[str, Sequence[str]] | None = None,
    by: Sequence[str] = STRATEGY,
    *,
    up_to: int | None = None,
) -> Runs:
    """Read the finished runs in a folder and below.

    Args:
        folder: Where to look.
        where: Values by key; only runs with one of the values for each key are used.
        by: Keys whose values are compared: keys of the configuration, or `strategy`, `dataset`,
            `imbalance` and `backbone` for the option's name.
        up_to: Cut runs after the round with this number of labels, as if each had been started with
            that budget, and read unfinished runs that have such a round, too. Runs on the whole
            pool stay as they are.

    Raises:
        ConfigError: A key that no run has, a number of labels that no run has, or no run is left.
    """
    left_out: list[LeftOut] = []
    finished = list(finished_runs(folder, left_out, with_unfinished=up_to is not None))
    compared = [run for run in finished if not run.is_on_whole_pool]
    on_whole_pool = [run for run in finished if run.is_on_whole_pool]
    if not compared:
        examples = "".join(f"; {each.directory} {each.why}" for each in left_out[:3])
        but = " but those on the whole pool" * bool(on_whole_pool)
        what = "finished run" if up_to is None else "run with a recorded round"
        raise ConfigError(f"{folder}: no {what} in this folder or below{but}{examples}")
    for key in by:
        check_key("--by", key, finished)
        if key == "seed":
            raise ConfigError("--by seed: runs are paired by seed; choose seeds with --where")
    if up_to is not None:
        compared = [with_budget_up_to(run, up_to) for run in compared]
    chosen = chosen_runs(compared, where or {})
    if up_to is not None:
        chosen = runs_up_to(chosen, up_to, left_out)
    named = named_runs(_comparable(chosen, by, left_out), by, left_out)
    bounds = matching(on_whole_pool, where_for_bounds(where or {}))
    runs = Runs(named, left_out, by, bounds_of_settings(named, bounds, left_out), up_to)
    if not runs.runs:
        last = f"{left_out[-1].directory} {left_out[-1].why}"
        raise ConfigError(f"{folder}: no run is left to report on; {last}")
    for setting in runs.settings:
        if not runs.of(setting).labels:
            raise ConfigError(
                f"--by {','.join(by)}: the runs of {setting} have no number of labels in common"
            )
    return runs


def _comparable(
    finished: Sequence[FinishedRun], by: Sequence[str], left_out: list[LeftOut]
) -> list[FinishedRun]:
    """The runs that have every key of `by`."""
    comparable = []
    for run in finished:
        missing = [key for key in by if run.value(key) is MISSING]
        if missing:
            left_out.append(LeftOut(run.directory, f"has no {missing[0]} to compare by"))
        else:
            comparable.append(run)
    return comparable
