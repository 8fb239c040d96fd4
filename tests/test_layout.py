"""What keeps the house in order: sizes of modules, and pages that lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.helpers.command_line import ROOT

LONGEST_MODULE = 400  # lines
LONGEST_README = 150
PAGES = [ROOT / name for name in ("README.md", "RESULTS.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES += sorted((ROOT / "docs").glob("*.md"))


def lines(path: Path) -> int:
    return len(path.read_text().splitlines())


def test_no_module_is_longer_than_a_sitting() -> None:
    sizes = {str(path.relative_to(ROOT)): lines(path) for path in ROOT.glob("fm_al/**/*.py")}
    assert len(sizes) > 50
    assert {name: size for name, size in sizes.items() if size > LONGEST_MODULE} == {}


def test_the_readme_is_for_a_newcomer_in_a_hurry() -> None:
    assert lines(ROOT / "README.md") <= LONGEST_README


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_the_readme_leads_to_every_page() -> None:
    readme = (ROOT / "README.md").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert f"docs/{page.name}" in readme, page.name
