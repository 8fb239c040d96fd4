"""The tables of docs/evidence.md follow from the records that are kept."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests import evidence
from tests.helpers.command_line import ROOT

DOCS = (ROOT / "docs" / "evidence.md").read_text()
RESULTS = ROOT / "outputs" / "results"


def unpacked(folder: Path, *archives: str) -> Path:
    for archive in archives:
        subprocess.run(["tar", "-xJf", RESULTS / archive, "-C", folder], check=True)
    return folder


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> evidence.Areas:
    folder = unpacked(tmp_path_factory.mktemp("records"), "repairs.tar.xz")
    return evidence.areas([folder])


@pytest.fixture(scope="module")
def found_at_full_length(tmp_path_factory: pytest.TempPathFactory) -> evidence.Areas:
    folder = unpacked(tmp_path_factory.mktemp("records"), "records.tar.xz")
    return evidence.areas([folder / "records" / "full_length"], full_length=True)


def test_the_table_of_approximations_follows_from_the_records(tmp_path: Path) -> None:
    found = evidence.approximation_areas([unpacked(tmp_path, "approximations.tar.xz")])
    assert evidence.approximations(found) in DOCS


@pytest.mark.parametrize("name", evidence.TABLES)
def test_a_table_follows_from_the_records(name: str, found: evidence.Areas) -> None:
    assert evidence.TABLES[name](found) in DOCS


@pytest.mark.parametrize("name", evidence.FULL_LENGTH)
def test_a_table_of_full_length_follows_from_the_records(
    name: str, found_at_full_length: evidence.Areas
) -> None:
    assert evidence.FULL_LENGTH[name](found_at_full_length) in DOCS
