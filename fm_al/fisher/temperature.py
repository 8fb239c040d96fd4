"""The temperature that logits are divided by before softmax, calibrated to a mean confidence."""

from __future__ import annotations

import math

from torch import Tensor

from fm_al.errors import RunError

CONFIDENCE = 0.95
LOWEST, HIGHEST = 1e-6, 1e6
HALVINGS = 64


def calibrated_temperature(logits: Tensor, confidence: float = CONFIDENCE) -> float:
    """Return the T at which the mean over images of max_c softmax(z / T)_c is `confidence`.

    After a few epochs a network is less sure of its labelled images than it is right about them;
    after many it is surer of the other images than it is right. T makes its confidence in the
    labelled images the same whatever the training. No prediction changes. This is temperature
    scaling (Guo et al. 2017, arXiv 1706.04599) with the labelled images' confidence instead of a
    held-out set's likelihood, because every label is needed for training.

    Args:
        logits: Of the labelled images, (n, C), n >= 1 and C >= 2, any float type.
        confidence: In (1 / C, 1).

    Returns:
        T in [1e-6, 1e6], to the precision of float64.

    Raises:
        ValueError: There are no images, or the confidence is not between 1 / C and 1.
        RunError: No T fits: too many images' largest logits are equal or far apart.
    """
    images, classes = logits.shape
    if images < 1 or not 1 / classes < confidence < 1:
        raise ValueError(
            f"confidence={confidence} of {images} images: should be above 1/{classes} and below 1, "
            "of one image or more"
        )
    z = logits.double()

    def mean_confidence(temperature: float) -> float:
        return float((z / temperature).softmax(dim=1).amax(dim=1).mean())

    if not mean_confidence(HIGHEST) <= confidence <= mean_confidence(LOWEST):
        raise RunError(
            f"temperature=calibrated: at no temperature from {LOWEST:g} to {HIGHEST:g} is the "
            f"network {confidence:.0%} sure of its labelled images "
            f"({mean_confidence(LOWEST):.0%} to {mean_confidence(HIGHEST):.0%}); use a number"
        )
    # The mean confidence falls with T, so bisection finds the logarithm of T.
    low, high = math.log(LOWEST), math.log(HIGHEST)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if mean_confidence(math.exp(middle)) > confidence:
            low = middle
        else:
            high = middle
    return math.exp((low + high) / 2)
