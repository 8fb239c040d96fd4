"""GALAXY and DIRECT as their papers and LabelBench describe them: one image after the other."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Known = dict[int, int]  # classes by image


def line(probabilities: Array, of_class: int) -> list[int]:
    """All images by p_c - max p + 1e-8 max p, the largest first; ties by index."""
    largest = probabilities.max(axis=1)
    margins = (probabilities[:, of_class] - largest) + np.float32(1e-8) * largest
    return sorted(range(len(margins)), key=lambda image: (-margins[image], image))


def galaxy(probabilities: Array, known: Known, targets: list[int], n: int) -> list[int]:
    """Picks of GALAXY; the classes of picks become known at once."""
    classes, known, picks = probabilities.shape[1], dict(known), []
    for turn in range(len(known), len(known) + n):
        of_class = turn % classes
        images = line(probabilities, of_class)
        pick = images[galaxy_position(images, known, of_class)]
        picks.append(pick)
        known[pick] = targets[pick]
    return picks


def galaxy_position(images: list[int], known: Known, of_class: int) -> int:
    def kind(position: int) -> bool:
        return known[images[position]] == of_class

    at = [position for position, image in enumerate(images) if image in known]
    free = [position for position, image in enumerate(images) if image not in known]
    pairs = [(a, b) for a, b in pairwise(at) if kind(a) != kind(b)]
    gaps = [(b - a, a, b) for a, b in pairs if b - a > 1]
    if gaps:
        _, a, b = min(gaps)
        run = list(range(a + 1, b))
        return run[(len(run) - 1) // 2]
    if pairs:
        return min(
            (min(abs(position - end) for pair in pairs for end in pair), position)
            for position in free
        )[1]
    return free[-1] if any(map(kind, at)) else free[0]


def accuracy(signs: list[int], threshold: int) -> int:
    """Labels that agree minus labels that do not, if c is what lies before the threshold."""
    return sum(signs[:threshold]) - sum(signs[threshold:])


def narrowed(signs: list[int], first: int, last: int, fraction_root: int) -> tuple[int, int]:
    """Move the ends of [first, last] inwards step by step, the less accurate one, in turn if both
    are as accurate, until ceil(d / d^(1 / fraction_root)) unlabelled images are left."""

    def unlabelled() -> int:
        return sum(signs[position] == 0 for position in range(first, last + 1))

    d, turn = unlabelled(), 0
    while d and (unlabelled() - 1) ** fraction_root >= d ** (
        fraction_root - 1
    ):  # above the ceiling
        difference = accuracy(signs, first) - accuracy(signs, last)
        if difference == 0:
            is_upper, turn = turn == 0, 1 - turn
        else:
            is_upper = difference < 0
        first, last = (first + 1, last) if is_upper else (first, last - 1)
    return first, last


def interval(signs: list[int]) -> tuple[int, int]:
    """Where the boundary may be: from the last c above the first other label, to the first other
    label below the last c."""
    first, last = 0, len(signs) - 1
    for position, sign in enumerate(signs):
        if sign == -1:
            break
        first = position if sign == 1 else first
    for position in reversed(range(len(signs))):
        if signs[position] == 1:
            break
        last = position if signs[position] == -1 else last
    return first, last


def best_threshold(signs: list[int]) -> int:
    return max(
        range(len(signs) + 1), key=lambda threshold: (accuracy(signs, threshold), -threshold)
    )


def direct(
    probabilities: Array,
    known: Known,
    targets: list[int],
    n: int,
    options: tuple[int, int, int],
    draw: Callable[[list[int], int], list[int]],
    permutation: Callable[[int], list[int]],
) -> list[int]:
    """Picks of DIRECT.

    Args:
        options: Images of the first phase at most, per class, and at a time.
        draw: So many of some positions.
        permutation: The classes of the second phase.
    """
    first_phase, per_class, parallel = options
    classes, known, picks = probabilities.shape[1], dict(known), []
    lines = [line(probabilities, of_class) for of_class in range(classes)]

    def signs(of_class: int) -> list[int]:
        return [
            0 if image not in known else 1 if known[image] == of_class else -1
            for image in lines[of_class]
        ]

    def pick(image: int) -> None:
        picks.append(image)
        known[image] = targets[image]

    counts = [sum(label == of_class for label in known.values()) for of_class in range(classes)]
    rarest = sorted(range(classes), key=lambda of_class: (counts[of_class], of_class))
    share = min(per_class, first_phase // classes)
    for of_class in rarest:
        first, last = interval(signs(of_class))
        left = share
        while left > 0:
            labels = signs(of_class)
            free = [p for p in range(first, last + 1) if labels[p] == 0]
            for position in draw(free, min(left, parallel)):
                pick(lines[of_class][position])
            if left // parallel > 1:
                first, last = narrowed(signs(of_class), first, last, left // parallel)
            left -= parallel
    rest = n - len(picks)
    for turn, of_class in enumerate(permutation(classes)):
        labels = signs(of_class)
        threshold = best_threshold(labels)
        upper, lower = threshold - 1, threshold
        share = rest * (turn + 1) // classes - rest * turn // classes
        is_upper = True
        while share and (upper >= 0 or lower < len(labels)):
            position = upper if is_upper else lower
            if 0 <= position < len(labels) and labels[position] == 0:
                pick(lines[of_class][position])
                share -= 1
            upper, lower = (upper - 1, lower) if is_upper else (upper, lower + 1)
            is_upper = not is_upper
    return picks
