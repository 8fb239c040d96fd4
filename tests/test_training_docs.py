"""What docs/training.md says of the options of trainers."""

from __future__ import annotations

import json
import re
import shlex

import pytest

from fm_al.config import check
from tests.conftest import Compose
from tests.helpers.command_line import ROOT
from tests.helpers.configs import node, resolved

PAGE = (ROOT / "docs" / "training.md").read_text()
ROWS = {
    name: dict(zip(("paper", "standard"), defaults, strict=True))
    for name, *defaults in re.findall(r"^\| `([a-z_]+)` \| (.*?) \| (.*?) \|", PAGE, re.MULTILINE)
}


@pytest.mark.parametrize("trainer", ["paper", "standard"])
def test_the_table_has_every_option_and_its_default(trainer: str) -> None:
    options = node("trainer", trainer)
    assert {*ROWS} == {*options} - {"_target_"}
    for name in {*ROWS} - {"optimizer"}:
        default = options[name]
        written = default if isinstance(default, str) else json.dumps(default)
        assert ROWS[name][trainer].strip("`") == written, name
    assert f"`lr` {options['optimizer']['lr']:g}" in ROWS["optimizer"][trainer]


def test_the_command_composes(compose: Compose) -> None:
    (command,) = re.findall(r"^fm-al (.*)$", PAGE, re.MULTILINE)
    check(resolved(compose(*shlex.split(command))))
