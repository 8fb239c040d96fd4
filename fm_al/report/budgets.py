"""Budgets in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fm_al.budget import Budget
from fm_al.records.result_config import Config
from fm_al.report.bound_tables import bound_name
from fm_al.report.runs import FinishedRun, Runs
from fm_al.report.values import by_numbers, start_name

MOST_SIZES = 8  # of queries


def budget_of(run: FinishedRun) -> Budget:
    """The budget of a run."""
    return Budget(**run.config["budget"])


def budgets_in_words(runs: Runs) -> str:
    """The budgets of one setting: first labels, queries, all labels, and the upper bound."""
    budgets = [budget_of(run) for run in runs.runs]

    def alternatives(values: Iterable[object]) -> str:
        return " or ".join(sorted({*map(str, values)}, key=by_numbers))

    starts = sorted({_start(each.start) for each in budgets} - {""})
    start = f" ({' or '.join(starts)})" if starts else ""
    words = (
        f"{alternatives([each.initial for each in budgets])} initial labels{start}, "
        f"{_queries_in_words(budgets)} per round, "
        f"{alternatives([each.total for each in budgets])} in total"
    )
    if runs.bounds:
        count = len(runs.bounds)
        words += f"; upper bound: {count} run{'s' * (count > 1)} on the {bound_name(runs)}"
    return words


def _start(start: Config | None) -> str:
    name = start_name(start)
    return "" if name == "random" else f"start: {name}"


def _queries_in_words(budgets: Iterable[Budget]) -> str:
    """Sizes of the queries: one number if `per_round` is one, else of every query; in brackets
    where several budgets differ."""
    listed = sorted({tuple(_sizes(each)) for each in budgets}, key=lambda each: (len(each), each))
    texts = [_schedule_in_words(each, in_brackets=len(listed) > 1) for each in listed]
    return " or ".join(dict.fromkeys(texts))


def _sizes(budget: Budget) -> list[int]:
    if isinstance(budget.per_round, int) and budget.growth == 1:
        return [budget.per_round]
    return budget.query_sizes or [0]


def _schedule_in_words(sizes: Sequence[int], in_brackets: bool) -> str:
    words = [*map(str, sizes)]
    if len(words) > MOST_SIZES:
        words = [*words[: MOST_SIZES - 1], "…", words[-1]]
    text = ", ".join(words)
    return f"[{text}]" if in_brackets and len(words) > 1 else text
