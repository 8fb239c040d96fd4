"""CBAL: uncertain images whose predictions level the numbers of labels per class."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from scipy.special import xlogy
from torch import Tensor

from fm_al.strategies import class_balance_swaps
from fm_al.strategies.base import FLOAT, Query, QuerySizes, Strategy
from fm_al.strategies.candidates import CandidateOptions
from fm_al.strategies.chunks import most_rows, row_chunks
from fm_al.strategies.class_balance_program import equal_ones_in_order, solve_by_columns
from fm_al.strategies.class_levels import wanted

DIGITS = 9  # of z; what differs by less is a tie


@dataclass(frozen=True, kw_only=True)
class CBAL(CandidateOptions, Strategy):
    """Pick images of large entropy whose predicted classes add up to what the classes lack.

    Class-balanced active learning (Bengar et al. 2022, arXiv 2110.04543), with entropy:

        minimise z.(sum_c p_c log p_c) + weight |P^T z - want|_1,  0 <= z <= 1,  sum z = n

    P are the probabilities of the unlabelled images. want_c is what class c lacks to the level that
    n more labels reach: max(0, level - labelled_c), with the level for which these add up to n. The
    paper's level is the mean number of labels per class after the batch; its code assumes a first
    set of twice a batch and rounds down. If a class already has more, the numbers wanted add up to
    more than n.

    The authors solve for z in {0, 1} by a commercial solver. Here z may be fractional; at most
    C + 1 values are; the n largest are picked, then improved by swaps. `class_balance_program`
    proves that z is optimal for the whole pool, and `class_balance_swaps` exchanges a pick for
    another image while the objective falls. Ties go to the lowest index.

    Recorded are `wanted`, per class, `expected`, the sum of the picks' probabilities, `fractional`,
    how many z are not whole, and `swaps`.

    Args:
        weight: lambda, of the balance against the entropy. The paper has 0.6 for CIFAR-10 and 2 for
            CIFAR-100.
    """

    weight: Annotated[float, Field(ge=0)] = 0.6

    def memory(self, sizes: QuerySizes, n: int) -> dict[str, int]:
        pool, joining = most_rows(sizes.images), min(class_balance_swaps.ROWS, sizes.images)
        in_chunk = FLOAT * sizes.classes * max(3 * pool, 6 * joining)
        rows = {"probabilities, some rows at a time": in_chunk}
        swapped = {"probabilities of the picks": 2 * FLOAT * n * sizes.classes}
        return sizes.embeddings | sizes.logits | rows | swapped | sizes.vectors(10)

    def select(self, query: Query, n: int, generator: torch.Generator) -> Tensor:
        unlabelled = query.unlabelled
        pool = _Pool(query.logits, unlabelled)
        labelled = torch.bincount(query.labelled_targets.cpu(), minlength=query.classes).tolist()
        want = wanted(labelled, n)
        taking_part, solution = solve_by_columns(
            pool.columns, pool.reduced_costs, pool.most_uncertain(n), n, want, self.weight
        )
        z = equal_ones_in_order(solution.chosen.round(DIGITS), pool.columns(taking_part)[1])
        largest = taking_part[(-z).argsort(kind="stable")[:n]]
        reduced = pool.reduced_costs(solution.class_prices, solution.pick_price)
        picks, swaps = class_balance_swaps.improved(
            largest, pool.columns, reduced, solution.objective, want, self.weight
        )
        query.record("wanted", want.round(3).tolist())
        query.record("expected", pool.columns(picks)[1].sum(axis=0).round(3).tolist())
        query.record("fractional", int(((z > 0) & (z < 1)).sum()))
        query.record("swaps", swaps)
        return unlabelled[torch.from_numpy(picks).to(query.device)]


class _Pool:
    """The unlabelled images as the program reads them, by their place among the unlabelled."""

    def __init__(self, logits: Tensor, unlabelled: Tensor) -> None:
        self._logits = logits
        self._unlabelled = unlabelled
        # sum_c p_c log p_c, where 0 log 0 is 0.
        costs = [xlogy(shares, shares).sum(axis=1) for shares in self._all_shares()]
        self._costs = np.concatenate(costs)

    def columns(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self._costs[images], self._shares(
            self._unlabelled[torch.from_numpy(images).to(self._unlabelled.device)]
        )

    def reduced_costs(self, class_prices: np.ndarray, pick_price: float) -> np.ndarray:
        of_classes = np.concatenate([shares @ class_prices for shares in self._all_shares()])
        reduced: np.ndarray = self._costs - of_classes - pick_price
        return reduced

    def most_uncertain(self, n: int) -> np.ndarray:
        return self._costs.argsort(kind="stable")[:n]

    def _all_shares(self) -> Iterator[np.ndarray]:
        for rows in row_chunks(len(self._unlabelled)):
            yield self._shares(self._unlabelled[rows])

    def _shares(self, images: Tensor) -> np.ndarray:
        shares: np.ndarray = self._logits[images].softmax(dim=1).cpu().double().numpy()
        return shares
