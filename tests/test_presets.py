"""The presets in `conf/experiment/`: the protocols of the paper, and sweeps that can be planned."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
import torch

from fm_al.config import build, check
from fm_al.records.digests import fingerprint
from fm_al.records.result_config import result_config_of
from tests.conftest import CONF, Compose
from tests.helpers.command_line import fm_al
from tests.helpers.configs import resolved

PRESETS = sorted(file.stem for file in (CONF / "experiment").glob("*.yaml"))
FIGURES = [
    *(f"imbalanced_{name}" for name in ("cifar10", "svhn", "mnist", "fashion_mnist")),
    *(f"balanced_{name}" for name in ("cifar10", "svhn", "fashion_mnist")),
]
ABLATIONS = ["mask_fraction", "mask_kind", "oversampling", "regularization", "weighting"]
ADAM = {
    "_target_": "torch.optim.Adam", "_partial_": True, "lr": 1e-3, "betas": [0.9, 0.999],
    "weight_decay": 0.0,
}  # fmt: skip
REPAIRED = [f"imbalanced_{name}_repaired" for name in ("cifar10", "mnist", "fashion_mnist")]
REPAIRS = {
    "regularization": 0.01, "regularization_scale": "information", "labelled_weight": "each",
    "pool_fisher": "soft_class_balanced", "temperature": "calibrated",
}  # fmt: skip
STRATEGIES = ["fishermask", "bait", "badge", "coreset", "entropy", "margin", "random"]


@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESETS)
def test_every_run_of_a_seed_of_every_preset_can_be_planned(preset: str, tmp_path: Path) -> None:
    lines = planned(tmp_path, f"experiment={preset}", "seed=0")
    (runs,) = re.findall(r"^would start (\d+) of \1 runs$", lines, re.MULTILINE)
    assert int(runs) >= (2 if preset in REPAIRED else 4)
    assert lines.count(f"outputs/{preset.removesuffix('_repaired')}/") == int(runs)


@pytest.mark.slow
@pytest.mark.parametrize("figure", FIGURES)
@pytest.mark.parametrize("published", [False, True], ids=["right", "as_published"])
def test_a_preset_of_a_figure_is_the_papers_protocol(
    figure: str, published: bool, compose: Compose
) -> None:
    preset = figure + "_as_published" * published
    imbalanced, fashion = figure.startswith("imb"), figure.endswith("fashion_mnist")
    for strategy in STRATEGIES:
        composed = compose(f"experiment={preset}", f"strategy={strategy}")
        params = composed.hydra.sweeper.params
        assert params.strategy.split(",") == STRATEGIES
        assert params.seed == "range(0,5)"
        config = resolved(composed)
        check(config)
        assert config["experiment_name"] == preset
        assert config["dataset"]["name"] == figure.partition("balanced_")[2]
        assert config["dataset"]["pad_to"] == (32 if "mnist" in figure else None)
        pool = config["imbalance"]["pool"]
        assert pool == (
            {0: 250, 1: 5000, 2: 250, 3: 250} if imbalanced else dict.fromkeys(range(10), 2600)
        )
        assert config["imbalance"]["test"] == (1000 if imbalanced else None)
        assert config["imbalance"]["test_capped"] == imbalanced
        last = 7000 if not imbalanced else 575 if figure == "imbalanced_mnist" else 925
        budget = config["budget"]
        first, per_round = (15, 70) if imbalanced else (500, 500)
        assert (budget["initial"], budget["per_round"], budget["total"]) == (first, per_round, last)
        assert (config["backbone"]["width"], config["backbone"]["head_bias"]) == (16, False)
        trainer = config["trainer"]
        assert trainer["optimizer"] == ADAM
        crops = (4, True) if figure.endswith("cifar10") else (0, False)
        assert (config["dataset"]["crop_padding"], config["dataset"]["horizontal_flip"]) == crops
        assert trainer["augment"] is True
        assert trainer["batch_norm"] == ("running" if published else "recompute")
        assert trainer["batch_size"] == (500 if figure.endswith("cifar10") else 64)
        assert trainer["clamp_gradients"] == 0.1
        assert trainer["stop_at_train_accuracy"] == 0.99
        options = config["strategy"]
        if strategy == "fishermask":
            assert options["fraction"] == (0.003 if fashion else 0.002)
            assert options["mask"] == "standard"
            assert options["mask_images"] == 1024
            assert options["weighting"] == ("uniform" if published else "fisher")
            assert options["mask_sample"] == ("first" if published else "random")
        if strategy in ("fishermask", "bait"):
            assert (options["regularization"], options["oversampling"]) == (1, 0)
            assert options["regularization_scale"] == "absolute"
            assert (options["pool_fisher"], options["labelled_fisher"]) == ("pool", True)
            assert (options["labelled_weight"], options["temperature"]) == ("mean", 1)
        assert options.get("augment", False) == (published and strategy != "random")
        assert config["dataset"]["order"] == ("class" if published else "file")
        assert trainer["reset"] == ("weights" if published else "all")
        trains_first = not published or strategy == "bait"
        assert budget["train_before_first_query"] == trains_first


@pytest.mark.parametrize("preset", REPAIRED)
def test_a_repaired_preset_is_the_plain_one_with_the_repairs(preset: str, compose: Compose) -> None:
    plain = f"experiment={preset.removesuffix('_repaired')}"
    sweep = dict(compose(f"experiment={preset}").hydra.sweeper.params)
    assert sweep["strategy"] == "fishermask,bait"
    assert sweep["seed"] == "range(0,5)"
    typed = [f"strategy.{name}={value}" for name, value in REPAIRS.items()]
    for strategy in sweep["strategy"].split(","):
        chosen = f"strategy={strategy}"
        asked = resolved(compose(plain, chosen, *typed))
        decided = fingerprint(result_config_of(asked, {}))
        for protocol in ([], [f"protocol={sweep['protocol']}"]):
            config = resolved(compose(f"experiment={preset}", *protocol, chosen))
            assert config == asked
            assert fingerprint(result_config_of(config, {})) == decided
        assert config == resolved(compose(plain, *protocol, chosen))
        check(config)
        published = resolved(compose(plain, chosen))["strategy"].items()
        assert {key for key, value in published if config["strategy"][key] != value} == {*REPAIRS}


def test_runs_of_a_repaired_preset_are_beside_those_of_the_plain_one(tmp_path: Path) -> None:
    shown = planned(tmp_path, "experiment=imbalanced_mnist_repaired", "strategy=bait", "seed=0")
    (below,) = re.findall(r"outputs/(imbalanced_mnist/.*/bait/.*seed0)", shown)
    assert (
        below == "imbalanced_mnist/mnist-paper/resnet18_quarter/bait/protocol=paper_repaired/seed0"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "preset",
    [*ABLATIONS, "imbalanced_cifar10", "imbalanced_fashion_mnist_as_published", "balanced_cifar10"],
)
def test_every_strategy_of_a_preset_can_work_with_its_network(preset, compose: Compose) -> None:
    """With all values that are swept of the strategy's own options."""
    params = dict(compose(f"experiment={preset}").hydra.sweeper.params)
    own = {key: str(values).split(",") for key, values in params.items() if "strategy" in key}
    for values in itertools.product(*own.values()):
        chosen = [f"{key}={value}" for key, value in zip(own, values, strict=True)]
        config = resolved(compose(f"experiment={preset}", *chosen))
        channels = 1 if "mnist" in config["dataset"]["name"] else 3
        classes = 10 if preset.startswith("balanced") else 4
        data = {"channels": channels, "classes": classes, "image_size": (32, 32)}
        network = build(config["backbone"], **data).eval()
        build(config["strategy"]).check(network, torch.zeros(1, channels, 32, 32))


