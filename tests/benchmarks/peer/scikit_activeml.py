"""Times one query of scikit-activeml, in an environment that has it; see benchmarks/peers.py.

Arguments: a folder with points.npy (N, D), logits.npy (N, C) and labelled.npy; the strategy; the
number of picks. Prints JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
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


def kilobytes(key: str) -> int:
    """VmRSS, now resident, or VmHWM, the most there was, of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))


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
    before = kilobytes("VmRSS")
    start, used = time.perf_counter(), time.process_time()
    chosen = strategy.query(points, labels, batch_size=picks, **given)
    seconds, processor = time.perf_counter() - start, time.process_time() - used
    assert len(set(chosen)) == picks
    peak = kilobytes("VmHWM")
    found = {"seconds": seconds, "processor": processor, "gib": (peak - before) / 2**20}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
