"""Whole runs on the GPU: the trainer, precision, resuming."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.configs import names
from tests.helpers.fault_runs import Start
from tests.helpers.gpu import GPU, on_gpu
from tests.helpers.made_records import without_times
from tests.test_experiment import ran

pytestmark = on_gpu

RUN = [
    f"device={GPU.type}",
    "backbone=cnn",
    "backbone.widths=[8,16]",
    "trainer.max_epochs=10",
    "budget.total=40",
]


@pytest.mark.parametrize("strategy", names("strategy"))
def test_a_run_of_every_strategy_and_its_records_again(compose, strategy: str) -> None:
    options = [*RUN, "budget.total=30", f"strategy={strategy}", "features=pca"]
    rounds, result = without_times(ran(compose, "experiment_name=a", *options))
    assert [record["labelled"] for record in rounds] == [10, 20, 30]
    queried = [index for record in rounds for index in record["queried"]]
    assert len(set(queried)) == 20
    assert without_times(ran(compose, "experiment_name=b", *options)) == (rounds, result)


def test_a_pool_in_main_memory_gives_the_same_records(compose) -> None:
    options = [*RUN, "strategy=badge", "dataset.crop_padding=1"]
    on_device, on_host = (
        without_times(ran(compose, f"experiment_name={where}", f"device.pool={where}", *options))
        for where in ("device", "host")
    )
    assert on_host == on_device


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_learns_in_either_precision(compose, precision: str) -> None:
    options = ["strategy=random", "budget.initial=200", "budget.total=200"]
    options += ["trainer.max_epochs=60", f"device.precision={precision}"]
    rounds, result = without_times(ran(compose, *RUN, *options))
    assert rounds[0]["train_accuracy"] > 0.9
    assert result["accuracy"] > 0.7


def test_a_killed_run_resumes_to_the_same_records(tmp_path: Path, compose) -> None:
    arguments = [*RUN, "strategy=fishermask", "tracker=none", "budget.initial=10"]
    arguments += ["budget.per_round=10", "device.threads=1"]
    whole, cut = ([*arguments, f"output_dir={tmp_path / name}"] for name in ("whole", "cut"))
    assert Start(tmp_path, whole).ended().returncode == 0
    place = "fm_al.records.writing:RunRecords.add_round"
    Start(tmp_path, cut, [place]).until(place, "left", call=2).kill()
    assert not [*(tmp_path / "cut").rglob("result.json")]
    assert Start(tmp_path, cut).ended().returncode == 0
    one, other = (next((tmp_path / name).rglob("result.json")).parent for name in ("whole", "cut"))
    assert without_times(one) == without_times(other)


def test_images_in_main_memory_give_the_records_of_images_on_the_device(compose) -> None:
    options = [*RUN, "strategy=badge", "strategy.augment=true", "dataset.crop_padding=1"]
    device, host = (
        without_times(ran(compose, f"experiment_name={pool}", *options, f"device.pool={pool}"))
        for pool in ("device", "host")
    )
    assert host == device
