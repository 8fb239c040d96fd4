"""What was run, in a line of Markdown."""

from __future__ import annotations

from fm_al.report import text
from fm_al.report.notices import commits_of, devices_of
from fm_al.report.runs import Runs


def facts_of(runs: Runs) -> str:
    """Runs, seeds, labels, device and software of a part."""
    seeds = ", ".join(map(str, runs.seeds))
    budgets = sorted({run.config["budget"]["total"] for run in runs.runs})
    versions = sorted({str(run.provenance.software["torch"]) for run in runs.runs})
    return text.markdown_cell(
        f"{len(runs.runs)} runs, {len(runs.groups)} groups, seeds {seeds}; "
        f"to {' or '.join(f'{total:,}' for total in budgets)} labels; "
        f"on {', '.join(devices_of(runs))}, torch {', '.join(versions)}, "
        f"fm_al at {', '.join(commits_of(runs))}"
    )
