"""The examples of docs/extending.md, run as they stand there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from fm_al.strategies.base import Query
from tests.helpers.command_line import QUICK, ROOT, Ended, fm_al_process

PAGE = (ROOT / "docs" / "extending.md").read_text()
COMMAND = r"^PYTHONPATH=\. fm-al (--config-dir my_conf .*)$"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with every file of the page, and data for its data set."""
    for name, text in re.findall(
        r"^`([a-z_/]+\.(?:py|yaml))`[^\n]*:\n\n```\w+\n(.*?)^```", PAGE, re.M | re.S
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    draw = np.random.default_rng(0)
    arrays = {
        f"{split}_{name}": values
        for split, n in (("train", 90), ("test", 30))
        for name, values in (
            ("images", draw.integers(256, size=(n, 8, 8, 3), dtype=np.uint8)),
            ("labels", (np.arange(n) % 3)[:, None]),
        )
    }
    (tmp_path / "data").mkdir()
    np.savez(tmp_path / "data" / "bloodmnist.npz", **arrays)
    return tmp_path


def extended(folder: Path, *arguments: str) -> Ended:
    return fm_al_process(folder, *arguments, PYTHONPATH=f"{ROOT}:{folder}")


@pytest.mark.slow
@pytest.mark.parametrize("named", ["strategy=spread", "dataset=arrays"])
def test_the_commands_run(folder: Path, named: str) -> None:
    (typed,) = (each.split() for each in re.findall(COMMAND, PAGE, re.MULTILINE) if named in each)
    done = extended(folder, "strategy=random", *QUICK, *typed)
    assert done.returncode == 0, done.stderr
    (result,) = folder.rglob("result.json")
    assert json.loads(result.read_text())["labelled"] == 30


def test_a_misspelled_option_is_named(folder: Path) -> None:
    done = extended(folder, "--config-dir", "my_conf", "strategy=spread", "strategy.powr=1")
    assert done.returncode == 2
    (quoted,) = re.findall(r"stops with `(.*?)`", PAGE, re.DOTALL)
    assert done.stderr == f"fm-al: {' '.join(quoted.split())}\n"


def test_what_the_page_names_of_a_query_is_there() -> None:
    (table,) = re.findall(r"^\| of the query \|.*\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    cells = [row.split("|")[1] for row in table.splitlines()[1:]]
    named = {name for cell in cells for name in re.findall(r"`(\w+)", cell)}
    in_init = {"model", "batch_size", "revealed"}
    assert {name for name in named if not hasattr(Query, name)} == in_init
