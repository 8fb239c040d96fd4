"""Groups that are nested in options of other groups, chosen as `strategy.inner=badge`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from fm_al.compose.arguments import parsed_overrides
from fm_al.compose.composer import Composer
from fm_al.compose.nested import nested_groups
from fm_al.errors import ConfigError
from fm_al.launch.planning import SweepPlan

FILES = {
    "strategy/outer.yaml": "defaults: [/strategy@inner: margin, _self_]\n_target_: some.Outer\n",
    "strategy/deeper.yaml": "defaults: [/strategy@within: outer, _self_]\n_target_: some.Deeper\n",
    "experiment/preset.yaml": (
        "# @package _global_\ndefaults: [override /strategy: outer]\n"
        "strategy: {inner: {augment: true}}\n"
    ),
}
MARGIN = {"_target_": "fm_al.strategies.margin.Margin", "augment": False, "max_candidates": None}


@pytest.fixture
def composer(tmp_path: Path) -> Composer:
    for name, content in FILES.items():
        path = tmp_path / "mine" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return Composer(str(tmp_path / "mine"))


def strategy(composer: Composer, *overrides: str) -> Any:
    return OmegaConf.to_container(composer.compose(overrides).strategy)


def test_an_option_has_its_default_for_a_group_that_it_nests(composer: Composer) -> None:
    assert strategy(composer, "strategy=outer") == {"_target_": "some.Outer", "inner": MARGIN}


def test_the_key_chooses_the_option_and_its_options_can_be_set(composer: Composer) -> None:
    node = strategy(
        composer, "strategy.inner.samples=3", "strategy.inner=bald", "strategy=outer", "seed=3"
    )
    assert node["inner"] == {
        "_target_": "fm_al.strategies.bald.BALD",
        "samples": 3,
        "dropout": 0.5,
        "max_candidates": None,
    }


def test_the_last_choice_holds(composer: Composer) -> None:
    node = strategy(composer, "strategy=outer", "strategy.inner=bald", "strategy.inner=margin")
    assert node["inner"] == MARGIN


def test_a_nested_option_may_nest_another(composer: Composer) -> None:
    node = strategy(
        composer, "strategy=outer", "strategy.inner=deeper", "strategy.inner.within.inner=random"
    )
    assert node["inner"]["within"]["inner"]["_target_"] == "fm_al.strategies.random.Random"


def test_what_was_typed_is_what_is_kept(composer: Composer) -> None:
    typed = ["strategy=outer", "strategy.inner=bald", "strategy.inner.samples=3"]
    composed = composer.compose(typed)
    assert composed.hydra.overrides.task == typed
    assert composed.hydra.runtime.choices["strategy@strategy.inner"] == "bald"
    assert nested_groups(composed.hydra.runtime.choices) == {
        "strategy.inner": "strategy",
        "budget.start": "start",
    }


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["strategy=outer", "strategy.inner=marginn"], r"did you mean strategy\.inner=margin\?"),
        (
            ["strategy=outer", "strategy.inner=marginn"],
            r"strategy\.inner has: .*badge, bait, .*random",
        ),
        (
            ["strategy=outer", "strategy.inner=null"],
            r"strategy\.inner=null: no such option; .* has",
        ),
        (["strategy=outer", "strategy.inner=5"], r"strategy\.inner=5: no such option; .* has"),
        (["strategy=outer", "strategy.inner=[bald]"], r"strategy\.inner=\[bald\]: no such option"),
        (["strategy=badge", "strategy.inner=bald"], r"strategy\.inner: no such option; strategy h"),
        (["strategy=outer", "strategy.innr=bald"], r"did you mean strategy\.inner\?"),
        (["strategy=nope", "strategy.inner=bald"], r"strategy=nope: no such option; strategy has"),
    ],
)
def test_a_choice_that_can_not_be_names_what_there_is(
    composer: Composer, typed: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        composer.compose(typed)


def test_a_preset_sets_options_of_a_nested_one_and_another_one_leaves_them_out(
    composer: Composer,
) -> None:
    assert strategy(composer, "experiment=preset")["inner"] == MARGIN | {"augment": True}
    node = strategy(composer, "experiment=preset", "strategy.inner=random")
    assert node["inner"]["_target_"] == "fm_al.strategies.random.Random"
    assert "augment" not in node["inner"]
    assert list(composer.left_out) == [
        "strategy.inner=random has no strategy.inner.augment: left out of the preset"
    ]


def test_a_sweep_takes_every_nested_option_with_its_own_options(composer: Composer) -> None:
    typed = ["strategy=outer", "strategy.inner=margin,bald", "strategy.inner.max_candidates=7,8"]
    plan = SweepPlan(composer, [], parsed_overrides(typed, multirun=True))
    nodes = [plan._composed(combination)[0].strategy.inner for combination in plan.combinations]
    assert [(node._target_.rpartition(".")[2], node.max_candidates) for node in nodes] == [
        ("Margin", 7), ("Margin", 8), ("BALD", 7), ("BALD", 8),
    ]  # fmt: skip


def test_a_sweep_says_which_of_its_options_nest_nothing(composer: Composer) -> None:
    typed = ["strategy=badge,outer", "strategy.inner=margin"]
    with pytest.raises(ConfigError, match=r"no such option.* \(in the runs with strategy=badge\)"):
        SweepPlan(composer, [], parsed_overrides(typed, multirun=True))


def test_a_swept_preset_of_nested_options_is_left_out_for_another_strategy(
    composer: Composer,
) -> None:
    of_preset = parsed_overrides(["strategy.inner=margin,bald"], multirun=True)
    typed = parsed_overrides(["strategy=badge"], multirun=True)
    assert SweepPlan(composer, of_preset, typed).combinations == [("strategy=badge",)]
