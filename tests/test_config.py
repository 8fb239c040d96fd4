from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import torch
from pydantic import Field

from fm_al.budget import Budget
from fm_al.compose.composer import Composer
from fm_al.config import build, check, check_node
from fm_al.errors import ConfigError
from fm_al.preparation import Experiment
from fm_al.strategies.bald import BALD
from fm_al.strategies.base import Strategy
from fm_al.strategies.margin import Margin
from tests.conftest import CONF, Compose
from tests.helpers.configs import resolved

GROUPS = (
    "dataset",
    "imbalance",
    "features",
    "backbone",
    "strategy",
    "trainer",
    "device",
    "tracker",
)


@pytest.mark.parametrize(
    "file", sorted(CONF.glob("*/*.yaml")), ids=lambda f: f"{f.parent.name}/{f.stem}"
)
def test_every_option_composes_and_passes_the_check(file, compose: Compose) -> None:
    group, name = file.parent.name, file.stem
    given = {
        "imbalance/counts": ["imbalance.pool={0: 5, 1: 5}"],
        "features/file": ["features.path=features.npy"],
    }
    overrides = given.get(f"{group}/{name}", [])
    chosen = "budget.start" if group == "start" else group
    config = resolved(compose(f"{chosen}={name}", *overrides))
    check(config)
    if group in GROUPS and group != "backbone":  # the tests of backbones build those
        assert type(build(config[group])).__name__ == config[group]["_target_"].rpartition(".")[2]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("++strategy.temprature=2", "strategy.temprature: no such option; strategy has: "),
        ("++bugdet.initial=2", "bugdet: no such option; the top level has: .*did you mean budget"),
        ("++budget.intial=2", "budget.intial: no such option; .*did you mean budget.initial"),
        ("budget.per_round=0", "budget.per_round=0: should be greater than or equal to 1"),
        ("budget.initial=many", "budget.initial=many: should be a valid integer"),
        ("budget.total=5", "budget.total=5: should be at least budget.initial=20"),
        ("seed=-1", "seed=-1: should be greater than or equal to 0"),
        ("seed=true", "seed=true: should be a valid integer"),
        ("experiment_name=../elsewhere", r"experiment_name=../elsewhere: should be a letter "),
        ("trainer.schedule=linear", "trainer.schedule=linear: should be 'constant' or 'cosine'"),
        ("trainer.optimizer.lr=fast", "trainer.optimizer.lr=fast: should be a valid number"),
        ("++trainer.optimizer.speed=1", "trainer.optimizer.speed: no such option; .* has: lr, "),
        ("trainer.optimizer.lr=-1", "trainer.optimizer: Invalid learning rate: -1"),
        ("trainer.batch_size=1", "trainer.batch_size=1: should be greater than or equal to 2"),
        (
            "trainer.stop_at_train_accuracy=1.5",
            "trainer.stop_at_train_accuracy=1.5: should be less",
        ),
        ("++backbone.classes=3", "backbone.classes: no such option"),
        ("strategy._target_=fm_al.strategies.none.None_", "strategy._target_=.*can't be imported"),
        ("strategy=5", None),
        ("device.threads=0", "device.threads=0: should be greater than or equal to 1"),
    ],
)
def test_what_can_not_be_is_one_line_with_key_value_and_remedy(override, message, compose) -> None:
    if message is None:
        config = resolved(compose()) | {"strategy": 5}
        message = "strategy=5: should be a mapping with a _target_"
    else:
        config = resolved(compose(override))
    with pytest.raises(ConfigError, match=message) as error:
        Experiment.of(config)
    assert "\n" not in str(error.value)


def test_a_missing_option_is_named(compose: Compose) -> None:
    config = resolved(compose())
    del config["trainer"]["batch_size"]
    with pytest.raises(ConfigError, match=r"trainer\.batch_size: is missing"):
        check(config)


def test_a_missing_group_is_named(compose: Compose) -> None:
    config = resolved(compose())
    del config["tracker"]
    with pytest.raises(ConfigError, match="tracker: is missing"):
        check(config)


@dataclass
class Options:
    kind: Literal["a", "b"]
    share: Annotated[float, Field(ge=0, le=1)] | None
    sizes: list[int]
    counts: dict[int | str, int]
    pair: tuple[float, float] = (0.0, 1.0)


def node(**arguments: Any) -> dict[str, Any]:
    good = {"kind": "a", "share": 0.5, "sizes": [1], "counts": {"cat": 3, 4: 5}}
    return {"_target_": f"{__name__}.Options", **good, **arguments}


@pytest.mark.parametrize(
    "arguments",
    [{}, {"share": None}, {"share": 1}, {"sizes": []}, {"pair": [0.5, 0.75]}, {"kind": "b"}],
)
def test_values_of_the_annotated_type_pass(arguments, compose: Compose) -> None:
    check(resolved(compose()) | {"strategy": node(**arguments)})


