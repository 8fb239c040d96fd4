"""The tables of docs/evidence.md follow from the records that are kept."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests import evidence
from tests.helpers.command_line import ROOT

DOCS = (ROOT / "docs" / "evidence.md").read_text()
RESULTS = ROOT / "outputs" / "results"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> evidence.Areas:
    folder: Path = tmp_path_factory.mktemp("records")
    for archive in ("records.tar.xz", "repairs.tar.xz"):
        subprocess.run(["tar", "-xJf", RESULTS / archive, "-C", folder], check=True)
    return evidence.areas([folder])


@pytest.mark.parametrize("name", evidence.TABLES)
def test_a_table_follows_from_the_records(name: str, found: evidence.Areas) -> None:
    assert evidence.TABLES[name](found) in DOCS
