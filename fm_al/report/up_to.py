"""Runs up to a number of labels, as if each had been started with that budget."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Collection, Sequence
from dataclasses import replace

from pydantic import ValidationError

from fm_al.errors import ConfigError, RunError
from fm_al.records.result import NEEDED_FOR_RESULT, result_of
from fm_al.records.schema import Result, Round
from fm_al.report.runs import FinishedRun, LeftOut

MOST_NUMBERS = 12  # of labels in an error
# Of a round's record: the checkpoint for the next round, and the line as it was written.
NOT_OF_A_LAST_ROUND = ("weights_digest", "digest")


def ended(rounds: Sequence[Round]) -> list[Round]:
    """The rounds of a run that ends with the last of these. Raises RunError if they lack values."""
    missing = {name: None for each in rounds for name in each.lacks(*NEEDED_FOR_RESULT)}
    if missing:
        raise RunError(f"has rounds without {', '.join(missing)}")
    return [*rounds[:-1], _without_query(rounds[-1])]


def result_of_ended(rounds: Sequence[Round], class_names: Sequence[str]) -> Result:
    """The result of these rounds. Raises RunError if it is not one that a run can have."""
    try:
        return result_of(rounds, class_names)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise RunError(
            f"rounds.jsonl is damaged (it gives a result with {first['loc'][0]}: {first['msg']})"
        ) from None


def _without_query(record: Round) -> Round:
    """A round as it is recorded if it is the last one."""
    value = record.as_json()
    kept = {key: each for key, each in value.items() if key not in NOT_OF_A_LAST_ROUND}
    return Round.model_validate(
        kept
        | {
            "queried": [],
            "queried_classes": [0] * len(record.queried_classes),
            "seconds": {key: each for key, each in record.seconds.items() if key != "query"},
            "strategy": {},
        }
    )


def with_budget_up_to(run: FinishedRun, labels: int) -> FinishedRun:
    """A run whose configuration has a budget of at most `labels`; its rounds stay."""
    budget = run.config["budget"]
    if budget["total"] <= labels:
        return run
    return replace(run, config=run.config | {"budget": budget | {"total": labels}})


def runs_up_to(
    runs: Sequence[FinishedRun], labels: int, left_out: list[LeftOut]
) -> list[FinishedRun]:
    """Cut every run after the round with this number of labels.

    Args:
        runs: Those to cut, with a budget of at most `labels` in their configuration.
        labels: How many labels the last round has.
        left_out: Receives the runs that have no such round.

    Raises:
        ConfigError: No run has such a round.
    """
    numbers = {each.labelled for run in runs for each in run.rounds}
    if labels not in numbers:
        raise ConfigError(
            f"--up-to {labels}: no run has this number of labels; runs have "
            f"{_listed(numbers, labels)}"
        )
    cut = []
    for run in runs:
        try:
            cut.append(_cut(run, labels))
        except RunError as error:
            left_out.append(LeftOut(run.directory, str(error)))
    return cut


def _cut(run: FinishedRun, labels: int) -> FinishedRun:
    """The run, ended after the round with this number of labels. Raises RunError without one."""
    numbers = [each.labelled for each in run.rounds]
    if labels not in numbers:
        raise RunError(_why_not(run, numbers, labels))
    if labels == numbers[-1]:
        return run
    rounds = ended(run.rounds[: numbers.index(labels) + 1])
    result = result_of_ended(rounds, run.result.class_names)
    # The confusion matrix was of the last round; older records count the test images nowhere else.
    provenance = run.provenance
    if not provenance.test_counts:
        counts = [sum(row) for row in run.result.confusion_matrix]
        provenance = provenance.model_copy(update={"test_counts": counts})
    return replace(run, provenance=provenance, rounds=rounds, result=result)


def _why_not(run: FinishedRun, numbers: Sequence[int], labels: int) -> str:
    if numbers[-1] < labels:
        if run.unfinished:
            return f"has reached {numbers[-1]} of {labels} labels; {run.unfinished}"
        return f"ends at {numbers[-1]} of {labels} labels"
    place = bisect(numbers, labels)
    near = " and ".join(str(each) for each in numbers[max(0, place - 1) : place + 1])
    return f"has no round with {labels} labels; nearest: {near}"


def _listed(numbers: Collection[int], labels: int) -> str:
    """The numbers in order; of many, the first, the last and those near `labels`."""
    ordered = sorted(numbers)
    first = max(0, min(bisect(ordered, labels) - MOST_NUMBERS // 2, len(ordered) - MOST_NUMBERS))
    near = ordered[first : first + MOST_NUMBERS]
    words = [str(each) for each in near]
    if first > 0:
        words = [str(ordered[0]), *["…"] * (first > 1), *words]
    if near[-1] != ordered[-1]:
        words += [*["…"] * (near[-1] != ordered[-2]), str(ordered[-1])]
    return ", ".join(words)
