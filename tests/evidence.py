"""The tables of docs/evidence.md, from the records of the runs behind them.

Unpack `repairs.tar.xz` into a folder `repairs` and `records.tar.xz` beside it, then

    python -m tests.evidence repairs records/rivals
    python -m tests.evidence --full-length records/full_length
    python -m tests.evidence --approximations approximations

print the tables to 225 labels, those of runs to their last label, and that of BAIT's
approximations (`approximations.tar.xz`). Strategies that are not in the tables are left out.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from fm_al.records.curve import area_under_curve
from fm_al.records.discovery import runs_below
from fm_al.records.reading import stored_run
from fm_al.report.statistics import ALPHA, compared, holm

LABELS = 225  # that areas on the paper's imbalanced settings go to; some runs went on
SEEDS = 5  # what has fewer is left out
RIVALS = ("random", "margin", "entropy", "coreset", "badge")
FISHER = ("bait", "fishermask")
REPAIRS = {
    ("pool_fisher", "class_balanced"): "class-balanced F",
    ("pool_fisher", "soft_class_balanced"): "soft class-balanced F",
    ("temperature", "calibrated"): "calibrated",
    ("labelled_weight", "each"): "each labelled",
}
PUBLISHED = "as published"
DEFAULT = "soft class-balanced F + calibrated + each labelled"
SCALED = "rho = 0.01"
EXACT = "exact"
SETTINGS = {
    ("digits", "step", 10): "digits 10:1",
    ("digits", "step", 20): "digits 20:1",
    ("digits", "none", None): "digits balanced",
    ("mnist", "counts", 4): "MNIST",
    ("fashion_mnist", "counts", 4): "Fashion-MNIST",
    ("image_folder", "counts", 4): "CIFAR-10",
    ("fashion_mnist", "counts", 10): "Fashion-MNIST balanced",
}


def setting_of(decides: Mapping[str, Any]) -> str:
    dataset = decides["dataset"].get("name") or decides["dataset"]["_target_"].split(".")[-2]
    imbalance = decides["imbalance"]
    kind = imbalance["_target_"].split(".")[-2]
    size = {"step": lambda: imbalance["ratio"], "counts": lambda: len(imbalance["pool"])}
    return SETTINGS[dataset, kind, size.get(kind, lambda: None)()]


def variant_of(options: Mapping[str, Any]) -> str:
    """What a strategy's options are, beside the defaults of the paper."""
    if options["regularization_scale"] == "absolute":
        return PUBLISHED
    rho = f"rho = {options['regularization']:g}"
    repairs = [name for (key, value), name in REPAIRS.items() if options[key] == value]
    return " + ".join([*([] if repairs and rho == SCALED else [rho]), *repairs])


def imbalanced_setting_of(decides: Mapping[str, Any]) -> str:
    """Of the runs with approximations: ten classes, 10:1."""
    dataset = decides["dataset"].get("name") or decides["dataset"]["_target_"].split(".")[-2]
    return {"digits": "digits", "mnist": "MNIST", "fashion_mnist": "Fashion-MNIST"}[dataset]


def approximation_of(options: Mapping[str, Any]) -> str:
    name = options["approximation"] or EXACT
    return f"top_classes={options['top_classes']}" if name == "top_classes" else name


# By setting, by strategy and variant, and by seed.
Areas = Mapping[str, Mapping[tuple[str, str], Mapping[int, float]]]


def areas(
    folders: Iterable[Path],
    full_length: bool = False,
    setting_of: Callable[[Mapping[str, Any]], str] = setting_of,
    variant_of: Callable[[Mapping[str, Any]], str] = variant_of,
) -> Areas:
    """Areas under the accuracy curve, by setting, by strategy and variant, and by seed: to the
    run's last label or, on the paper's imbalanced settings unless full_length, to 225.

    Raises:
        ValueError: Two runs of a group and seed have different areas. A run that was repeated with
            the same result counts once.
    """
    found: defaultdict[str, defaultdict[tuple[str, str], dict[int, float]]]
    found = defaultdict(lambda: defaultdict(dict))
    for folder in folders:
        for directory in runs_below(folder):
            stored = stored_run(directory)
            if stored.provenance is None or stored.result is None:
                continue
            decides = stored.provenance.result_config
            options = decides["strategy"]
            strategy = options["_target_"].split(".")[-2]
            if strategy not in (*RIVALS, *FISHER):
                continue
            variant = variant_of(options) if strategy in FISHER else ""
            setting = setting_of(decides)
            last = decides["budget"]["total"]
            if decides["budget"]["initial"] == 15 and not full_length:
                last = LABELS
            rounds = [record for record in stored.rounds if record.labelled <= last]
            area = area_under_curve(
                [record.labelled for record in rounds],
                [record.accuracy for record in rounds],
            )
            if found[setting][strategy, variant].setdefault(decides["seed"], area) != area:
                raise ValueError(f"{directory}: another run of its group and seed differs")
    return {
        setting: {key: seeds for key, seeds in of_setting.items() if len(seeds) >= SEEDS}
        for setting, of_setting in found.items()
    }


