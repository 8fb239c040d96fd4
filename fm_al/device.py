"""Where tensors live, and in what precision networks compute.

torch is imported where it is used: what of a device decides a run's figures is known without it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from fm_al.errors import ConfigError, RunError

if TYPE_CHECKING:
    import torch

GIB = 2**30
MOST_THREADS = 1024  # beyond any machine's cores; many more can't be started at all


@dataclass(frozen=True)
class Device:
    """The options of `conf/device/`.

    kind: `auto` takes a CUDA GPU, else Apple's, else the CPU. precision: of the networks; `auto`
    is bf16 (mixed) on a CUDA GPU that has it, else fp32; selection is never in less than fp32.
    threads: of the CPU, a fixed number up to 1,024, since results depend on it.
    scoring_batch_size: images a batch when evaluating and when querying; null is 128 on the CPU,
    where what fits the cache is fastest, and 1,024 on a GPU. deterministic: the same run twice
    gives the same bits.
    """

    kind: Literal["auto", "cpu", "cuda", "mps"]
    precision: Literal["auto", "fp32", "bf16"]
    channels_last: bool
    threads: Annotated[int, Field(ge=1, le=MOST_THREADS)]
    scoring_batch_size: Annotated[int, Field(ge=1)] | None
    deterministic: bool

    @property
    def torch_device(self) -> torch.device:
        """Raises ConfigError where the kind asked for is not there."""
        import torch

        there = {
            "cuda": torch.cuda.is_available(),
            "mps": torch.backends.mps.is_available(),
            "cpu": True,
        }
        if self.kind == "auto":
            return torch.device(next(kind for kind, found in there.items() if found))
        if not there[self.kind]:
            raise ConfigError(
                f"device.kind={self.kind}: torch {torch.__version__} finds no such device here; "
                f"use one of: auto, {', '.join(kind for kind, found in there.items() if found)}"
            )
        return torch.device(self.kind)

    @property
    def resolved_precision(self) -> Literal["fp32", "bf16"]:
        if self.precision != "auto":
            return self.precision
        import torch

        cuda = self.torch_device.type == "cuda"
        return "bf16" if cuda and torch.cuda.is_bf16_supported() else "fp32"

    @property
    def autocast(self) -> torch.dtype | None:
        """The dtype of mixed precision; None for full precision."""
        import torch

        return torch.bfloat16 if self.resolved_precision == "bf16" else None

    @property
    def memory_format(self) -> torch.memory_format:
        import torch

        return torch.channels_last if self.channels_last else torch.contiguous_format

    @property
    def scoring_batch(self) -> int:
        """Images a batch when evaluating and querying."""
        default = 128 if self.torch_device.type == "cpu" else 1024
        return self.scoring_batch_size or default

    def resolved_options(self) -> dict[str, Any]:
        """The options that results depend on, as resolved on this machine. Raises ConfigError for a
        device that is not there."""
        return self.portable_options() | {
            "kind": self.torch_device.type,
            "precision": self.resolved_precision,
            "scoring_batch_size": self.scoring_batch,
        }

    def portable_options(self) -> dict[str, Any]:
        """The part of `resolved_options` that is the same on every machine."""
        known: dict[str, Any] = {
            "channels_last": self.channels_last,
            "threads": self.threads,
            "deterministic": self.deterministic,
        }
        if self.kind != "auto":
            known["kind"] = self.kind
        if self.precision != "auto":
            known["precision"] = self.precision
        if self.scoring_batch_size is not None:
            known["scoring_batch_size"] = self.scoring_batch_size
        return known

    def set_up(self) -> None:
        """Sets what torch keeps for the whole process: threads, determinism, no TF32."""
        import torch
        from torch.utils import deterministic

        torch.set_num_threads(self.threads)
        if self.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        # As `torch.use_deterministic_algorithms`, which also imports torch.compile's part of torch.
        torch.set_deterministic_debug_mode("warn" if self.deterministic else "default")
        # Every buffer would be filled before its first use, which finds errors and costs time.
        deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        torch.backends.cudnn.benchmark = not self.deterministic
        for part, attribute, full in _float32_modes():
            setattr(part, attribute, full)


def _float32_modes() -> list[tuple[Any, str, Any]]:
    """What lets float32 products lose digits (TF32): where, and its value for all digits."""
    import torch

    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    modes = [(part, "allow_tf32", False) for part in (matmul, cudnn)]
    try:
        for part, name, _ in modes:
            getattr(part, name)
    except RuntimeError:  # set by torch's newer interface, which does not mix with the older
        parts: tuple[Any, ...] = matmul, cudnn.conv  # type: ignore[attr-defined]
        return [(part, "fp32_precision", "ieee") for part in parts]
    return modes


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Neither mixed precision nor TF32, whatever holds outside."""
    import torch

    modes = [(part, name, full, getattr(part, name)) for part, name, full in _float32_modes()]
    try:
        for part, name, full, _ in modes:
            setattr(part, name, full)
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        for part, name, _, before in modes:
            setattr(part, name, before)


def float64_device(device: torch.device) -> torch.device:
    """Where float64 is computed for a network on this device: Apple's GPUs have none."""
    import torch

    return torch.device("cpu") if device.type == "mps" else device


# Of a cgroup, by version: below which folder, its limit, its use, what of that is cache to give up.
CGROUP_V1 = ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
CGROUP_V2 = ("", "memory.max", "memory.current", "inactive_file")


def available_memory(device: torch.device, root: Path = Path("/")) -> int:
    """Bytes that can still be allocated on the device, by this process. Of the CPU, the least of
    what the machine and the process's cgroups leave. root: where /proc and /sys are read."""
    import torch

    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    if device.type == "mps":
        return max(0, torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    kibibytes = _count(root / "proc/meminfo", "MemAvailable:")
    if kibibytes is None:  # macOS doesn't say what is free, only what there is
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(0, min([kibibytes * 1024, *_left_by_cgroups(root)]))


def require_memory(what: str, needed: int, device: torch.device, remedy: str) -> None:
    """Raises RunError with the numbers if so many bytes are more than the device has."""
    there = available_memory(device)
    if needed > there:
        raise RunError(
            f"{what} needs {needed / GIB:,.3g} GiB, {device.type} has {there / GIB:,.3g} GiB; "
            f"{remedy}"
        )


def _left_by_cgroups(root: Path) -> Iterator[int]:
    """What each cgroup with a limit leaves: the process's own, as made by SLURM say, and those that
    it is in. Inside a container only the outermost may be seen, at the top of the tree."""
    memberships = root / "proc/self/cgroup"
    for line in memberships.read_text().splitlines() if memberships.is_file() else ():
        _, controllers, group = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        subtree, limit, use, cache = CGROUP_V1 if controllers else CGROUP_V2
        top = root / "sys/fs/cgroup" / subtree
        own = top / group.lstrip("/")
        for folder in (own, *own.parents):
            if not (folder.is_relative_to(top) and (folder / limit).is_file()):
                continue
            most = (folder / limit).read_text().strip()
            if most != "max":
                used = int((folder / use).read_text())
                yield int(most) - used + (_count(folder / "memory.stat", cache) or 0)


def _count(path: Path, name: str) -> int | None:
    """The number beside this name in a file of lines such as `name number unit`."""
    lines = path.read_text().splitlines() if path.is_file() else ()
    return next((int(line.split()[1]) for line in lines if line.split()[:1] == [name]), None)
