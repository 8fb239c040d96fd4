from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from fm_al.errors import RunError
from fm_al.launch.detached import wait_until_started
from fm_al.launch.planning import plain_config, planned_run
from fm_al.launch.run_directory import LONGEST_NAME, run_directory

CHOICES = {"dataset": "digits", "imbalance": "none", "backbone": "cnn", "strategy": "badge"}
CONFIG = {"output_dir": "outputs", "experiment_name": "trial", "seed": 3}


def directory(*overrides: str) -> str:
    return run_directory(CONFIG, CHOICES, overrides).as_posix()


def test_the_path_names_what_was_composed() -> None:
    assert directory() == "outputs/trial/digits-none/cnn/badge/seed3"


def test_overrides_that_the_path_does_not_name_are_a_folder_sorted() -> None:
    assert directory("trainer=standard", "strategy=badge", "budget.total=40", "seed=3") == (
        "outputs/trial/digits-none/cnn/badge/budget.total=40,trainer=standard/seed3"
    )
    assert directory("dataset.order=class", "+strategy.k=2").split("/")[-2] == (
        "dataset.order=class,strategy.k=2"
    )


def test_places_device_and_tracker_are_not_in_the_path() -> None:
    assert directory(
        "device=cpu", "device.threads=1", "tracker=none", "data_dir=x", "output_dir=y",
        "download=false", "hydra.verbose=true", "hydra/launcher=basic", "experiment=demo",
    ) == directory()  # fmt: skip


def test_the_last_of_two_overrides_holds() -> None:
    assert directory("budget.total=40", "budget.total=50") == directory("budget.total=50")


@pytest.mark.parametrize(
    "override", ["dataset.root=../../../etc", "dataset.root=a b", f"strategy.x={'y' * 300}"]
)
def test_a_name_stays_one_folder_and_tells_values_apart(override: str) -> None:
    name = Path(directory(override)).parent
    assert name.parent.as_posix() == "outputs/trial/digits-none/cnn/badge"
    assert len(name.name) <= LONGEST_NAME + 9
    assert name != Path(directory(override.replace("=", "=z"))).parent


def test_the_path_is_the_same_for_a_single_run_and_in_a_sweep(compose) -> None:
    typed = ["strategy=margin", "budget.total=60"]
    composed = compose(*typed)
    choices = composed.hydra.runtime.choices
    single = planned_run(composed, choices, [*typed, "device=cpu"])
    swept = planned_run(composed, choices, ["budget.total=60", "strategy=margin", "seed=0"])
    assert single.directory == swept.directory


def test_a_process_to_which_a_sweep_is_left_takes_it_up_or_has_nothing_to_do(
    tmp_path: Path,
) -> None:
    program = (
        "import sys, time; from pathlib import Path; from fm_al.records.lock import locked\n"
        "with locked(Path('lock')): time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path) as process:
        wait_until_started(process, tmp_path)
        assert process.poll() is None
        assert (tmp_path / "lock").read_text()
        process.terminate()
    with subprocess.Popen(["true"]) as process:
        wait_until_started(process, tmp_path)


def test_a_process_that_ends_before_it_takes_up_its_sweep_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text("fm-al: what went wrong\n")
    with (
        subprocess.Popen(["false"]) as process,
        pytest.raises(RunError, match=rf"process {process.pid} has .* fm-al: what went wrong$"),
    ):
        wait_until_started(process, tmp_path)


def test_a_home_folder_is_meant_by_a_dataset_root_however_it_is_quoted() -> None:
    config = plain_config(OmegaConf.create({"dataset": {"root": "~/images"}}))
    assert config["dataset"]["root"] == str(Path.home() / "images")
