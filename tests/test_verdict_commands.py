"""The commands of docs/reproducing.md are the runs that the verdict is from."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from fm_al.compose.arguments import parsed_overrides
from fm_al.compose.composer import Composer
from fm_al.launch.sweeper import ExperimentSweep
from fm_al.planned_run import PlannedRun
from fm_al.records.discovery import runs_below
from fm_al.records.reading import stored_run
from fm_al.records.result_config import FOUND_IN_DATA, Config, as_now
from tests.helpers.command_line import ROOT

DOCS = (ROOT / "docs" / "reproducing.md").read_text()
FOLDERS = ("full_length", "rivals", "balanced", "ablations", "ratios")
NOT_COMPARED = ("device", *FOUND_IN_DATA)  # of the machine, and of what it read


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("records")
    archive = ROOT / "outputs" / "results" / "records.tar.xz"
    subprocess.run(["tar", "-xJf", archive, "-C", folder], check=True)
    return folder / "records"


@pytest.mark.slow
@pytest.mark.parametrize("part", FOLDERS)
def test_the_commands_are_the_runs_of_the_records(part: str, records: Path) -> None:
    commands = re.findall(rf"^fm-al -m (.* output_dir=records/{part})$", DOCS, re.MULTILINE)
    assert commands
    planned = [run for command in commands for run in _runs_of(shlex.split(command))]
    made = [stored_run(directory) for directory in runs_below(records / part)]
    expected = {_decided(run.result_config) for run in planned}
    assert len(expected) == len(planned)
    found = [_decided(each.provenance.result_config) for each in made if each.provenance]
    assert len({*found}) == len(found) == len(made)
    assert {*found} == expected


def _runs_of(arguments: list[str]) -> list[PlannedRun]:
    return ExperimentSweep(Composer(), parsed_overrides(arguments, multirun=True)).plan.runs()


def _decided(config: Config) -> str:
    kept: Mapping[str, Any] = {k: v for k, v in as_now(config).items() if k not in NOT_COMPARED}
    return json.dumps(kept, sort_keys=True)