@pytest.mark.parametrize(
    "arguments",
    [
        {"share": 2},
        {"share": "0.5"},
        {"sizes": [1.5]},
        {"sizes": 3},
        {"counts": {"cat": "many"}},
        {"pair": [1.0]},
        {"kind": None},
    ],
)
def test_values_of_another_type_do_not(arguments, compose: Compose) -> None:
    with pytest.raises(ConfigError, match=f"strategy.{next(iter(arguments))}="):
        check(resolved(compose()) | {"strategy": node(**arguments)})


def test_build_makes_nested_objects_and_partial_ones() -> None:
    made = build(
        {"_target_": f"{__name__}.Options", "kind": "a", "share": None, "sizes": [], "counts": {}}
    )
    assert made == Options("a", None, [], {})
    optimizer = build({"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.5})
    made = optimizer([torch.nn.Parameter(torch.zeros(1))])
    assert made.param_groups[0]["lr"] == 0.5


class Sharpened(Margin):
    """An ordinary class below a dataclass, with options of its own."""

    def __init__(self, power: float, augment: bool = False) -> None:
        super().__init__(augment=augment)
        self.power = power


def test_an_init_below_a_dataclass_names_the_options() -> None:
    node = {"_target_": f"{__name__}.Sharpened", "power": 2.0}
    made = build(node)
    assert (made.power, made.augment) == (2.0, False)
    check_node("strategy", node, Strategy)
    with pytest.raises(ConfigError, match=r"^strategy\.power=abc: should be a valid number$"):
        check_node("strategy", node | {"power": "abc"}, Strategy)


@dataclass
class Nesting:
    inner: BALD
    share: float
    other: BALD | None = None


@pytest.fixture
def nesting(tmp_path: Path) -> str:
    """A folder with a strategy `nesting`, which takes another's file as its own option."""
    (tmp_path / "strategy").mkdir()
    (tmp_path / "strategy" / "nesting.yaml").write_text(
        f"defaults: [bald@inner, _self_]\n_target_: {__name__}.Nesting\n"
        "share: 0.5\ninner: {samples: 7}\n"
    )
    return str(tmp_path)


def test_an_option_may_be_another_file_of_its_group(nesting: str) -> None:
    options = ["strategy=nesting", "strategy.inner.dropout=0.25"]
    config = resolved(Composer(nesting).compose(options))
    check(config)
    nested = build(config["strategy"])
    assert nested.share == 0.5
    assert vars(nested.inner) == vars(BALD(samples=7, dropout=0.25))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("strategy.inner.samples=abc", "strategy.inner.samples=abc: should be a valid integer"),
        ("++strategy.inner.smples=2", "strategy.inner.smples: no such option; .*did you mean"),
        ("+strategy.other={samples: 7}", r"other=.*: should be a mapping with a _target_ or null"),
        ("strategy.inner={samples: 7, _target_: null}", "inner=.*should be a mapping with a _targ"),
        ("strategy.inner=3", r"strategy\.inner=3: should be a mapping with a _target_"),
    ],
)
def test_what_can_not_be_in_a_nested_option_is_named(
    override: str, message: str, nesting: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        check(resolved(Composer(nesting).compose(["strategy=nesting", override])))


@pytest.mark.parametrize(
    ("budget", "labelled"),
    [
        (Budget(initial=20, per_round=20, total=60), [20, 40, 60]),
        (Budget(initial=20, per_round=30, total=60), [20, 50, 60]),
        (Budget(initial=20, per_round=5, total=20), [20]),
        (Budget(initial=2, per_round=100, total=3), [2, 3]),
        (Budget(initial=20, per_round=[20, 20, 40], total=160), [20, 40, 60, 100, 140, 160]),
        (Budget(initial=20, per_round=[20, 20, 40], total=30), [20, 30]),
        (Budget(initial=10, per_round=20, total=170, growth=2), [10, 30, 70, 150, 170]),
        (Budget(initial=10, per_round=[20, 30], total=150, growth=1.5), [10, 30, 60, 105, 150]),
        (Budget(initial=10, per_round=20, total=170, whole_pool=True), [500]),
    ],
)
def test_a_budget_says_how_many_are_labelled_in_each_round(
    budget: Budget, labelled: list[int]
) -> None:
    assert budget.schedule(500) == labelled
    assert budget.rounds == len(labelled)
    assert sum(budget.query_sizes) == labelled[-1] - labelled[0]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("budget.per_round=[]", r"budget\.per_round=\[\]: .*at least 1 entries"),
        ("budget.per_round=[20,0]", r"per_round=\[20, 0\]: .*\[1\] .*greater than or equal to 1"),
        ("budget.growth=0.5", r"budget\.growth=0\.5: .*greater than or equal to 1"),
        ("budget.whole_pool=yes please", r"budget\.whole_pool=yes please: .*boolean"),
    ],
)
def test_what_a_schedule_can_not_be_is_named(option: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check(resolved(Composer().compose([option])))


def test_a_budget_above_the_pool_is_refused_with_both_numbers() -> None:
    with pytest.raises(ConfigError, match=r"budget\.total=100: the pool has 99 images"):
        Budget(initial=20, per_round=20, total=100).fit_to_pool(99)
    Budget(initial=20, per_round=20, total=99).fit_to_pool(99)
