"""The numbers that the FisherMask paper's authors published (arXiv 2411.05752), for comparison.

`published.csv` beside this file: test accuracy, mean of five trials, read off plots to 0.005 or
printed there to 0.01; those of the balanced figures are smoothed over three points by their
authors. So they agree with other numbers to a point or two at best.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

CSV = Path(__file__).with_name("published.csv")

Published = Mapping[str, Mapping[int, float]]


def published(experiment: str, dataset: str) -> Published:
    """Accuracy by strategy and number of labels, of the figure that an experiment's name begins
    with, if it is of this data set, by its option's name, or of its JPEG version; else empty."""
    accuracies: defaultdict[str, dict[int, float]] = defaultdict(dict)
    with CSV.open(newline="") as file:
        for row in csv.DictReader(file):
            is_figure = experiment == row["figure"] or experiment.startswith(f"{row['figure']}_")
            if is_figure and dataset in (row["dataset"], f"{row['dataset']}_jpeg"):
                accuracies[row["strategy"]][int(row["labels"])] = float(row["accuracy"])
    return accuracies
