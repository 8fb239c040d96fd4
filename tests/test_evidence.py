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
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpacked(tmp_path_factory.mktemp("records"), "records.tar.xz") / "records"


@pytest.fixture(scope="module")
def repairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpacked(tmp_path_factory.mktemp("repairs"), "repairs.tar.xz")


@pytest.fixture(scope="module")
def found(repairs: Path, records: Path) -> evidence.Areas:
    return evidence.areas([repairs, records / "rivals"])


@pytest.fixture(scope="module")
def found_at_full_length(records: Path) -> evidence.Areas:
    return evidence.areas([records / "full_length"], full_length=True)


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


def test_a_run_in_both_archives_counts_once(repairs: Path, records: Path) -> None:
    theirs = "imbalanced_mnist_short/mnist-paper/resnet18_quarter/bait"
    found = evidence.areas([repairs / "mnist-fce", records / "rivals" / theirs])
    assert len(found["MNIST"]["bait", evidence.DEFAULT]) == evidence.SEEDS


def test_two_runs_of_a_group_and_seed_that_differ_are_refused(repairs: Path) -> None:
    folders = [repairs / "mnist-s", repairs / "mnist-fce"]
    with pytest.raises(ValueError, match="another run of its group and seed differs"):
        evidence.areas(folders, variant_of=lambda _: "the same")
