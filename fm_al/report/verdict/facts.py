"""What was run, in a line."""

from __future__ import annotations

from fm_al.report.notices import commits_of, devices_of, notices_of
from fm_al.report.runs import Runs
from fm_al.report.verdict.records import dataset_of, settings_of


def facts_of(runs: Runs) -> str:
    """Runs, seeds, labels, device and software of a part, and up to which labels it is compared."""
    totals = sorted({run.config["budget"]["total"] for run in runs.runs})
    versions = sorted({str(run.provenance.software["torch"]) for run in runs.runs})
    facts = [
        f"{len(runs.runs)} runs, {len(runs.groups)} groups, {_seeds(runs)}",
        f"to {' or '.join(f'{total:,}' for total in totals)} labels",
        f"on {', '.join(devices_of(runs))}, torch {', '.join(versions)}, fm_al at "
        f"{', '.join(commits_of(runs))}",
    ]
    if runs.up_to is not None:
        facts.append(notices_of(runs)[0])
    return "; ".join(facts)


def _seeds(runs: Runs) -> str:
    """The seeds, of each setting if they differ."""
    of_each = [(dataset_of(each), ", ".join(map(str, each.seeds))) for each in settings_of(runs)]
    if len({seeds for _, seeds in of_each}) == 1:
        return f"seeds {of_each[0][1]}"
    return ", ".join(f"seeds {seeds} of {dataset}" for dataset, seeds in of_each)
