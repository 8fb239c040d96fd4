"""Numbers that the authors of the FisherMask paper published (arXiv 2411.05752).

`published.csv` has the test accuracy, mean of five trials, read off plots to 0.005 or printed to
0.01. The authors smoothed the balanced figures over three points.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from fm_al.report.runs import Runs
from fm_al.report.variants import group_of_paper

CSV = Path(__file__).with_name("published.csv")

Published = Mapping[str, Mapping[int, float]]


def published(experiment: str, dataset: str) -> Published:
    """Return published accuracies of the paper's figure that an experiment reproduces.

    Args:
        experiment: Its name, which starts with the name of the figure.
        dataset: Name of its data set's option; `_jpeg` versions count as the data set.

    Returns:
        Accuracy by strategy and number of labels; empty if nothing was published.
    """
    accuracies: defaultdict[str, dict[int, float]] = defaultdict(dict)
    with CSV.open(newline="") as file:
        for row in csv.DictReader(file):
            is_figure = experiment == row["figure"] or experiment.startswith(f"{row['figure']}_")
            if is_figure and dataset in (row["dataset"], f"{row['dataset']}_jpeg"):
                accuracies[row["strategy"]][int(row["labels"])] = float(row["accuracy"])
    return accuracies


def published_beside(runs: Runs, experiment: str | None = None) -> Published:
    """Return published accuracies for the runs of one setting, by their groups.

    Args:
        runs: The runs.
        experiment: As for `published`; None is that of the runs.
    """
    run = runs.runs[0]
    found = published(experiment or str(run.config["experiment_name"]), run.options["dataset"])
    return {group_of_paper(strategy, runs.groups): each for strategy, each in found.items()}
