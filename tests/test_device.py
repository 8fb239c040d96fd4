from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fm_al.config import build
from fm_al.device import Device, available_memory
from fm_al.errors import RunError
from fm_al.launch.planning import planned_run
from tests.helpers.command_line import ROOT


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
    planned = planned_run(config, config.hydra.runtime.choices, [])
    assert planned.result_config["device"] == {
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


@pytest.mark.slow
@pytest.mark.parametrize("set_before", ["allow_tf32", "fp32_precision"])
def test_full_precision_holds_inside_and_is_undone(set_before: str) -> None:
    code = f"""
import torch
from fm_al.device import full_precision
part = torch.backends.cuda.matmul
if not hasattr(part, {set_before!r}):
    raise SystemExit
lossy, full = {{"allow_tf32": (True, False), "fp32_precision": ("tf32", "ieee")}}[{set_before!r}]
setattr(part, {set_before!r}, lossy)
with torch.autocast("cpu", torch.bfloat16):
    with full_precision(torch.device("cpu")):
        assert getattr(part, {set_before!r}) == full
        assert not torch.is_autocast_enabled("cpu")
    assert torch.is_autocast_enabled("cpu")
assert getattr(part, {set_before!r}) == lossy
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_bf16_trains_and_queries_on_the_cpu(compose) -> None:
    from tests.helpers.made_records import without_times
    from tests.test_experiment import ran

    small = ["backbone=cnn", "backbone.widths=[4,8]", "budget.total=20"]
    rounds, _ = without_times(ran(compose, "device.precision=bf16", *small))
    assert [record["labelled"] for record in rounds] == [10, 20]


CPU = torch.device("cpu")
MIB = 2**20


def machine(root: Path, cgroups: str | None, files: dict[str, str | int]) -> Path:
    """A root with 1,000 MiB free, this as /proc/self/cgroup and these files in /sys/fs/cgroup."""
    contents = {"proc/meminfo": f"MemTotal: 9999999 kB\nMemAvailable:  {1000 * 1024} kB\n"}
    contents |= {} if cgroups is None else {"proc/self/cgroup": cgroups}
    contents |= {f"sys/fs/cgroup/{name}": f"{content}\n" for name, content in files.items()}
    for name, content in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


@pytest.mark.parametrize(
    ("cgroups", "files", "left"),
    [
        pytest.param(None, {}, 1000, id="no_cgroups"),
        pytest.param("0::/\n", {}, 1000, id="version_2_root"),
        pytest.param(
            "0::/slurm/job_5\n",
            {
                "slurm/job_5/memory.max": 500 * MIB,
                "slurm/job_5/memory.current": 300 * MIB,
                "slurm/job_5/memory.stat": f"anon 7\nactive_file 9\ninactive_file {50 * MIB}",
            },
            250,
            id="version_2",
        ),
        pytest.param(
            "0::/slurm/job_5/step_0/task_0\n",
            {
                "slurm/job_5/step_0/task_0/memory.max": "max",
                "slurm/job_5/step_0/task_0/memory.current": 1 * MIB,
                "slurm/job_5/step_0/memory.max": 600 * MIB,
                "slurm/job_5/step_0/memory.current": 100 * MIB,
                "slurm/job_5/memory.max": 600 * MIB,
                "slurm/job_5/memory.current": 200 * MIB,
                "slurm/memory.max": "max",
                "slurm/memory.current": 900 * MIB,
            },
            400,
            id="version_2_limit_of_an_outer_one",
        ),
        pytest.param(
            "0::/\n",
            {"memory.max": 100 * MIB, "memory.current": 10 * MIB},
            90,
            id="version_2_container",
        ),
        pytest.param(
            "9:name=systemd:/x\n4:cpu,memory:/slurm/job_5\n0::/\n",
            {
                "memory/slurm/job_5/memory.limit_in_bytes": 500 * MIB,
                "memory/slurm/job_5/memory.usage_in_bytes": 300 * MIB,
                "memory/slurm/job_5/memory.stat": f"inactive_file 1\n"
                f"total_inactive_file {20 * MIB}",
                "memory/memory.limit_in_bytes": 2**63 - 4096,
                "memory/memory.usage_in_bytes": 400 * MIB,
            },
            220,
            id="version_1",
        ),
        pytest.param(
            "4:memory:/docker/0123\n",
            {
                "memory/memory.limit_in_bytes": 100 * MIB,
                "memory/memory.usage_in_bytes": 10 * MIB,
            },
            90,
            id="version_1_container",
        ),
        pytest.param(
            "0::/full\n",
            {"full/memory.max": 100 * MIB, "full/memory.current": 101 * MIB},
            0,
            id="none_left",
        ),
        pytest.param(
            "0::/large\n",
            {"large/memory.max": 9000 * MIB, "large/memory.current": 0},
            1000,
            id="limit_above_the_machine",
        ),
    ],
)
def test_available_memory_of_the_cpu(cgroups, files, left, tmp_path: Path) -> None:
    assert available_memory(CPU, machine(tmp_path, cgroups, files)) == left * MIB


def test_available_memory_where_the_system_does_not_say(tmp_path: Path) -> None:
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert available_memory(CPU, tmp_path) == physical
    assert 0 < available_memory(CPU) <= physical


def test_available_memory_of_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = {"mem_get_info": (500, 900), "memory_reserved": 70, "memory_allocated": 30}
    for name, number in numbers.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, number=number: number)
    assert available_memory(torch.device("cuda")) == 540
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 500)
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 100)
    assert available_memory(torch.device("mps")) == 400


@pytest.mark.parametrize(
    ("pool", "size", "kept_on"),
    [("auto", 25, "cuda"), ("auto", 26, "cpu"), ("host", 1, "cpu"), ("device", 100, "cuda")],
)
def test_where_images_are_kept(
    monkeypatch: pytest.MonkeyPatch, pool: str, size: int, kept_on: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("fm_al.device.available_memory", lambda _: 100)
    assert device(kind="cuda", pool=pool).pool_device(size).type == kept_on


def test_images_that_do_not_fit_on_the_device_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("fm_al.device.available_memory", lambda _: 2**30)
    message = r"^device\.pool=device: the images .* needs? 3 GiB, cuda has 1 GiB; use host$"
    with pytest.raises(RunError, match=message):
        device(kind="cuda", pool="device").pool_device(3 * 2**30)


@pytest.mark.parametrize("pool", ["auto", "device", "host"])
def test_on_the_cpu_images_stay_where_they_are_and_results_do_not_depend_on_it(pool: str) -> None:
    assert device(pool=pool).pool_device(2**60) == CPU
    assert device(pool=pool).result_config() == device().result_config()
