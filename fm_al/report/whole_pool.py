"""Runs that were trained on the whole pool at once: upper bounds of the settings they belong to.

Such a run (`budget.whole_pool`) belongs to every setting that agrees with it in all but budget,
strategy, features, seed, device and the experiment's name.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from fm_al.report.reading import FEATURES
from fm_al.report.runs import FinishedRun, LeftOut, Run
from fm_al.report.values import canonical

VARIES = ("budget", "strategy", *FEATURES, "seed", "device", "experiment_name")
# Of --where: conditions on these keys do not choose among runs on the whole pool.
NOT_CHOSEN_BY = ("budget", "strategy", "experiment_name", "device")


def bounds_of_settings(
    runs: Sequence[Run], on_whole_pool: Sequence[FinishedRun], left_out: list[LeftOut]
) -> dict[str, list[FinishedRun]]:
    """Find the upper bounds of every setting, one for each seed.

    Args:
        runs: What is compared.
        on_whole_pool: Runs that were trained on the whole pool.
        left_out: Receives those of no setting, and the second ones of a seed.

    Returns:
        By setting, sorted by seed. A setting whose groups differ in more than budget and strategy
        has none.
    """
    tasks: defaultdict[str, set[str]] = defaultdict(set)
    names: defaultdict[str, set[str]] = defaultdict(set)
    for each in runs:
        tasks[each.setting].add(_task(each))
        names[each.setting].add(each.flat["experiment_name"])
    of_setting: dict[str, list[FinishedRun]] = {}
    used: dict[FinishedRun, None] = {}
    for setting, those in tasks.items():
        if len(those) > 1:
            continue
        found: dict[int, FinishedRun] = {}
        for run in sorted(on_whole_pool, key=lambda run: _preference(run, names[setting])):
            if _task(run) in those:
                found.setdefault(run.seed, run)
        if found:
            of_setting[setting] = [found[seed] for seed in sorted(found)]
            used |= dict.fromkeys(found.values())
    settings = {_task(run): run for run in used}
    for run in on_whole_pool:
        if run not in used:
            why = "was trained on the whole pool, and no other run here has its setting"
            if _task(run) in settings:
                why = "was trained on the whole pool, as another run of its setting and seed was"
            left_out.append(LeftOut(run.directory, why))
    return of_setting


def _preference(run: FinishedRun, names: set[str]) -> tuple[bool, str]:
    """Sorts runs of the same experiment before others."""
    return run.flat["experiment_name"] not in names, str(run.directory)


def _task(run: FinishedRun) -> str:
    """What a run shares with the settings that it bounds."""
    varied = run.part(VARIES)
    return canonical({key: value for key, value in run.flat.items() if key not in varied})


def where_for_bounds(where: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    """The conditions of `--where` that choose among runs on the whole pool."""
    return {key: each for key, each in where.items() if key.partition(".")[0] not in NOT_CHOSEN_BY}
