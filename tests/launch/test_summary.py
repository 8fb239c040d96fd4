from __future__ import annotations

import re
from pathlib import Path

import pytest

from fm_al.launch.summary import shared_options
from tests.helpers.command_line import QUICK, fm_al

SHARED = ["backbone=mlp", "backbone.hidden=[8,4]", "trainer.augment=false", "seed=0"]


def test_what_all_runs_share_is_named_but_for_what_names_their_folders() -> None:
    overrides = [[*SHARED, f"strategy.regularization={value}"] for value in (0.1, 1)]
    assert shared_options(overrides) == "trainer.augment=false backbone.hidden=[8, 4]"
    assert shared_options([*overrides, ["trainer.augment=true"]]) == ""
    assert shared_options([]) == ""


@pytest.mark.slow
def test_a_setting_of_a_sweep_can_be_told_from_another_in_the_table_and_on_disk(
    tmp_path: Path,
) -> None:
    """A single run of the same options has the same directory."""
    typed = [each for each in QUICK if not each.startswith("backbone")]
    typed += ["backbone=mlp", "backbone.hidden=[8,4]", "strategy=bait"]
    done = fm_al(tmp_path, "-m", *typed, "strategy.regularization=0.1,1")
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^(\S+) +1 +30 ", done.stdout, re.MULTILINE) == [
        "regularization=0.1",
        "regularization=1",
    ]
    (shared,) = re.findall(r"^all runs: (.*)$", done.stdout, re.MULTILINE)
    assert shared.startswith("trainer.max_epochs=2 backbone.hidden=[8, 4] budget.initial=10 ")
    first, second = sorted(tmp_path.glob("outputs/default/digits-none/mlp/bait/*"))
    assert first.name.startswith("regularization=0.1,max_epochs=2,hidden=8,4,initial=10,")
    assert second.name.startswith("regularization=1,max_epochs=2,hidden=8,4,initial=10,")
    assert (second / "overrides.yaml").read_text().startswith("strategy.regularization: 1\n")

    single = fm_al(tmp_path, "strategy.regularization=1", *reversed(typed))
    assert single.stdout.startswith("this run is finished already")
    (tmp_path / "alone").mkdir()
    assert fm_al(tmp_path / "alone", *typed, "strategy.regularization=1").returncode == 0
    assert len([*(tmp_path / "alone").rglob(f"{second.name}/overrides.yaml")]) == 1
