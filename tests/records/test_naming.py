from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from fm_al.records.discovery import runs_below
from fm_al.records.naming import run_names
from tests.helpers.command_line import QUICK, fm_al


def config(strategy: str = "bait", seed: int = 0, **changed: Any) -> dict[str, Any]:
    """changed: values, by keys with `__` for a dot."""
    nodes: dict[str, Any] = {
        "dataset": {"_target_": "fm_al.data.datasets.digits.Digits", "crop_padding": 0},
        "imbalance": {"_target_": "fm_al.data.imbalance.counts.Counts", "pool": {"0": 5, "1": 5}},
        "backbone": {"_target_": "fm_al.backbones.linear.Linear"},
        "strategy": {"_target_": f"fm_al.strategies.{strategy}.It", "augment": False},
        "trainer": {
            "optimizer": {"_target_": "torch.optim.Adam", "lr": 0.1},
            "augment": True,
        },
        "device": {"threads": 1},
        "experiment_name": "trial",
        "seed": seed,
    }
    for key, value in changed.items():
        *path, last = key.split("__")
        node = nodes
        for part in path:
            node = node[part]
        node[last] = value
    return nodes


def named(*configs: dict[str, Any] | None, with_seed: bool = True) -> list[str]:
    folders = [Path(f"moved/{number}") for number in range(len(configs))]
    return run_names(folders, configs, [str(folder) for folder in folders], with_seed)


@pytest.mark.parametrize(
    ("configs", "names"),
    [
        ([], []),
        ([config()], ["bait"]),
        ([config(), config("badge")], ["bait", "badge"]),
        ([config(seed=3), config(seed=4)], ["seed3", "seed4"]),
        (
            [config(trainer__optimizer__lr=lr) for lr in (0.1, 1e-3)],
            ["lr=0.1", "lr=0.001"],
        ),
        (
            [config("badge"), config(), config(trainer__optimizer__lr=1)],
            ["badge", "bait lr=0.1", "bait lr=1"],
        ),
        (
            [config(), config(strategy__augment=True), config(trainer__augment=False)],
            [
                "strategy.augment=false trainer.augment=true",
                "strategy.augment=true trainer.augment=true",
                "strategy.augment=false trainer.augment=false",
            ],
        ),
        (
            [config(), config(imbalance__pool={"0": 5, "1": 9})],
            ["pool.1=5", "pool.1=9"],
        ),
        (
            [config(), config(trainer__optimizer={"_target_": "torch.optim.SGD", "momentum": 1})],
            ["optimizer=Adam", "optimizer=SGD"],
        ),
        ([config(), config(strategy__power=2)], ["power=–", "power=2"]),
        (
            [config(dataset__root=f"/{'long/' * 9}set-{name}") for name in ("a", "b")],
            ["root=…set-a", "root=…set-b"],
        ),
        ([config(), config(experiment_name="other", seed=1)], ["trial seed0", "other seed1"]),
        ([config(), config(device={"threads": 2})], ["bait (moved/0)", "bait (moved/1)"]),
        ([config(), None], ["bait", "moved/1"]),
        ([{"budget": {}}, {"seed": 1, "strategy": 5}], ["moved/0", "moved/1"]),
    ],
)
def test_runs_are_named_by_what_differs(configs: Any, names: list[str]) -> None:
    assert named(*configs) == names


def test_a_configuration_that_is_nested_too_deep_does_not_hide_the_others() -> None:
    for bottom in ([], {}):
        deep: Any = bottom
        for _ in range(20_000):
            deep = [deep] if bottom == [] else {"a": deep}
        assert named(config(), config(strategy__deep=deep)) == ["bait", "moved/1"]


def test_settings_have_no_seed_in_their_names() -> None:
    assert named(config(), config("badge", seed=1), with_seed=False) == ["bait", "badge"]


def test_rows_of_a_sweep_name_what_was_swept_and_not_all_that_it_changes() -> None:
    configs = [config(), config(trainer__augment=False, trainer__optimizer__lr=1)]
    typed = [
        {"trainer": trainer, "imbalance.pool": {0: 5}, "strategy.power": power}
        for trainer, power in (("paper", 1), ("standard", 2))
    ]
    folders = [Path("a"), Path("b")]
    names = run_names(folders, configs, ["a", "b"], with_seed=False, typed=typed)
    assert names == ["trainer=paper", "trainer=standard"]  # power changes with it


def test_options_are_named_as_the_runs_folder_has_them() -> None:
    folders = [
        Path("outputs/trial/cifar10_jpeg-paper/cnn", strategy, "lr=1", "seed0")
        for strategy in ("mine", "bait")
    ]
    configs = [config("own.spread"), config()]
    assert run_names(folders, configs, ["", ""]) == ["mine", "bait"]


def test_rows_that_folders_cut_by_a_hash_are_told_apart(tmp_path: Path) -> None:
    swept = [
        "dataset.crop_padding=2",
        "dataset.horizontal_flip=true",
        "imbalance=long_tail",
        "imbalance.ratio=20",
        "strategy=bait",
        "strategy.regularization=1,0.1",
        "trainer.optimizer.lr=0.01,0.001",
    ]
    done = fm_al(tmp_path, "-m", *QUICK, "budget.total=20", *swept)
    assert done.returncode == 0, done.stderr
    closing = done.stdout[done.stdout.index("mean ±") :]
    rows = re.findall(r"^(regularization=\S+ +lr=\S+)", closing, re.MULTILINE)
    wanted = [f"regularization={r} lr={lr}" for r in ("1", "0.1") for lr in ("0.01", "0.001")]
    assert rows == wanted
    shown = fm_al(tmp_path, "outputs", function="status").stdout
    assert sorted(re.findall(r"^ (regularization=\S+ lr=\S+) ", shown, re.MULTILINE)) == sorted(
        rows
    )


def test_a_run_that_has_not_begun_is_named_by_its_folder(tmp_path: Path) -> None:
    assert fm_al(tmp_path, "-m", *QUICK, "strategy=random,badge").returncode == 0
    _, new = runs_below(tmp_path / "outputs")
    for path in [*new.iterdir()]:
        if path.name != "job.json":
            path.unlink()
    assert json.loads((new / "job.json").read_text())["job"] is None
    shown = fm_al(tmp_path, "outputs", function="status").stdout
    assert re.search(r"^ random +new ", shown, re.MULTILINE)
    assert re.search(r"^ badge +finished ", shown, re.MULTILINE)
