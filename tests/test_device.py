from __future__ import annotations

import torch

from fm_al.config import build
from fm_al.device import Device
from fm_al.sweep import PlannedRun


def device(**options) -> Device:
    defaults = {
        "kind": "cpu",
        "precision": "auto",
        "channels_last": True,
        "threads": 1,
        "scoring_batch_size": None,
        "deterministic": True,
    }
    return Device(**{**defaults, **options})


def test_what_decides_is_resolved(compose) -> None:
    config = compose("device=auto", "device.threads=3", "device.kind=cpu")
    planned = PlannedRun.of(config, config.hydra.runtime.choices, [])
    assert planned.decides["device"] == {
        "kind": "cpu",
        "precision": "fp32",
        "channels_last": True,
        "threads": 3,
        "scoring_batch_size": 128,
        "deterministic": True,
    }
    assert build({"_target_": "fm_al.device.Device", **vars(device())}) == device()


def test_precision_and_memory_format() -> None:
    assert device().autocast is None
    assert device(precision="bf16").autocast == torch.bfloat16
    assert device().memory_format == torch.channels_last
    assert device(channels_last=False).memory_format == torch.contiguous_format


def test_setting_up_fixes_threads_and_determinism() -> None:
    device(threads=2).set_up()
    assert torch.get_num_threads() == 2
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.benchmark
    device(deterministic=False).set_up()
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.backends.cudnn.benchmark


def test_bf16_trains_and_queries_on_the_cpu(compose) -> None:
    from tests.test_experiment import ran, without_times

    rounds, _ = without_times(ran(compose, "device.precision=bf16", "backbone=cnn"))
    assert [record["labelled"] for record in rounds] == [10, 20, 30, 40]