def test_what_is_typed_wins_over_a_preset(compose: Compose) -> None:
    given = ["experiment=imbalanced_fashion_mnist", "strategy.fraction=0.01", "budget.total=85"]
    config = resolved(compose(*given))
    assert config["strategy"]["fraction"] == 0.01
    assert config["budget"]["total"] == 85


def test_a_preset_runs_on_jpeg_files_with_one_override(compose: Compose) -> None:
    config = resolved(compose("experiment=imbalanced_cifar10", "dataset=cifar10_jpeg"))
    check(config)
    assert config["dataset"]["root"] == "data/cifar10-jpeg"
    original = resolved(compose("dataset=cifar10"))
    for option in ("mean", "std", "crop_padding", "horizontal_flip"):
        assert config["dataset"][option] == original["dataset"][option]


def planned(folder: Path, *arguments: str) -> str:
    """What a sweep would start."""
    shown = fm_al(folder, "-m", *arguments, "hydra.sweeper.dry_run=true")
    assert shown.returncode == 0, shown.stderr
    return shown.stdout


def test_a_group_that_is_typed_replaces_a_presets_with_its_options(tmp_path: Path) -> None:
    shown = planned(tmp_path, "experiment=demo", "backbone=mlp", "strategy=random", "seed=0")
    assert shown.startswith("backbone=mlp has no backbone.widths: left out of the preset\n")
    assert shown.count("left out") == 1
    assert "outputs/demo/digits-step/mlp/random/seed0" in shown


