from __future__ import annotations

from pathlib import Path

from omegaconf import OmegaConf

from fm_al.launch.planning import plain_config, planned_run


def test_the_path_is_the_same_for_a_single_run_and_in_a_sweep(compose) -> None:
    typed = ["strategy=margin", "budget.total=60"]
    composed = compose(*typed)
    choices = composed.hydra.runtime.choices
    single = planned_run(composed, choices, [*typed, "device=cpu"])
    swept = planned_run(composed, choices, ["budget.total=60", "strategy=margin", "seed=0"])
    assert single.directory == swept.directory


def test_a_home_folder_is_meant_by_a_dataset_root_however_it_is_quoted() -> None:
    config = plain_config(OmegaConf.create({"dataset": {"root": "~/images"}}))
    assert config["dataset"]["root"] == str(Path.home() / "images")
