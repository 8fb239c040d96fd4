"""The linear program of CBAL: entropy against level numbers of labels per class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linprog

from fm_al.errors import RunError

FEW_CLASSES = 50  # beyond, an interior point and a vertex from there come sooner than the simplex
TOLERANCE = 1e-7  # of a reduced cost, as HiGHS has it
FEWEST_COLUMNS = 1000  # that are added at a time

# Costs and shares of some images, by their indices: float64 (R,) and (R, C).
Columns = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
# Reduced costs of all N images, float64 (N,), at the prices of the classes, (C,), and of a pick.
ReducedCosts = Callable[[np.ndarray, float], np.ndarray]


@dataclass(frozen=True)
class Solution:
    """An optimal solution of a program, and of its dual.

    Attributes:
        chosen: z, float64, by column.
        class_prices: Of the C equations of the classes.
        pick_price: Of the equation of the sum.
        objective: The least value.
    """

    chosen: np.ndarray
    class_prices: np.ndarray
    pick_price: float
    objective: float


def solve(
    costs: np.ndarray, shares: np.ndarray, n: int, wanted: np.ndarray, weight: float
) -> Solution:
    """Minimise z.costs + weight |shares^T z - wanted|_1 over 0 <= z <= 1 with sum z = n.

    The absolute values are split into surplus and lack of every class. A vertex of that polyhedron
    has at most C + 1 fractional z: one for each equation. HiGHS ends at a vertex with both of its
    methods.

    Args:
        costs: float64 (R,).
        shares: float64 (R, C).
        n: At most R.
        wanted: float64 (C,).
        weight: Not negative.

    Raises:
        RunError: If HiGHS finds no solution; there is one.
    """
    rows, classes = shares.shape
    slack = np.eye(classes)
    equations = np.block(
        [[shares.T, -slack, slack], [np.ones((1, rows)), np.zeros((1, 2 * classes))]]
    )
    found = linprog(
        np.concatenate([costs, np.full(2 * classes, weight)]),
        A_eq=equations,
        b_eq=np.append(wanted, n),
        bounds=np.array([(0, 1)] * rows + [(0, np.inf)] * (2 * classes)),
        method="highs" if classes <= FEW_CLASSES else "highs-ipm",
    )
    if found.x is None:
        raise RunError(f"cbal: HiGHS found no solution of its linear program: {found.message}")
    prices = found.eqlin.marginals
    return Solution(found.x[:rows], prices[:-1], float(prices[-1]), float(found.fun))


def solve_by_columns(
    columns: Columns,
    reduced_costs: ReducedCosts,
    start: np.ndarray,
    n: int,
    wanted: np.ndarray,
    weight: float,
) -> tuple[np.ndarray, Solution]:
    """Solve the program of all N images among few of them, and prove it optimal for all.

    Column generation: an image that is left out has z = 0, which is optimal while its reduced cost
    at the prices of the small program, cost - share.class_prices - pick_price, is not negative. The
    images with the most negative ones join until none is negative. Then the prices are feasible for
    the dual of the whole program, which has the same value.

    Args:
        columns: Costs and shares of some images.
        reduced_costs: Of all images.
        start: Indices of the first images, at least n.
        n: How many images to pick.
        wanted: float64 (C,).
        weight: Not negative.

    Returns:
        Indices of the images that took part, ascending, and the solution for these.
    """
    taking_part = np.unique(start)
    while True:
        solution = solve(*columns(taking_part), n, wanted, weight)
        reduced = reduced_costs(solution.class_prices, solution.pick_price)
        reduced[taking_part] = 0
        most = max(FEWEST_COLUMNS, n)
        joining = reduced.argsort(kind="stable")[:most]
        joining = joining[reduced[joining] < -TOLERANCE]
        if not len(joining):
            return taking_part, solution
        taking_part = np.union1d(taking_part, joining)


def equal_ones_in_order(chosen: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Among images with equal shares, exchange z so that the first ones have the largest.

    They cost the same, so the value stays.
    """
    _, kind = np.unique(shares, axis=0, return_inverse=True)
    kind = kind.reshape(-1)
    places = np.lexsort((np.arange(len(chosen)), kind))
    exchanged = np.empty_like(chosen)
    exchanged[places] = chosen[np.lexsort((-chosen, kind))]
    return exchanged
