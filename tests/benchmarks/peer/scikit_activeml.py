"""Times one query of scikit-activeml, in an environment that has it; see benchmarks/peers.py.

Arguments: a folder with points.npy (N, D), logits.npy (N, C) and labelled.npy; the strategy; the
number of picks. Prints JSON.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import skactiveml
from skactiveml import pool
from skactiveml.base import SkactivemlClassifier
from skactiveml.utils import MISSING_LABEL


class Given(SkactivemlClassifier):
    """A classifier whose probabilities for the unlabelled points are given."""

    def __init__(self, probabilities: Any = None, missing_label: Any = MISSING_LABEL) -> None:
        super().__init__(missing_label=missing_label)
        self.probabilities = probabilities

    def fit(self, X: Any, y: Any) -> Given:
        return self

    def predict_proba(self, X: Any) -> Any:
        return self.probabilities


def main() -> None:
    folder, name, picks = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    points, logits = np.load(folder / "points.npy"), np.load(folder / "logits.npy")
    labelled = np.load(folder / "labelled.npy")
    labels = np.full(len(points), np.nan)
    labels[labelled] = logits[labelled].argmax(axis=1)
    directions = points / np.linalg.norm(points, axis=1, keepdims=True)
    given: dict[str, Any] = {}
    if name == "typiclust":
        strategy, points = pool.TypiClust(k=20, random_state=0), directions
    elif name == "probcover":
        strategy = pool.ProbCover(n_classes=logits.shape[1], random_state=0)
        points = directions
    elif name == "max_herding":
        strategy = pool.MaxHerding(metric_dict={"gamma": 1.0}, random_state=0)
    elif name == "coreset":
        strategy = pool.CoreSet(random_state=0)
    else:
        strategy = pool.Badge(random_state=0)
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities = odds / odds.sum(axis=1, keepdims=True)
        given = {"clf": Given(probabilities[np.isnan(labels)]), "fit_clf": False}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    chosen = strategy.query(points, labels, batch_size=picks, **given)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = {
        "version": skactiveml.__version__,
        "seconds": seconds,
        "gib": (peak - before) / 2**20,
        "picks": [int(index) for index in chosen],
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
