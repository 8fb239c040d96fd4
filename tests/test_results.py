"""RESULTS.md is what the report writes of the records that are kept beside it."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from fm_al.launch.status import statuses_below
from fm_al.report.command import parser, report_from
from fm_al.report.writing import markdown
from tests.helpers.command_line import ROOT

RESULTS = (ROOT / "RESULTS.md").read_text()
RECORDS = ROOT / "outputs" / "results" / "records.tar.xz"


@pytest.mark.slow
def test_results_follow_from_the_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unpacked = tmp_path / "outputs" / "results"
    unpacked.mkdir(parents=True)
    subprocess.run(["tar", "-xJf", RECORDS, "-C", unpacked], check=True)
    monkeypatch.chdir(tmp_path)
    (command,) = re.findall(r"^Written by `fm-al-report (.*)`\.$", RESULTS, re.MULTILINE)
    made = report_from(parser().parse_args(shlex.split(command)))
    assert markdown(made, "outputs/results/report/figures") == RESULTS


def test_the_pictures_are_there() -> None:
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", RESULTS + (ROOT / "README.md").read_text())
    assert pictures
    for picture in pictures:
        assert (ROOT / picture).is_file(), picture


def test_the_records_of_full_length_are_whole(tmp_path: Path) -> None:
    archive = RECORDS.with_name("full_length.tar.xz")
    subprocess.run(["tar", "-xJf", archive, "-C", tmp_path], check=True)
    statuses = statuses_below(tmp_path)
    states = Counter(
        (each.directory.relative_to(tmp_path).parts[0], each.state) for each in statuses
    )
    assert states == {
        (f"imbalanced_{dataset}", "finished"): 55
        for dataset in ("cifar10", "fashion_mnist", "mnist")
    }
