"""RESULTS.md and the long tables behind it are what `fm-al-verdict` writes of the records that are
kept beside them."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from fm_al.report.verdict.command import parser, verdict_from
from tests.helpers.command_line import ROOT

PAGE = ROOT / "RESULTS.md"
RESULTS = ROOT / "outputs" / "results"


@pytest.mark.slow
def test_the_verdict_follows_from_the_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpacked = tmp_path / "outputs" / "results"
    unpacked.mkdir(parents=True)
    subprocess.run(["tar", "-xJf", RESULTS / "records.tar.xz", "-C", unpacked], check=True)
    monkeypatch.chdir(tmp_path)
    (command,) = re.findall(r"^Written by `fm-al-verdict (.*)`\.$", PAGE.read_text(), re.MULTILINE)
    options = parser().parse_args(shlex.split(command))
    made = verdict_from(options)
    assert made.page == PAGE.read_text()
    kept = {path.stem: path.read_text() for path in (ROOT / options.out).glob("*.md")}
    assert made.long_tables == kept
    figures = {path.stem for path in (ROOT / options.out / "figures").glob("*.png")}
    assert figures == {figure.name for figure in made.figures}


def test_the_pictures_are_there() -> None:
    pages = PAGE.read_text() + (ROOT / "README.md").read_text()
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", pages)
    assert pictures
    for picture in pictures:
        assert (ROOT / picture).is_file(), picture
