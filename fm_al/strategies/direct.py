"""DIRECT: a threshold for every class, found with half of the budget, and the images around it."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from fm_al.randomness import random_subset
from fm_al.strategies.base import Query, QuerySizes, Strategy
from fm_al.strategies.candidates import CandidateOptions
from fm_al.strategies.class_orders import UNKNOWN, ClassOrders, KnownClasses, orders_memory


@dataclass(frozen=True, kw_only=True)
class DIRECT(CandidateOptions, Strategy):
    """Find the threshold that separates each class from the others, then label around it.

    Improved algorithm for deep active learning under imbalance via optimal separation
    (Nuggehalli, Zhang, Jain and Nowak 2025, arXiv 2312.09196), with the details of the authors'
    code in LabelBench. For every class the pool is a line, see `ClassOrders`.

    Phase 1 labels `per_class` images for each class, or floor(`fraction` n / C) if that is less.
    The class with the fewest labels comes first. For a class, [I, J] goes from the last image of
    the class above the first labelled other one to the first labelled other one below the last
    image of the class; an end without such an image is that of the line. `parallel` unlabelled
    images of [I, J] at a time are drawn and revealed. Then the end whose threshold has the lower
    accuracy on all labels moves inwards, until ceil(d^(1 - 1/m)) of d unlabelled images are left,
    with m = floor(labels left before the draw / `parallel`).

    Phase 2 spends the rest in equal shares, classes in a random order. It takes the threshold of
    best accuracy on all labels, the first of several, and labels the nearest unlabelled images
    above and below it in turn. Every label is revealed at once, so later classes use it.

    If [I, J] has no unlabelled image left, the class stops and phase 2 gets its share. Phase 2
    always reaches n. The images of phase 1, the classes that stopped early (`exhausted`) and how
    often an interval shrank (`shrunk`) are recorded as `direct`.

    With n < 2 C and `fraction` 0.5, phase 1 is empty. An interval shrinks only if the share of its
    class is at least 2 `parallel`: with the defaults, those of LabelBench's configuration, never
    for n < 80 C. For small batches set `parallel` to 1.

    What the authors' code does otherwise: it goes from the most frequent class to the rarest; it
    tosses a coin where both ends are as accurate, here they move in turn, I first; it computes the
    size to shrink to in floating point, which may be one more; with two classes, it has the images
    that are predicted as class 1 in reversed order on the line of this class.

    A class costs O(N log N) in each phase.

    Args:
        fraction: Of the picks, in phase 1, at most.
        per_class: Labels of a class in phase 1, at most.
        parallel: Labels that are revealed at a time in phase 1.
    """

    fraction: Annotated[float, Field(ge=0, le=1)] = 0.5
    per_class: Annotated[int, Field(ge=1)] = 60
    parallel: Annotated[int, Field(ge=1)] = 20

    def memory(self, sizes: QuerySizes, n: int) -> dict[str, int]:
        return orders_memory(sizes, 0)

    def select(self, query: Query, n: int, generator: torch.Generator) -> Tensor:
        known = KnownClasses(query, n)
        orders = ClassOrders(query.take("logits"), keep=False)
        counts = torch.bincount(known.of[known.of != UNKNOWN], minlength=query.classes)
        budget, exhausted, shrunk = known.left, [], 0
        classes, share = self.shares(counts, budget)
        for of_class in classes:
            times, is_exhausted = self._narrow(known, orders(of_class), of_class, share, generator)
            shrunk += times
            exhausted += [of_class] * is_exhausted
        rest = known.left
        phases = {"phase_1": budget - rest, "exhausted": exhausted, "shrunk": shrunk}
        query.record("direct", phases)
        turns = torch.randperm(query.classes, generator=generator).tolist()
        for turn, of_class in enumerate(turns):
            share = rest * (turn + 1) // len(turns) - rest * turn // len(turns)
            if share:
                order = orders(of_class)
                line = Line(known.of[order], of_class)
                known.reveal(order[line.around(line.best_threshold(), share)])
        return query.revealed.clone()

    def shares(self, counts: Tensor, budget: int) -> tuple[list[int], int]:
        """Decide in which order phase 1 labels for classes, and how many labels each gets.

        Args:
            counts: Labels of every class, int64 (C,).
            budget: All picks.
        """
        spent = math.floor(Fraction(str(self.fraction)) * budget)
        share = min(self.per_class, spent // len(counts))
        return (counts.argsort(stable=True).tolist(), share) if share else ([], 0)

    def _narrow(
        self,
        known: KnownClasses,
        order: Tensor,
        of_class: int,
        share: int,
        generator: torch.Generator,
    ) -> tuple[int, bool]:
        """Label images in [I, J] and shrink it.

        Returns:
            How often it shrank, and whether it ran out of images.
        """
        shrunk = 0
        line = Line(known.of[order], of_class)
        first, last = line.interval()
        for left in range(share, 0, -self.parallel):
            free = line.unlabelled_between(first, last)
            drawn = random_subset(free, min(self.parallel, left), generator)
            known.reveal(order[drawn])
            if len(drawn) < min(self.parallel, left):
                return shrunk, True
            line = Line(known.of[order], of_class)
            ends = line.shrunk(first, last, left // self.parallel)
            shrunk += ends != (first, last)
            first, last = ends
        return shrunk, False


class Line:
    """All images in the order of a class, some of them labelled as that class or as another one.

    A threshold t takes the first t images for the class. Its accuracy is the number of labels that
    agree minus the number of those that do not.

    Args:
        classes: Of the images in the order of the class, int64 (N,); UNKNOWN if unlabelled.
        of_class: The class.
    """

    def __init__(self, classes: Tensor, of_class: int) -> None:
        self._length = len(classes)
        self._unlabelled = (classes == UNKNOWN).nonzero().squeeze(1)
        labelled = (classes != UNKNOWN).nonzero().squeeze(1)
        self._labelled: list[int] = labelled.tolist()
        self._is_of_class: list[bool] = (classes[labelled] == of_class).tolist()
        of_class_above = [0, *accumulate(self._is_of_class)]
        # Above the threshold the class is right, below it the others are: both up to a constant.
        self._accuracies = [4 * above - 2 * labels for labels, above in enumerate(of_class_above)]

    def interval(self) -> tuple[int, int]:
        """Positions of the ends I and J of where the threshold may be."""
        first, last = 0, self._length - 1
        kinds = self._is_of_class
        if (others := kinds.index(False) if False in kinds else len(kinds)) > 0:
            first = self._labelled[others - 1]
        if (below := len(kinds) - kinds[::-1].index(True) if True in kinds else 0) < len(kinds):
            last = self._labelled[below]
        return first, last

    def best_threshold(self) -> int:
        """The threshold of best accuracy, the first of several."""
        best = self._accuracies.index(max(self._accuracies))
        return self._labelled[best - 1] + 1 if best else 0

    def unlabelled_between(self, first: int, last: int) -> Tensor:
        """Positions of the unlabelled images in [first, last], int64 ascending."""
        ends = torch.tensor([first, last + 1], device=self._unlabelled.device)
        start, end = torch.searchsorted(self._unlabelled, ends).tolist()
        return self._unlabelled[start:end]

    def around(self, threshold: int, count: int) -> Tensor:
        """Positions of so many unlabelled images nearest to a threshold, int64, the nearest first.

        The image just above it comes before the one just below it, and so on.
        """
        ends = torch.tensor([threshold], device=self._unlabelled.device)
        middle = int(torch.searchsorted(self._unlabelled, ends))
        near = self._unlabelled[max(0, middle - count) : middle + count]
        above, below = 2 * (threshold - 1 - near), 2 * (near - threshold) + 1
        return near[torch.where(near < threshold, above, below).argsort()[:count]]

    def shrunk(self, first: int, last: int, root: int) -> tuple[int, int]:
        """Shrink [first, last] from d unlabelled images to the next whole number above
        d^(1 - 1/root). Nothing shrinks for a root below 2."""
        size = len(self.unlabelled_between(first, last))
        spare = size - _ceil_of_power(size, root) if root > 1 else 0
        is_first_ends_turn = True
        while spare > 0:  # from label to label, since accuracies change only there
            to_label = self._to_label_below(first), self._to_label_above(last)
            difference = self._accuracy(first) - self._accuracy(last)
            in_pairs = difference == 0 and is_first_ends_turn
            if in_pairs and (pairs := min(*to_label, spare // 2)):
                first, last, spare = first + pairs, last - pairs, spare - 2 * pairs
                continue
            is_first = is_first_ends_turn if difference == 0 else difference < 0
            is_first_ends_turn ^= difference == 0
            unlabelled = min(to_label[0 if is_first else 1], spare if difference else 1)
            steps = max(1, unlabelled)  # at a label, past it
            first, last = (first + steps, last) if is_first else (first, last - steps)
            spare -= unlabelled
        return first, last

    def _accuracy(self, threshold: int) -> int:
        return self._accuracies[bisect_left(self._labelled, threshold)]

    def _to_label_below(self, position: int) -> int:
        """How many positions from this one down are unlabelled before the next label."""
        labels = bisect_left(self._labelled, position)
        return (self._labelled[labels] if labels < len(self._labelled) else self._length) - position

    def _to_label_above(self, position: int) -> int:
        """How many positions from this one up are unlabelled before the next label."""
        labels = bisect_right(self._labelled, position)
        return position - (self._labelled[labels - 1] if labels else -1)


def _ceil_of_power(size: int, root: int) -> int:
    """The least whole number that is at least size^(1 - 1/root)."""
    least = round(size ** (1 - 1 / root))
    while least**root < size ** (root - 1):
        least += 1
    while least > 0 and (least - 1) ** root >= size ** (root - 1):
        least -= 1
    return least
