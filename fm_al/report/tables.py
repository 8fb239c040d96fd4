"""The tables of a report: what they hold."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from fm_al.records.curve import area_under_curve
from fm_al.report.metrics import METRICS, capitalized, metrics_of
from fm_al.report.published import Published
from fm_al.report.runs import Runs
from fm_al.report.statistics import (
    ALPHA,
    FEWEST_FOR_RANKS,
    FEWEST_FOR_T,
    FEWEST_FOR_WILCOXON,
    Comparison,
    Penalties,
    Ranks,
    all_compared,
    by_mean,
    common_seeds,
    labels_needed,
    missing_seeds,
    share_saved,
    standing,
)
from fm_al.report.typeset import LEVEL, NO_NUMBER, UNTESTED, Cell, Table

REFERENCE = "random"  # what labels are saved against, where it is among the groups
AREA = "divided by the range of labels: a mean over it, in [0, 1]"
STAGES = ("train", "evaluate", "query")
SAME_DIFFERENCE = "their difference is the same for every seed"
MOST_PAIRS = 3  # that a note names
COARSE = 2  # test images; a spread of less is a step or two of what can be measured at all


def tables_of_setting(runs: Runs, prefix: str, targets: Sequence[float]) -> list[Table]:
    """Of the runs of one setting. targets: accuracies to count the labels for, beside that which
    random labels reach in the end; the same for the other figures."""
    return [
        *(_over_labels(runs, prefix, figure) for figure in metrics_of(runs)),
        _areas(runs, prefix),
        *(
            table
            for figure in metrics_of(runs)
            for table in _labels_to_targets(runs, prefix, figure, targets)
        ),
        *_per_class(runs, prefix),
        *(_differences(runs, prefix) if len(runs.groups) > 1 else []),
        _seconds(runs, prefix),
    ]


def _differences(runs: Runs, prefix: str) -> list[Table]:
    return [
        comparisons(
            f"{prefix}area_differences",
            "Differences of the area under the accuracy curve",
            all_compared(runs.area("accuracy")),
        ),
        comparisons(
            f"{prefix}final_differences",
            f"Differences of the accuracy at {runs.labels[-1]} labels",
            all_compared(runs.final("accuracy")),
            test_image_count(runs),
        ),
    ]


def by_area(runs: Runs) -> list[str]:
    """The groups, that of the largest area under the accuracy curve first, see `by_mean`."""
    return by_mean(runs.area("accuracy"))


def _over_labels(runs: Runs, prefix: str, figure: str) -> Table:
    frames = {str(labels): runs.at(figure, labels) for labels in runs.labels}
    return _means(
        runs,
        f"{prefix}{figure}",
        f"{capitalized(METRICS[figure])} by number of labels",
        frames,
    )


def _areas(runs: Runs, prefix: str) -> Table:
    return _means(
        runs,
        f"{prefix}areas",
        f"Area under the curve over labels, {runs.labels[0]} to {runs.labels[-1]}",
        {name: runs.area(figure) for figure, name in metrics_of(runs).items()},
        [AREA],
    )


def _labels_to_targets(
    runs: Runs, prefix: str, figure: str, targets: Sequence[float]
) -> list[Table]:
    figures = {labels: runs.at(figure, labels) for labels in runs.labels}
    wanted: dict[str, float | pd.Series] = {f"{target:g}": target for target in targets}
    reference = REFERENCE if REFERENCE in runs.groups else None
    if reference is not None:
        # Of each seed by itself: then random always gets there, and no pair is lost.
        wanted = {f"{reference}'s last": runs.final(figure)[reference]} | wanted
    columns, cells = [_compared_by(runs)], {group: [Cell(group)] for group in by_area(runs)}
    for name, target in wanted.items():
        needed = labels_needed(figures, target)
        columns.append(f"labels for {name}")
        saved = None
        if reference is not None:
            columns.append(f"saved for {name}")
            saved = share_saved(needed, reference)
        for group, row in cells.items():
            has_target = figures[runs.labels[0]][group].notna()
            if isinstance(target, pd.Series):
                has_target &= target.notna()
            row.append(_reached(needed[group], int(has_target.sum())))
            if saved is not None:
                row.append(NO_NUMBER if group == reference else _share(saved[group]))
    if len(columns) == 1:
        return []
    notes = [
        f"labels: the first number at which that {METRICS[figure]} was measured, mean ± standard "
        "deviation over the seeds that reach it, and how many do; nothing is interpolated",
    ]
    if reference is not None:
        notes += [
            f"{reference}'s last: what {reference} ends with, seed by seed",
            f"saved: 1 - labels / labels of {reference}, over the seeds, so many, where both get "
            "there",
        ]
    title = f"Labels needed to reach {'an' if figure == 'accuracy' else 'a'} {METRICS[figure]}"
    return [Table(f"{prefix}labels_needed_{figure}", title, columns, list(cells.values()), notes)]


def _reached(needed: pd.Series, seeds: int) -> Cell:
    reached = int(needed.count())
    if not seeds:
        return NO_NUMBER
    if not reached:
        return Cell(f"never (0 of {seeds})", seeds=0)
    cell = mean_cell(needed, "{:.0f}")
    return Cell(f"{cell.text} ({reached} of {seeds})", cell.value, cell.spread, seeds=reached)


def _share(saved: pd.Series) -> Cell:
    if not saved.count():
        return NO_NUMBER
    cell = mean_cell(saved, "{:.0%}")
    return Cell(f"{cell.text} ({saved.count()})", cell.value, cell.spread, seeds=saved.count())


def _per_class(runs: Runs, prefix: str) -> list[Table]:
    names, labels = runs.class_names, runs.labels
    if names is None:
        return []
    at = {
        run: np.array([run.at(each).per_class_accuracy for each in labels], float)
        for run in runs.runs
    }
    last = {
        name: runs.framed({run: values[-1, number] for run, values in at.items()})
        for number, name in enumerate(names)
    }
    areas = {
        name: runs.framed(
            {run: area_under_curve(labels, list(each[:, number])) for run, each in at.items()}
        )
        for number, name in enumerate(names)
    }
    return [
        _means(runs, f"{prefix}per_class", f"Accuracy of each class at {labels[-1]} labels", last),
        _means(
            runs,
            f"{prefix}per_class_areas",
            f"Area under the curve of each class's accuracy, {labels[0]} to {labels[-1]} labels",
            areas,
            [AREA],
        ),
    ]


def _seconds(runs: Runs, prefix: str) -> Table:
    rows = []
    for group in by_area(runs):
        of_runs = [run.result.seconds for run in runs.of_group(group)]
        stages = [pd.Series([float(each.get(stage, 0)) for each in of_runs]) for stage in STAGES]
        total = pd.Series([float(sum(each.values())) for each in of_runs])
        rows.append([Cell(group), *(mean_cell(each, "{:.1f}") for each in [*stages, total])])
    return Table(
        f"{prefix}seconds",
        "Seconds by stage, of a whole run",
        [_compared_by(runs), *STAGES, "total"],
        rows,
        ["mean ± standard deviation over runs; comparable where all ran on equal machines"],
    )


def comparisons(
    name: str, title: str, compared: Sequence[Comparison], test_images: int | None = None
) -> Table:
    """A row for each two groups. test_images: how many what is compared is a share of, if it is
    one."""
    rows = []
    for each in compared:
        ends = each.interval or (None, None)
        rows.append(
            [
                Cell(each.name),
                *(_signed(value) for value in (each.difference if each.pairs else None, *ends)),
                _p(each.t_test),
                _p(each.t_test_corrected, is_bold=True),
                _p(each.wilcoxon),
                _p(each.wilcoxon_corrected, is_bold=True),
                Cell(str(each.pairs), each.pairs),
            ]
        )
    t_tests = sum(each.t_test is not None for each in compared)
    wilcoxons = sum(each.wilcoxon is not None for each in compared)
    notes = [
        "paired over seeds; from, to: 95% confidence interval, of this pair alone; two-sided; "
        f"Holm: corrected for {t_tests} t-tests and {wilcoxons} of Wilcoxon's",
    ]
    if any(each.pairs < FEWEST_FOR_T for each in compared):
        notes.append(f"of fewer than {FEWEST_FOR_T} pairs there are too few seeds for a t-test")
    notes += spread_notes(compared, test_images)
    if wilcoxons < len(compared):
        notes.append(
            f"Wilcoxon's test needs {FEWEST_FOR_WILCOXON} pairs that differ: with fewer no p-value "
            f"can be below {ALPHA}, and corrected ones only with more"
        )
    tests = ["t-test", "t-test, Holm", "Wilcoxon", "Wilcoxon, Holm"]
    columns = ["pair", "difference", "from", "to", *tests, "pairs"]
    return Table(name, title, columns, rows, notes)


def spread_notes(compared: Sequence[Comparison], test_images: int | None) -> list[str]:
    """What to know of comparisons whose differences vary too little over seeds. test_images: see
    `comparisons`."""
    notes = []
    if constant := [each.name for each in compared if each.is_constant]:
        notes.append(
            f"no interval and no test for {_few(constant)}: the difference is the same for every "
            "seed, and without spread there is nothing to estimate one from"
        )
    if test_images and (
        coarse := [
            each.name
            for each in compared
            if each.t_test is not None and 0 < (each.spread or 0) < COARSE / test_images
        ]
    ):
        notes.append(
            f"accuracies are coarse for the tests of {_few(coarse)}: one of {test_images} test "
            f"images is {1 / test_images:.2g}, and over seeds the difference varies by less than "
            f"{COARSE} images"
        )
    return notes


def _few(names: Sequence[str]) -> str:
    more = len(names) - MOST_PAIRS
    return ", ".join(names[:MOST_PAIRS]) + (f" and {more} more" if more > 0 else "")


def test_image_count(runs: Runs) -> int | None:
    """How many test images there are; None where runs have different ones or do not say."""
    counts = {sum(map(sum, run.result.confusion_matrix)) for run in runs.runs}
    return (counts.pop() or None) if len(counts) == 1 else None


def _signed(value: float | None) -> Cell:
    return NO_NUMBER if value is None else Cell(f"{value:+.4f}", value)


def _p(value: float | None, is_bold: bool = False) -> Cell:
    if value is None:
        return NO_NUMBER
    text = f"{value:.3f}" if value >= 0.001 else "<0.001"
    return Cell(text, value, best=is_bold and value < ALPHA)


def beside_published(runs: Runs, prefix: str, published: Published) -> list[Table]:
    """Measured accuracies and published ones, of the strategies and labels that have both."""
    groups = [group for group in by_area(runs) if group in published]
    labels = [n for n in runs.labels if any(n in published[group] for group in groups)]
    if not labels:
        return []
    frames = [runs.at("accuracy", n) for n in labels]
    rows = []
    for group in groups:
        rows.append([Cell(group), Cell("measured"), *(mean_cell(each[group]) for each in frames)])
        there = [published[group].get(n) for n in labels]
        cells = [NO_NUMBER if each is None else Cell(f"{each:.3f}", each) for each in there]
        rows.append([Cell(group), Cell("published"), *cells])
    return [
        Table(
            f"{prefix}published",
            "Accuracy by number of labels, measured and published",
            [_compared_by(runs), "", *map(str, labels)],
            rows,
            [
                "published: means of five trials of the paper's authors, read off plots to 0.005 "
                "or printed to 0.01; of their code, which departs from the paper's mathematics"
            ],
        )
    ]


def penalty_table(penalties: Penalties) -> Table:
    """The pairwise penalty matrix."""

    def cell(value: float, best: bool = False) -> Cell:
        return NO_NUMBER if math.isnan(value) else Cell(f"{value:.2f}", value, best=best)

    matrix, lost = penalties.matrix, penalties.lost
    rows = [[Cell(str(group)), *map(cell, matrix.loc[group])] for group in matrix.index]
    rows.append([Cell("lost, mean"), *(cell(each, each == lost.min()) for each in lost)])
    there = penalties.tested.to_numpy()[matrix.notna().to_numpy()]
    fewest, most = int(there.min()), int(there.max())
    settings = f"{most} setting{'s' * (most > 1)}"
    notes = [
        f"how often, over {settings}, the row beats the column: in each, the share of the numbers "
        "of labels, all after the first, at which the paired t-test says so (two-sided, "
        f"{ALPHA}, not corrected, as in the BADGE paper, which takes some of them)",
        "lost, mean: of the column against all that it was tested with; lower is better",
    ]
    if fewest < most:
        notes.append(f"some pairs could be tested in {fewest} only, and so lose less")
    if penalties.constant:
        times = "once" if penalties.constant == 1 else f"{penalties.constant} times"
        notes.append(
            f"{times} the difference of a pair was the same for every seed, which can't be tested "
            "and counts for neither"
        )
    return Table(
        "penalties", "Pairwise penalties", ["beats", *map(str, matrix.columns)], rows, notes
    )


def wins(of_settings: Mapping[str, Sequence[Comparison]], groups: Sequence[str]) -> Table:
    """Over settings and opponents, by the area under the accuracy curve."""
    rows = []
    for group in groups:
        won = tied = lost = untested = 0
        for compared in of_settings.values():
            for each in compared:
                if each.against(group) is None:
                    continue
                if each.t_test_corrected is None:
                    untested += 1
                elif each.winner is None:
                    tied += 1
                elif each.winner == group:
                    won += 1
                else:
                    lost += 1
        rows.append([Cell(group), *(Cell(str(n), n) for n in (won, tied, lost, untested))])
    why_untested = "too few seeds in common"
    if any(each.is_constant for compared in of_settings.values() for each in compared):
        why_untested += ", or the same difference for every seed"
    return Table(
        "wins",
        "Wins, ties and losses, of the area under the accuracy curve",
        ["", "wins", "ties", "losses", "not tested"],
        rows,
        [
            "over settings and opponents; a win is significant by the paired t-test, corrected by "
            f"Holm within the setting; not tested: {why_untested}"
        ],
    )


def rank_table(ranks: Ranks, settings: Sequence[str], groups: Sequence[str]) -> Table:
    """Mean ranks over settings. settings, groups: all that there are."""
    best = ranks.mean.min()
    notes = [
        f"of the area under the accuracy curve, over {len(ranks.settings)} settings "
        f"({', '.join(ranks.settings)}); 1 is best"
    ]
    if left_out := [each for each in settings if each not in ranks.settings]:
        notes.append(f"without {', '.join(left_out)}: too few seeds, or groups, in common")
    if left_out := [each for each in groups if each not in ranks.mean]:
        notes.append(f"without {', '.join(left_out)}: not in all of these settings")
    if ranks.critical_difference is None:
        notes.append(
            f"no critical difference: that takes {FEWEST_FOR_RANKS} settings with at least three "
            "groups in all of them"
        )
    else:
        notes.append(
            f"critical difference {ranks.critical_difference:.2f} (Nemenyi, {ALPHA}); Friedman's "
            "test of any difference: "
            + ("none, as all are level" if ranks.friedman is None else f"p = {ranks.friedman:.3g}")
        )
    rows = [
        [Cell(str(group)), Cell(f"{rank:.2f}", float(rank), best=rank == best)]
        for group, rank in ranks.mean.sort_values().items()
    ]
    return Table("ranks", "Mean ranks", ["", "mean rank"], rows, notes)


def mean_cell(values: pd.Series, form: str = "{:.3f}") -> Cell:
    """Mean ± standard deviation of what is there."""
    there = values.dropna()
    if there.empty:
        return NO_NUMBER
    mean = float(there.mean())
    if len(there) == 1:
        return Cell(form.format(mean), mean)
    spread = float(there.std(ddof=1))
    return Cell(f"{form.format(mean)} ± {form.format(spread)}", mean, spread)


def _means(
    runs: Runs,
    name: str,
    title: str,
    frames: Mapping[str, pd.DataFrame],
    more_notes: Sequence[str] = (),
) -> Table:
    """A row for each group, a column for each frame, marked by how groups stand in it."""
    standings = [standing(frame) for frame in frames.values()]
    groups, rows = by_area(runs), []
    for group in groups:
        row = [Cell(group)]
        for frame, stands in zip(frames.values(), standings, strict=True):
            cell = mean_cell(frame[group])
            is_best = group in stands.best and len(groups) > 1
            is_untested = group in stands.untested | stands.constant
            mark = LEVEL if group in stands.level else UNTESTED if is_untested else ""
            row.append(Cell(cell.text, cell.value, cell.spread, is_best, mark))
        rows.append(row)
    notes = _notes(runs, has_constant=any(stands.constant for stands in standings))
    return Table(name, title, [_compared_by(runs), *frames], rows, [*notes, *more_notes])


def _notes(runs: Runs, has_constant: bool) -> list[str]:
    """has_constant: whether a group differs from the best by the same amount for every seed."""
    seeds, frame = runs.seeds, runs.final("accuracy")
    notes = [f"mean ± standard deviation over {len(seeds)} seed{'s' * (len(seeds) > 1)}"]
    lacking = missing_seeds(frame)
    if len(runs.groups) > 1 and common_seeds(frame).empty:
        notes.append("none is the best of a column, as no seed is common to all")
    elif len(runs.groups) > 1 and len(seeds) >= FEWEST_FOR_T:
        notes.append(
            f"bold: the best of a column; {LEVEL}: not significantly worse (paired t-test over "
            f"seeds, {ALPHA}, Holm over all pairs)"
        )
        if lacking:
            notes.append(
                "the best is told by the seeds that all have, of those with enough to test"
            )
        reasons = [
            *([f"of fewer than {FEWEST_FOR_T} pairs"] if lacking else []),
            *([f"as {SAME_DIFFERENCE}"] if has_constant else []),
        ]
        if reasons:
            notes.append(f"{UNTESTED}: can't be tested with it, {' or '.join(reasons)}")
    elif len(runs.groups) > 1:
        notes.append("bold: the best of a column; too few seeds to test what differs")
    for group, lacks in lacking.items():
        plural = "s" * (len(lacks) > 1)
        notes.append(f"{group} lacks seed{plural} {', '.join(map(str, lacks))}, and is paired less")
    return notes


def _compared_by(runs: Runs) -> str:
    return ", ".join(runs.by)
