"""Read the finished runs below a folder, and leave out what cannot be used.

A run is used only if everything that a report takes from its records is there and makes sense.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from fm_al.budget import MOST_LABELS, Budget
from fm_al.errors import ConfigError, RunError
from fm_al.records.discovery import runs_below
from fm_al.records.json_files import Schema, shortened, validated
from fm_al.records.naming import option_names
from fm_al.records.reading import StoredRun, stored_run
from fm_al.records.result_config import NO_EFFECT_IN_BUDGET, Config
from fm_al.records.schema import Count, Provenance, Result, Round
from fm_al.report.runs import FinishedRun, LeftOut
from fm_al.report.text import all_printable, printable
from fm_al.report.up_to import ended, result_of_ended
from fm_al.report.values import MISSING, by_numbers, format_value, matches, start_name

# Keys that stand for the option of that name, and the configuration behind it. Only some strategies
# read features. BAIT alone trains before its first query in the FisherMask authors' code.
FEATURES = ("features", "features_content")
OPTIONS: Mapping[str, tuple[str, ...]] = {
    "dataset": ("dataset", "dataset_content"),
    "imbalance": ("imbalance",),
    "backbone": ("backbone",),
    "strategy": ("strategy", "budget.train_before_first_query", *FEATURES),
    "budget.start": ("budget.start",),
}
# Records leave these options of the budget out, since a run with them is as it was before them.
BUDGET_DEFAULTS: Config = {"growth": 1, "whole_pool": False}
MOST_LISTED = 12  # values of a key, in an error
LIKE_A_RUN = {"config.yaml", "rounds.jsonl", "result.json"}

NEEDED_OF_A_ROUND = ("balanced_accuracy", "macro_f1", "per_class_accuracy", "queried_classes")


_Query = Annotated[Count, Field(ge=1)]


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


class _Masks(Schema):
    """What strategies with a mask record of a query."""

    mask_sizes: dict[str, Count] = Field(default_factory=dict)


class _Option(Schema):
    target: Annotated[str, Field(alias="_target_", pattern=r"\.")]
    name: str | None = None


class _Start(Schema):
    target: Annotated[str, Field(alias="_target_", pattern=r"\.")]
    strategy: _Option | None = None


class _Budget(Schema):
    initial: Count
    per_round: Annotated[list[_Query], Field(min_length=1), BeforeValidator(_as_list)]
    total: Annotated[Count, Field(le=MOST_LABELS)]
    train_before_first_query: bool = True
    growth: Annotated[float, Field(ge=1, lt=2**63)] = 1.0
    start: _Start | None = None
    whole_pool: bool = False


class _Device(Schema):
    kind: str


class _ResultConfig(Schema):
    """The keys of the configuration that a report needs."""

    dataset: _Option
    imbalance: _Option
    backbone: _Option
    strategy: _Option
    budget: _Budget
    device: _Device
    seed: Count
    experiment_name: Annotated[str, Field(min_length=1)]


def finished_runs(
    folder: Path, left_out: list[LeftOut], with_unfinished: bool = False
) -> Iterator[FinishedRun]:
    """Read the finished runs in a folder and below.

    Args:
        folder: Where to look.
        left_out: Receives the other runs.
        with_unfinished: Read unfinished runs, too, as if each ended with its last recorded round.
            Those on the whole pool, and those without a round, are left out all the same.
    """
    directories = runs_below(folder)
    left_out += _foreign(folder, {*directories})
    for directory in directories:
        try:
            stored = stored_run(directory)
            result, provenance = stored.result, stored.provenance
            if result is not None and provenance is not None:
                _check(stored.rounds, result.class_names, provenance, "result.json")
                _check_counts(stored.rounds, len(result.class_names), provenance.decides["budget"])
                yield _printable_run(directory, stored.rounds, result, provenance)
            elif with_unfinished and provenance is not None and stored.rounds:
                yield _unfinished_run(stored, provenance)
            else:
                left_out.append(LeftOut(directory, _why_unfinished(stored)))
        except (RunError, OSError) as error:
            left_out.append(LeftOut(directory, str(error).replace(f"{directory}/", "")))


def _unfinished_run(stored: StoredRun, provenance: Provenance) -> FinishedRun:
    """The run as if it ended with its last recorded round. Raises RunError."""
    why, names = _why_unfinished(stored), provenance.class_names
    _check(stored.rounds, names, provenance, "provenance.json")
    budget = provenance.decides["budget"]
    if budget.get("whole_pool"):
        raise RunError(why)
    if not names:
        raise RunError(f"{why}; provenance.json does not name its classes")
    rounds = ended(stored.rounds)
    total = max(budget["initial"], min(budget["total"], rounds[-1].labelled))
    _check_counts(rounds, len(names), budget | {"total": total})
    result = result_of_ended(rounds, names)
    return _printable_run(stored.directory, rounds, result, provenance, why)


def _printable_run(
    directory: Path,
    rounds: Sequence[Round],
    result: Result,
    provenance: Provenance,
    unfinished: str = "",
) -> FinishedRun:
    """A run whose names, such as those of classes, can be printed in one line."""
    config = _with_whole_budget(provenance.result_config)
    names = all_printable(result.class_names)
    return FinishedRun(
        directory,
        config=all_printable(config),
        provenance=provenance,
        rounds=[
            each.model_copy(update={"strategy": all_printable(each.strategy)}) for each in rounds
        ],
        result=result.model_copy(update={"class_names": names}),
        options=all_printable(
            option_names(directory, config)
            | {"budget.start": start_name(config["budget"].get("start"))}
        ),
        unfinished=unfinished,
    )


def _with_whole_budget(config: Config) -> Config:
    """A result config whose budget has the options that records leave out, but for a start."""
    recorded = config["budget"].items()
    told = {k: v for k, v in recorded if v not in NO_EFFECT_IN_BUDGET.get(k, ())}
    return config | {"budget": BUDGET_DEFAULTS | told}


def chosen_runs(
    finished: Sequence[FinishedRun], where: Mapping[str, Sequence[str]]
) -> list[FinishedRun]:
    """The runs that have one of the values for each key of `where`.

    Raises:
        ConfigError: No run has such a key, or none has these values.
    """
    for key in where:
        check_key("--where", key, finished)
    if chosen := matching(finished, where):
        return chosen
    what = "runs" if any(run.unfinished for run in finished) else "finished runs"
    raise ConfigError(
        f"--where {_typed(where)}: matches none of {len(finished)} {what}"
        f"{_values_there(finished, where)}"
    )


def _typed(where: Mapping[str, Sequence[str]]) -> str:
    return " ".join(f"{key}={','.join(values)}" for key, values in where.items())


def _values_there(finished: Sequence[FinishedRun], where: Mapping[str, Sequence[str]]) -> str:
    """The values of the first key that leaves no run, in the runs that the keys before it leave."""
    left, before = list(finished), dict[str, Sequence[str]]()
    for key, typed in where.items():
        if not (matched := matching(left, {key: typed})):
            values = {
                format_value(value) for run in left if (value := run.value(key)) is not MISSING
            }
            place = f"with {_typed(before)}, " if before else ""
            there = f"{key} is {_listed(values, typed)}" if values else f"no run has {key}"
            return f"; {place}{there}"
        left, before = matched, before | {key: typed}
    return ""


def _listed(values: Set[str], typed: Sequence[str]) -> str:
    """At most a dozen values, those closest to what was typed first."""
    ordered = sorted(values, key=by_numbers)
    close = [each for text in typed for each in difflib.get_close_matches(text, ordered, n=1)]
    shown = [*dict.fromkeys([*close, *ordered])]
    more = f" and {len(shown) - MOST_LISTED} more" if len(shown) > MOST_LISTED else ""
    return f"{', '.join(shown[:MOST_LISTED])}{more}"


def matching(
    finished: Sequence[FinishedRun], where: Mapping[str, Sequence[str]]
) -> list[FinishedRun]:
    """The runs that have one of the values for each key of `where`."""
    return [
        run
        for run in finished
        if all(any(matches(run.value(key), text) for text in where[key]) for key in where)
    ]


def check_key(option: str, key: str, finished: Sequence[FinishedRun]) -> None:
    """Raise ConfigError if no run has this key."""
    known = sorted({*OPTIONS, *(key for run in finished for key in run.flat)})
    if key not in known:
        close = difflib.get_close_matches(key, known, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ConfigError(f"{option} {key}: no run has this key{hint}; keys: {', '.join(known)}")


def _check(
    rounds: Sequence[Round], class_names: Sequence[str], provenance: Provenance, names_file: str
) -> None:
    """Raise RunError if a report cannot use these records. names_file: has the class names."""
    missing = {name: None for each in rounds for name in each.lacks(*NEEDED_OF_A_ROUND)}
    if missing:
        raise RunError(f"has rounds without {', '.join(missing)}")
    for number, each in enumerate(rounds, 1):
        _check_values(f"rounds.jsonl: line {number}", each.strategy, _Masks, "strategy")
    config = provenance.decides
    _check_values("provenance.json", config, _ResultConfig, "decides")
    if "torch" not in provenance.software:
        raise RunError("provenance.json lacks software.torch")
    if len({*map(printable, class_names)}) < len(class_names):
        raise RunError(
            f"{names_file} is damaged (class_names={shortened([*class_names])}: should differ)"
        )


def _check_values(place: str, values: Config, schema: type[Schema], key: str) -> None:
    try:
        validated(values, schema)
    except ValueError as error:
        what = str(error)
        if what.startswith("lacks "):
            raise RunError(f"{place} lacks {key}.{what.removeprefix('lacks ')}") from None
        raise RunError(f"{place} is damaged ({key}.{what})") from None


def _check_counts(rounds: Sequence[Round], classes: int, options: Config) -> None:
    """Check that the rounds are those of the budget, with as many queried images and classes."""
    try:
        budget = Budget(**{k: v for k, v in options.items() if k in _Budget.model_fields})
    except ConfigError as error:
        raise RunError(f"provenance.json is damaged (decides.{error})") from None
    if not budget.whole_pool:
        # First, so that no absurd total is divided into queries.
        images, wanted = sum(len(each.queried) for each in rounds), budget.total - budget.initial
        if images < wanted:
            raise RunError(f"has queries of {images} images, its budget is of {wanted}")
    if budget.rounds != len(rounds):
        raise RunError(f"has {len(rounds)} rounds, its budget is of {budget.rounds}")
    labels = budget.schedule(pool_size=rounds[0].labelled)
    queried = [*budget.query_sizes, 0]
    for number, each in enumerate(rounds):
        for what, found, expected in (
            ("labelled", each.labelled, labels[number]),
            ("length of per_class_accuracy", len(each.per_class_accuracy), classes),
            ("length of queried_classes", len(each.queried_classes), classes),
            ("sum of queried_classes", sum(each.queried_classes), queried[number]),
        ):
            if found != expected:
                place = f"rounds.jsonl: line {number + 1}"
                raise RunError(f"{place} is damaged ({what}={found}: should be {expected})")


def _foreign(folder: Path, runs: Set[Path]) -> list[LeftOut]:
    """Folders with files of a run but no provenance.json: another program's, or damaged."""
    found = []
    for path, folders, files in os.walk(folder):
        if Path(path) in runs:
            folders.clear()
            continue
        folders[:] = sorted({*folders} - {"wandb"})
        if there := sorted({*files} & LIKE_A_RUN):
            found.append(LeftOut(Path(path), f"has {', '.join(there)} and no provenance.json"))
    return found


def _why_unfinished(stored: StoredRun) -> str:
    if stored.result is not None:
        return "has a result and no provenance.json"
    rounds = f"{len(stored.rounds)} round{'s' * (len(stored.rounds) != 1)}"
    if stored.error is not None:
        return f"failed after {rounds}: {stored.error.message}"
    return f"is not finished: {rounds} so far"
