"""The metrics of a round from all probabilities at once, image by image, in float64."""

from __future__ import annotations

import numpy as np
import sklearn.metrics


def expected_calibration_error(
    probabilities: np.ndarray, true: np.ndarray, bins: int = 15
) -> float:
    """Guo et al. 2017, equations 1 to 3, bin by bin. probabilities: (N, C)."""
    confidence, predicted = probabilities.max(axis=1), probabilities.argmax(axis=1)
    error = 0.0
    for number in range(bins):
        inside = [n for n, p in enumerate(confidence) if number / bins < p <= (number + 1) / bins]
        if inside:
            accuracy = sum(predicted[n] == true[n] for n in inside) / len(inside)
            mean_confidence = sum(confidence[n] for n in inside) / len(inside)
            error += len(inside) / len(true) * abs(accuracy - mean_confidence)
    return error


def brier_score(probabilities: np.ndarray, true: np.ndarray) -> float:
    """Brier 1950, equation 2. probabilities: (N, C)."""
    total = 0.0
    for of_image, of_class in zip(probabilities, true, strict=True):
        for number, probability in enumerate(of_image):
            total += (probability - (number == of_class)) ** 2
    return total / len(true)


def worst_class_accuracy(predicted: np.ndarray, true: np.ndarray) -> float:
    """The smallest recall of the classes that occur in `true`."""
    labels = np.unique(true)
    recalls = sklearn.metrics.recall_score(
        true, predicted, labels=labels, average=None, zero_division=0.0
    )
    return float(np.min(recalls))
