"""GALAXY: bisection between labelled images of a class and of the others."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fm_al.strategies.base import Query, QuerySizes, Strategy
from fm_al.strategies.candidates import CandidateOptions
from fm_al.strategies.class_orders import UNKNOWN, ClassOrders, KnownClasses, orders_memory

RULES = ("bisection", "nearest_to_cut", "end_of_order")


@dataclass(frozen=True, kw_only=True)
class GALAXY(CandidateOptions, Strategy):
    """Halve the shortest gap between labelled images of a class and of the others, class by class.

    Graph-based active learning at the extreme (Zhang, Katz-Samuels and Nowak 2022, arXiv
    2202.01402). For every class c the pool is a line, see `ClassOrders`. Classes take turns. A turn
    looks at the gaps, runs of unlabelled images between two labelled ones next to each other, of
    which one is of class c and the other is not. It picks the middle of the shortest gap and
    reveals its class at once, which all lines then know.

    Where the line of c has no such gap, one of two rules picks:

    - Both kinds are labelled: the unlabelled image nearest to a cut, two neighbours on the line
      that are labelled, one c and one not. That is the rule of LabelBench, for cuts in either
      direction; LabelBench takes only those with the other class above c. The authors' first code
      joins images that are further and further apart on the line instead and picks from a shortest
      path. Which of the many equally short ones depends on the order of a set, so it is not
      offered.
    - One kind is labelled: the end of the line where the other kind is expected. With no label of c
      that is the unlabelled image likeliest to be c; with nothing but c, the least likely one. The
      authors pick at random.

    Ties go to the image that comes first on the line. The first turn goes to class (labelled images
    modulo C), so that batches smaller than C reach every class in turn. The first code begins
    with class 0 in each round, LabelBench draws the class. With two classes, one line is the other
    one reversed, up to ties. How many picks each rule made is recorded as `galaxy`.

    A pick costs O(N). A line is sorted once: O(N log N) a class.
    """

    def memory(self, sizes: QuerySizes, n: int) -> dict[str, int]:
        return orders_memory(sizes, sizes.classes if n > sizes.classes else 0)

    def select(self, query: Query, n: int, generator: torch.Generator) -> Tensor:
        known = KnownClasses(query, n)
        first_turn = len(query.labelled) + len(query.revealed)
        orders = ClassOrders(query.take("logits"), keep=known.left > query.classes)
        picks_of = dict.fromkeys(RULES, 0)
        for turn in range(first_turn, first_turn + known.left):
            of_class = turn % query.classes
            order = orders(of_class)
            position, rule = next_on_line(known.of[order], of_class)
            known.reveal(order[position : position + 1])
            picks_of[rule] += 1
        query.record("galaxy", picks_of)
        return query.revealed.clone()


def next_on_line(classes: Tensor, of_class: int) -> tuple[int, str]:
    """Find the position of the next pick on the line of a class, and the rule that made it.

    Args:
        classes: Of the images in the order of the class, int64 (N,); UNKNOWN if unlabelled, and at
            least one is.
        of_class: The class.
    """
    labelled = (classes != UNKNOWN).nonzero().squeeze(1)
    is_of_class = classes[labelled] == of_class
    changes = (is_of_class[1:] != is_of_class[:-1]).nonzero().squeeze(1)
    if not len(changes):
        unlabelled = (classes == UNKNOWN).nonzero()
        return int(unlabelled[-1 if bool(is_of_class.any()) else 0]), "end_of_order"
    above, below = labelled[changes], labelled[changes + 1]
    gaps = below - above - 1
    shortest = int(gaps.where(gaps > 0, len(classes)).argmin())
    if gaps[shortest] > 0:
        return int(above[shortest] + below[shortest]) // 2, "bisection"
    return _nearest_to_cut(above, (classes == UNKNOWN).nonzero().squeeze(1)), "nearest_to_cut"


def _nearest_to_cut(above: Tensor, unlabelled: Tensor) -> int:
    """Find the position among `unlabelled`, ascending, that is nearest to a cut.

    A cut is between a position in `above` and the next one. The distance is that to the nearer of
    the two.
    """
    after = torch.searchsorted(unlabelled, above)  # the first unlabelled image below each cut
    has_upper, has_lower = after > 0, after < len(unlabelled)
    upper, lower = unlabelled[after[has_upper] - 1], unlabelled[after[has_lower]]
    positions = torch.cat([upper, lower])
    distances = torch.cat([above[has_upper] - upper, lower - above[has_lower] - 1])
    nearest = positions[distances == distances.min()]
    return int(nearest.min())
