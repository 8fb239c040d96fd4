"""`fm-al-features` as a user starts it, and runs on the folders that it makes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import models

from fm_al import cli
from tests.helpers.command_line import QUICK, ROOT, Ended, fm_al, fm_al_process
from tests.helpers.configs import names
from tests.helpers.real_data import folder_with

STORED_IN = {"digits": "", "mnist": "MNIST", "fashion_mnist": "FashionMNIST"}
NETWORK = "resnet18"


def fm_al_features(folder: Path, *arguments: str) -> Ended:
    return fm_al(folder, "device=cpu", "device.threads=1", *arguments, function="features")


def weights(folder: Path) -> str:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(models.get_model(NETWORK).state_dict(), folder / "weights.pt")
    return str(folder / "weights.pt")


def test_a_folder_of_the_digits_is_made_once_and_used(tmp_path: Path) -> None:
    made = fm_al_features(tmp_path, "dataset=digits", "features=pca", "folder=my features")
    assert made.returncode == 0, made.stderr
    assert made.stdout.startswith(
        "my features: 1297 training images, 500 test images, 10 classes, "
    )
    again = fm_al_features(tmp_path, "dataset=digits", "features=pca", "folder=my features")
    assert again.stdout == made.stdout.replace("\n", ", complete already\n")
    run = fm_al(tmp_path, "dataset=features", "dataset.root=my features", *QUICK)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("10 classes, 1297 images in the pool and 500 in the test set: 0 ")
    half = fm_al_features(tmp_path, "features=pca", "folder=half", "dtype=float16")
    assert half.stdout.endswith("features in float16\n")
    assert np.load(tmp_path / "half" / "train.npy").dtype == np.float16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["features=pca"], "folder: has no default; give it as folder=DIR"),
        (["features=pca", "folder="], "folder: has no default; give it as folder=DIR"),
        (["folder=f"], "features=none: choose what to compute, such as features=pca"),
        (["folder=f", "features=pac"], "features=pac: no such option; features has: file, hub, "),
        (["folder=f", "features=pca", "dtype=int8"], "dtype=int8: should be float16 or float32"),
        (
            ["folder=f", "features=pca", "strategy=bait"],
            "strategy=bait: has no effect here; fm-al-features takes folder, dtype, dataset, featu",
        ),
        (["folder=f", "features=pca", "seed=1,2"], "seed=1,2: has several values; add -m to sweep"),
        (
            ["folder=f", "features=pca", "features.dimensions=0"],
            "features.dimensions=0: should be greater than or equal to 1 or null",
        ),
        (
            ["folder=f", "features=pca", "features.dimensions=99"],
            "features.dimensions=99: the images vary in ",
        ),
        (["folder=f", "features=file", "features.path=f.npy"], "features.path=f.npy: there is no "),
    ],
)
def test_a_bad_command_is_one_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    refused = fm_al_features(tmp_path, *arguments)
    assert refused.returncode in (1, 2)
    assert refused.stderr.startswith(f"fm-al: {message}")
    assert refused.stderr.count("\n") == 1
    assert "Traceback" not in refused.stderr


def test_a_matrix_of_the_train_split_is_no_data_set(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", np.zeros((1297, 3)))
    refused = fm_al_features(tmp_path, "features=file", "features.path=m.npy", "folder=f")
    assert refused.returncode == 2
    assert "features=file: has no features of other images than the train split's" in refused.stderr


def test_the_help_has_the_examples(tmp_path: Path) -> None:
    shown = fm_al_features(tmp_path, "--help")
    assert shown.returncode == 0
    for line in cli.FEATURES_HELP.splitlines():
        assert line in shown.stdout


@pytest.mark.faults
def test_a_killed_command_resumes(tmp_path: Path) -> None:
    """A network that is slow enough to be killed between two batches."""
    (tmp_path / "hubconf.py").write_text(
        "import time, torch\n"
        "class Slow(torch.nn.Module):\n"
        "    def forward(self, images):\n"
        "        time.sleep(0.03)\n"
        "        return images.mean(dim=(2, 3))\n"
        "def slow():\n"
        "    return Slow()\n"
    )
    code = "from fm_al.features import matrix; matrix.SAVE_EVERY = 0.2; from fm_al import cli; "
    arguments = ["features=hub", f"features.repo={tmp_path}", "features.model=slow", "folder=f"]
    arguments += ["device=cpu", "features.resize_to=16", "device.scoring_batch_size=32"]
    command = [sys.executable, "-c", f"{code}cli.features()", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment)
    noted = tmp_path / "f" / "train.npy.progress.json"
    while not noted.exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    rows = json.loads(noted.read_text())["rows"]
    assert 0 < rows < 1297
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    whole = fm_al_features(tmp_path, *arguments[:-4], "folder=g", *arguments[-3:])
    assert whole.returncode == 0, whole.stderr
    for name in ("train.npy", "test.npy"):
        assert (tmp_path / "f" / name).read_bytes() == (tmp_path / "g" / name).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("extractor", ["pca", "torchvision"])
@pytest.mark.parametrize("dataset", STORED_IN)
def test_real_images_become_features_that_can_be_learnt(
    tmp_path: Path, dataset: str, extractor: str
) -> None:
    data_dir = folder_with(STORED_IN[dataset])
    options = ["features=pca", "features.dimensions=40"]
    if extractor == "torchvision":
        options = ["features=torchvision", f"features.name={NETWORK}", "features.resize_to=32"]
        options.append(f"features.weights={weights(tmp_path)}")
    made = fm_al_features(
        tmp_path, f"dataset={dataset}", *options, f"data_dir={data_dir}", "folder=f"
    )
    assert made.returncode == 0, made.stderr
    run = fm_al(
        tmp_path, "dataset=features", "dataset.root=f", *QUICK, "strategy=random",
        "trainer.max_epochs=30", "budget.initial=1000", "budget.total=1000",
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    (result,) = tmp_path.rglob("result.json")
    accuracy = json.loads(result.read_text())["accuracy"]
    assert accuracy > (0.7 if extractor == "pca" else 0.2), accuracy


@pytest.mark.slow
def test_every_strategy_runs_on_features(tmp_path: Path) -> None:
    assert fm_al_features(tmp_path, "features=pca", "folder=f").returncode == 0
    strategies = names("strategy")
    sweep = fm_al_process(
        tmp_path, "-m", "dataset=features", "dataset.root=f", *QUICK, "backbone=linear,mlp",
        f"strategy={','.join(strategies)}", "features=pca",
    )  # fmt: skip
    assert sweep.returncode == 0, sweep.stdout + sweep.stderr
    assert len([*tmp_path.rglob("result.json")]) == 2 * len(strategies)
