"""Reports of made-up runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from fm_al.report.report import report_of
from fm_al.report.selection import read_runs
from fm_al.report.writing import markdown as report_markdown
from tests.helpers.command_line import Ended, fm_al
from tests.helpers.made_runs import make_run

# By seed; coreset has a seed only, and badge lacks one.
ACCURACY = {
    "fishermask": {
        0: [0.30, 0.55, 0.71], 1: [0.34, 0.60, 0.76], 2: [0.28, 0.57, 0.74], 3: [0.31, 0.58, 0.73],
    },
    "badge": {0: [0.30, 0.56, 0.70], 1: [0.34, 0.58, 0.75], 3: [0.31, 0.60, 0.75]},
    "random": {
        0: [0.30, 0.47, 0.60], 1: [0.34, 0.52, 0.66], 2: [0.28, 0.48, 0.61], 3: [0.31, 0.51, 0.64],
    },
    "coreset": {2: [0.28, 0.5, 0.65]},
}  # fmt: skip


def frozen(folder: Path) -> Path:
    named = {"experiment": "imbalanced_mnist", "dataset": "mnist", "initial": 15, "per_round": 70}
    for strategy, seeds in ACCURACY.items():
        for seed, accuracy in seeds.items():
            make_run(folder, strategy, seed, accuracy, **named)
    make_run(folder, "badge", 2, [0.28, 0.5], **named, finished=False)
    return folder


def alone(experiment: str, name: str) -> str:
    return f"fm-al-report . --where experiment_name={experiment} --out=report-{name}"


def report(folder: Path, *arguments: str) -> Ended:
    return fm_al(folder, *arguments, function="report")


def markdown_of(
    folder: Path,
    targets: Sequence[float] = (),
    with_published: bool = False,
    up_to: int | None = None,
) -> str:
    """As the report's, without the time that drawing takes; paths start from the folder."""
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        runs = read_runs(Path(), up_to=up_to)
        made = report_of(runs, "A trial", "fm-al-report .", alone, targets, with_published)
    return report_markdown(made, "figures")