def test_of_several_groups_that_are_swept_each_has_the_presets_options_it_knows(
    tmp_path: Path,
) -> None:
    swept = ["imbalance=none,long_tail,step", "strategy=random", "seed=0,1"]
    shown = planned(tmp_path, "experiment=demo", *swept)
    assert shown.count("left out") == 2
    none = (
        "imbalance=none has no imbalance.minority_classes, imbalance.ratio: left out of the preset"
    )
    assert none in shown
    assert "imbalance=long_tail has no imbalance.minority_classes: left out of the preset" in shown
    assert "would start 6 of 6 runs" in shown
    assert "outputs/demo/digits-none/cnn/random/seed0" in shown


def test_options_that_a_preset_sweeps_are_left_out_where_a_strategy_lacks_them(
    tmp_path: Path,
) -> None:
    shown = planned(tmp_path, "experiment=mask_fraction", "strategy=bait,fishermask", "seed=0")
    assert shown.count("left out") == 1
    assert "strategy=bait has no strategy.fraction: left out of the preset" in shown
    assert "would start 5 of 5 runs" in shown  # one of bait, four of fishermask
    assert "/resnet18_quarter/bait/seed0" in shown
    assert "/resnet18_quarter/fishermask/strategy.fraction=0.001/seed0" in shown


@pytest.mark.parametrize("sweep", [[], ["-m"]])
def test_an_option_that_is_typed_is_never_left_out(tmp_path: Path, sweep: list[str]) -> None:
    typed = "imbalance.minority_classes=[1]"
    done = fm_al(tmp_path, *sweep, "experiment=demo", "imbalance=none", typed)
    assert done.returncode == 2
    assert done.stderr.startswith("fm-al: imbalance.minority_classes: no such option; ")


def test_a_misspelt_option_of_a_preset_is_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "conf"
    (folder / "experiment").mkdir(parents=True)
    (folder / "imbalance").mkdir()
    (folder / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ndefaults: [override /imbalance: step]\nimbalance: {rato: 5}\n"
    )
    (folder / "imbalance" / "odd.yaml").write_text(
        "_target_: fm_al.data.imbalance.long_tail.LongTail\nrato: 100\ntest: false\n"
    )
    for given in (["experiment=mine"], ["experiment=demo", "imbalance=odd"]):
        done = fm_al(tmp_path, "--config-dir", "conf", *given)
        assert done.returncode == 2
        assert "imbalance.rato: no such option" in done.stderr