def approximation_areas(folders: Iterable[Path]) -> Areas:
    found = areas(folders, True, imbalanced_setting_of, approximation_of)
    return {setting: found[setting] for setting in ("digits", "MNIST", "Fashion-MNIST")}


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of Markdown, numbers on the right."""
    line = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, line, *rows])


def variants_table(found: Areas, strategies: Sequence[str], only: str = "") -> str:
    """Mean areas: rows are variants, columns settings."""
    settings = [name for name in SETTINGS.values() if name in found]
    keys = dict.fromkeys(key for setting in settings for key in sorted(found[setting], key=_order))
    rows = []
    for strategy, variant in sorted(keys, key=_order):
        if strategy not in strategies or (only and only not in variant and variant != PUBLISHED):
            continue
        if not only and variant.startswith("rho") and variant != SCALED:
            continue
        cells = [found[setting].get((strategy, variant)) for setting in settings]
        means = [f"{sum(c.values()) / len(c):.3f}" if c else "" for c in cells]
        rows.append([" ".join(part for part in (strategy, variant) if part), *means])
    return table(["", *settings], rows)


def _order(key: tuple[str, str]) -> tuple[Any, ...]:
    strategy, variant = key
    names = (*RIVALS, *FISHER)
    return (
        names.index(strategy),
        variant != PUBLISHED,
        variant.count("+") + (variant != SCALED),
        variant,
    )


def against_rivals(found: Areas, strategy: str, variant: str) -> str:
    """The mean paired difference to each rival; in bold where the paired t-test, corrected by Holm
    for the rivals of a setting, is below 0.05."""
    settings = [name for name in SETTINGS.values() if name in found]
    columns = []
    for setting in settings:
        of_setting = found[setting]
        ours = of_setting.get((strategy, variant))
        rivals = [rival for rival in RIVALS if (rival, "") in of_setting]
        if not ours or not rivals:
            columns.append(dict.fromkeys(RIVALS, ""))
            continue
        frame = pd.DataFrame({"ours": ours} | {rival: of_setting[rival, ""] for rival in rivals})
        comparisons = [compared(frame, "ours", rival) for rival in rivals]
        corrected = holm([each.t_test for each in comparisons])
        cells = dict.fromkeys(RIVALS, "")
        for rival, each, p in zip(rivals, comparisons, corrected, strict=True):
            shown = f"{each.difference:+.3f}"
            cells[rival] = f"**{shown}**" if p is not None and p < ALPHA else shown
        columns.append(cells)
    rows = [[rival, *[cells[rival] for cells in columns]] for rival in RIVALS]
    return table([f"{strategy} ({variant}) less", *settings], rows)


def gains(found: Areas) -> str:
    """The mean paired difference of the defaults to what was published, in bold where the paired
    t-test, without correction, is below 0.05."""
    settings = [name for name in SETTINGS.values() if name in found]
    rows = []
    for strategy in FISHER:
        cells = []
        for setting in settings:
            pair = [found[setting].get((strategy, variant)) for variant in (DEFAULT, PUBLISHED)]
            if not all(pair):
                cells.append("")
                continue
            each = compared(pd.DataFrame(dict(zip("ab", pair, strict=True))), "a", "b")
            shown = f"{each.difference:+.3f}"
            is_significant = each.t_test is not None and each.t_test < ALPHA
            cells.append(f"**{shown}**" if is_significant else shown)
        rows.append([strategy, *cells])
    return table(["default less as published", *settings], rows)


def approximations(found: Areas) -> str:
    """Mean areas, and the mean paired difference to exact BAIT; in bold where the paired t-test,
    corrected by Holm for the rows of a setting, is below 0.05."""
    keys = [("bait", EXACT)]
    keys += sorted({key for of_setting in found.values() for key in of_setting} - {*keys})
    cells: dict[tuple[str, str], list[str]] = {key: [] for key in keys}
    for of_setting in found.values():
        frame = pd.DataFrame({" ".join(key).strip(): of_setting[key] for key in keys})
        exact, *others = frame
        comparisons = [compared(frame, other, exact) for other in others]
        corrected = holm([each.t_test for each in comparisons])
        cells[keys[0]].append(f"{frame[exact].mean():.3f}")
        for key, other, each, p in zip(keys[1:], others, comparisons, corrected, strict=True):
            shown = f"{each.difference:+.3f}"
            shown = f"**{shown}**" if p is not None and p < ALPHA else shown
            cells[key].append(f"{frame[other].mean():.3f} ({shown})")
    rows = [[" ".join(key).strip(), *cells[key]] for key in keys]
    return table(["", *found], rows)


TABLES: dict[str, Callable[[Areas], str]] = {
    "repairs": partial(variants_table, strategies=(*RIVALS, *FISHER)),
    "gains": gains,
    "scale": partial(variants_table, strategies=FISHER, only="rho"),
    "bait": partial(against_rivals, strategy="bait", variant=DEFAULT),
    "fishermask": partial(against_rivals, strategy="fishermask", variant=DEFAULT),
}
FULL_LENGTH: dict[str, Callable[[Areas], str]] = {
    "all": TABLES["repairs"],
    "fishermask as published": partial(against_rivals, strategy="fishermask", variant=PUBLISHED),
    "fishermask": TABLES["fishermask"],
    "bait": TABLES["bait"],
}


def main() -> None:
    folders = sys.argv[1:]
    if folders[0] == "--approximations":
        print(approximations(approximation_areas(map(Path, folders[1:]))))
        return
    full_length = folders[0] == "--full-length"
    found = areas(map(Path, folders[full_length:]), full_length)
    for make in (FULL_LENGTH if full_length else TABLES).values():
        print(make(found), end="\n\n")


if __name__ == "__main__":
    main()
