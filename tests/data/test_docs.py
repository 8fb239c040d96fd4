"""What docs/data.md says of data sets and imbalances."""

from __future__ import annotations

import re
import shlex

import pytest

from fm_al.config import check
from tests.conftest import Compose
from tests.helpers.command_line import ROOT
from tests.helpers.configs import node, resolved

PAGE = (ROOT / "docs" / "data.md").read_text()


def table(head: str) -> list[list[str]]:
    """The rows below this head, as cells."""
    (rows,) = re.findall(rf"^\| {re.escape(head)} \|.*\n\|.*\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    return [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows.splitlines()]


def named(cell: str) -> list[str]:
    return re.findall(r"`([a-z0-9_]+)`", cell)


@pytest.mark.parametrize("group", ["dataset", "imbalance"])
def test_what_the_tables_name_is_there(group: str) -> None:
    options = [name for first, *_ in table(f"`{group}=`") for name in named(first)]
    assert len(options) > 5
    for name in options:
        assert node(group, name)["_target_"].startswith("fm_al.data.")


def test_the_options_of_imbalances_are_those_of_conf() -> None:
    for first, _, options in table("`imbalance=`"):
        for name in named(first):
            if not options.startswith("those of"):
                assert set(named(options)) == set(node("imbalance", name)) - {"_target_"}


@pytest.mark.parametrize(
    "command", re.findall(r"^fm-al (.*)$", PAGE, re.MULTILINE), ids=lambda line: line[:40]
)
def test_the_commands_compose(command: str, compose: Compose) -> None:
    check(resolved(compose(*shlex.split(command, comments=True))))
