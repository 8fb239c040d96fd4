"""What a reader of a report must know first: missing seeds, devices that differ, coarse tests."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from fm_al.report.comparison_tables import spread_notes, test_image_count
from fm_al.report.metrics import METRICS, equals_accuracy, is_never_right_on_a_class
from fm_al.report.runs import Runs
from fm_al.report.statistics import FEWEST_FOR_T, all_compared, missing_seeds
from fm_al.report.values import start_name

ALL_SETTINGS = "All settings"
SHORT_COMMIT = 7  # digits


def notices_of(runs: Runs) -> list[str]:
    """Every notice once, with the settings that it applies to."""
    of_notice: dict[str, list[str]] = {}
    for setting in runs.settings:
        for notice in _notices_of_setting(runs.of(setting), runs.groups):
            of_notice.setdefault(notice, []).append(setting)
    cut = [] if runs.up_to is None else [_cut_at(runs, runs.up_to)]
    return cut + [
        f"{ALL_SETTINGS if 1 < len(runs.settings) == len(those) else ', '.join(those)}: {notice}"
        for notice, those in of_notice.items()
    ]


def _cut_at(runs: Runs, labels: int) -> str:
    further = sum(run.is_cut for run in runs.runs)
    unfinished = sum(bool(run.unfinished) for run in runs.runs)
    return (
        f"compared up to {labels} labels: {further} of {len(runs.runs)} runs "
        f"go{'es' * (further == 1)} further, {unfinished} {'is' if unfinished == 1 else 'are'} "
        "unfinished"
    )


def _notices_of_setting(runs: Runs, groups: Sequence[str]) -> Iterator[str]:
    """Notices of one setting. groups: those of all settings."""
    frame = runs.final("accuracy")
    if same := [name for key, name in METRICS.items() if equals_accuracy(runs, key)]:
        yield (
            f"{' and '.join(same)} is left out: it equals accuracy, since all classes have the "
            "same number of test images"
        )
    if is_never_right_on_a_class(runs):
        yield "the accuracy of the worst class is left out: it is 0 in every round"
    oracles = [run for run in runs.runs if run.provenance.start_uses_classes]
    if oracles:
        starts = sorted({start_name(run.config["budget"].get("start")) for run in oracles})
        yield (
            f"an oracle setting: the first labels (start: {', '.join(starts)}) were chosen by the "
            "classes of the whole pool, which no real labelling knows"
        )
    if not runs.start_alike and len(runs.groups) > 1:
        yield (
            f"runs of one seed start from different labels, because {', '.join(runs.by)} decides "
            "these; pairs share only their seed"
        )
    for what, values in (("devices", devices_of(runs)), ("commits of fm_al", commits_of(runs))):
        if len(values) > 1:
            yield f"runs have different {what}: {', '.join(values)}"
    if runs.differ_at_first:
        yield (
            "only some strategies were trained before their first query, so the comparison starts "
            f"at {runs.labels[0]} labels"
        )
    yield from capped_rounds(runs)
    if others := [group for group in groups if group not in frame]:
        yield f"no runs of {', '.join(others)}, which other settings have"
    for group, lacks in missing_seeds(frame).items():
        yield f"{group} lacks seed{'s' * (len(lacks) > 1)} {', '.join(map(str, lacks))}"
    for what, values, images in (
        (f"accuracy at {runs.labels[-1]} labels", frame, test_image_count(runs)),
        ("area under the accuracy curve", runs.area("accuracy"), None),
    ):
        for note in spread_notes(all_compared(values), images):
            yield f"{what}: {note}"
    if few := [group for group in frame.columns if frame[group].count() < FEWEST_FOR_T]:
        yield f"too few seeds to test {', '.join(few)}: a test needs {FEWEST_FOR_T}"


def capped_rounds(runs: Runs) -> list[str]:
    """How many rounds were trained up to the cap of epochs, in a sentence; none without any.

    Their accuracies are of networks that were not fitted as the others were.
    """
    by_labels: defaultdict[int, list[bool]] = defaultdict(list)
    for run in runs.runs:
        for each in run.rounds:
            by_labels[each.labelled].append(each.epoch_cap_hit)
    capped = {labels: sum(hits) for labels, hits in by_labels.items()}
    if not (total := sum(capped.values())):
        return []
    rounds = sum(map(len, by_labels.values()))
    trainer = runs.runs[0].config["trainer"]
    most, hits = max(capped.items(), key=lambda item: item[1])
    return [
        f"training ended at the cap of {trainer['max_epochs']} epochs, below a training accuracy "
        f"of {trainer['stop_at_train_accuracy']:.0%}, in {total:,} of {rounds:,} rounds; at "
        f"{most:,} labels in {hits} of {len(by_labels[most])}"
    ]


def devices_of(runs: Runs) -> list[str]:
    """Kinds of device that the runs used."""
    return sorted({run.config["device"]["kind"] for run in runs.runs})


def commits_of(runs: Runs) -> list[str]:
    """Commits of fm_al that the runs began with; `+` after one with uncommitted changes."""
    commits = {run.provenance.software.get("git_commit") for run in runs.runs}
    return sorted(
        commit[:SHORT_COMMIT] + "+" * commit.endswith("+") for commit in commits if commit
    )
