"""What docs/strategies.md says of a strategy's options."""

from __future__ import annotations

import inspect
import re

import pytest

from tests.helpers.command_line import ROOT
from tests.helpers.configs import built

PAGE = (ROOT / "docs" / "strategies.md").read_text()
INHERITED = {"fishermask": "bait"}


def section(strategy: str) -> str:
    (found,) = re.findall(rf"^## {strategy}\n(.*?)(?=^## )", PAGE, re.MULTILINE | re.DOTALL)
    return found


def options(strategy: str) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(type(built("strategy", strategy))).parameters)


@pytest.mark.parametrize("strategy", re.findall(r"^\| \[`([a-z_]+)`\]", PAGE, re.MULTILINE))
def test_a_strategy_of_the_table_has_its_options_named(strategy: str) -> None:
    """Not the other way: an option of one's own is no reason for a test to fail."""
    text = section(strategy)
    listed = re.findall(r"^Options: (.*?\.)", text, re.MULTILINE | re.DOTALL)
    named = set(re.findall(r"`([a-z_]+)`", listed[0])) if listed else set()
    named |= set(re.findall(r"^\| `([a-z_]+)` \|", text, re.MULTILINE))
    expected = set(options(strategy))
    if strategy in INHERITED:
        expected = expected - set(options(INHERITED[strategy])) | {INHERITED[strategy]}
    assert named == expected


@pytest.mark.parametrize(
    "strategy",
    [
        "bald",
        "kmeans",
        "typiclust",
        "probcover",
        "max_herding",
        "uncertainty_herding",
        "cbal",
        "cluster_margin",
        "lcmd",
        "alfa_mix",
        "drop_query",
        "direct",
    ],
)
def test_defaults_are_those_of_the_page(strategy: str) -> None:
    rows = re.findall(
        r"^\| `([a-z_]+)` \| `?([0-9.]+|[a-z]+)`? \|", section(strategy), re.MULTILINE
    )
    assert len(rows) == len(options(strategy))
    for name, default in rows:
        value = getattr(built("strategy", strategy), name)
        assert default == ("null" if value is None else str(value))
