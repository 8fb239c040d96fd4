"""The device: where tensors live, in what precision networks compute, how much memory is left.

torch is imported where it is used, because a finished run is recognised without it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from fm_al.errors import ConfigError, RunError

if TYPE_CHECKING:
    import torch

GIB = 2**30
# Of the memory left, for `pool=auto`. The rest is for the network, its outputs for the pool, and
# a second copy of the pool where a strategy looks at augmented images.
MAX_POOL_SHARE = 1 / 4
MAX_THREADS = 1024  # more than any machine has cores; far more cannot be started


@dataclass(frozen=True)
class Device:
    """The options of `conf/device/`.

    Args:
        kind: `auto` takes a CUDA GPU, else Apple's, else the CPU.
        precision: Of the networks. `auto` is bf16 (mixed) on a CUDA GPU that supports it, and fp32
            elsewhere. Strategies never select in less than fp32.
        channels_last: The memory format of images and convolutions.
        threads: CPU threads, at most 1,024. A fixed number, because results depend on it.
        scoring_batch_size: Images per batch when evaluating and querying. None is 128 on the CPU,
            where small batches stay in the cache, and 1,024 on a GPU.
        deterministic: The same run twice gives the same bits.
        pool: Where the images of pool and test set are kept: on the `device`, or in main memory
            (`host`), from where they are sent in batches while the device computes. `auto` takes
            the device if they fill at most a quarter of the memory that it has left. Results do not
            depend on it.
    """

    kind: Literal["auto", "cpu", "cuda", "mps"]
    precision: Literal["auto", "fp32", "bf16"]
    channels_last: bool
    threads: Annotated[int, Field(ge=1, le=MAX_THREADS)]
    scoring_batch_size: Annotated[int, Field(ge=1)] | None
    deterministic: bool
    pool: Literal["auto", "device", "host"] = "auto"

    @property
    def torch_device(self) -> torch.device:
        """The device of this machine. Raises ConfigError if it has none of this kind."""
        import torch

        available = {
            "cuda": torch.cuda.is_available(),
            "mps": torch.backends.mps.is_available(),
            "cpu": True,
        }
        if self.kind == "auto":
            return torch.device(next(kind for kind, found in available.items() if found))
        if not available[self.kind]:
            raise ConfigError(
                f"device.kind={self.kind}: torch {torch.__version__} finds no such device; "
                f"use one of: auto, {', '.join(kind for kind, found in available.items() if found)}"
            )
        return torch.device(self.kind)

    @property
    def resolved_precision(self) -> Literal["fp32", "bf16"]:
        """`precision`, with `auto` replaced by what this machine supports."""
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
        """The layout of 4-d tensors."""
        import torch

        return torch.channels_last if self.channels_last else torch.contiguous_format

    @property
    def scoring_batch(self) -> int:
        """Images per batch when evaluating and querying."""
        default = 128 if self.torch_device.type == "cpu" else 1024
        return self.scoring_batch_size or default

    def pool_device(self, size: int) -> torch.device:
        """Where to keep the images of pool and test set.

        Args:
            size: Of all of them, in bytes.

        Raises:
            RunError: If they are to be kept on the device, and it has too little memory left.
        """
        import torch

        device = self.torch_device
        if device.type == "cpu":  # where they are already
            return device
        if self.pool == "device":
            require_memory(
                "device.pool=device: the images of pool and test set", size, device, "use host"
            )
        elif self.pool == "host" or size > MAX_POOL_SHARE * available_memory(device):
            return torch.device("cpu")
        return device

    def result_config(self) -> dict[str, Any]:
        """The options that results depend on, as this machine resolves them."""
        return self.portable_result_config() | {
            "kind": self.torch_device.type,
            "precision": self.resolved_precision,
            "scoring_batch_size": self.scoring_batch,
        }

    def portable_result_config(self) -> dict[str, Any]:
        """The part of `result_config` that is the same on every machine."""
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
        """Set torch's process-wide state: threads, determinism, no TF32."""
        import torch
        from torch.utils import deterministic

        torch.set_num_threads(self.threads)
        if self.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        # Like `torch.use_deterministic_algorithms`, which would also import the compiler.
        torch.set_deterministic_debug_mode("warn" if self.deterministic else "default")
        # Filling every buffer before its first use would find errors, and costs time.
        deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        torch.backends.cudnn.benchmark = not self.deterministic
        for part, attribute, full in _float32_modes():
            setattr(part, attribute, full)


def _float32_modes() -> list[tuple[Any, str, Any]]:
    """The settings that let float32 products lose digits (TF32): object, name, exact value."""
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


def mixed_precision(device: torch.device, dtype: torch.dtype | None) -> torch.autocast:
    """A context that computes in `dtype` where torch deems that safe; None changes nothing."""
    import torch

    return torch.autocast(device.type, dtype, enabled=dtype is not None)


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Switch off mixed precision and TF32, and restore both at the end."""
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
    """Where to compute float64 for a network on this device: Apple's GPUs lack it."""
    import torch

    return torch.device("cpu") if device.type == "mps" else device


def indices_on(device: torch.device, indices: Sequence[int]) -> torch.Tensor:
    """Return indices as a tensor, (n,) int64, without waiting for the device."""
    import torch

    return torch.tensor(indices, dtype=torch.int64).to(device, non_blocking=True)


# By cgroup version: the folder, its limit, its use, the part of that which is droppable cache.
CGROUP_V1 = ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
CGROUP_V2 = ("", "memory.max", "memory.current", "inactive_file")


def available_memory(device: torch.device, root: Path = Path("/")) -> int:
    """Return how many bytes this process can still allocate on a device.

    Args:
        device: For the CPU, the minimum of the machine's free memory and what cgroups leave.
        root: Where /proc and /sys are found.
    """
    import torch

    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    if device.type == "mps":
        return max(0, torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    kibibytes = _count(root / "proc/meminfo", "MemAvailable:")
    if kibibytes is None:  # macOS reports the total, not what is free
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(0, min([kibibytes * 1024, *_left_by_cgroups(root)]))


def require_memory(what: str, needed: int, device: torch.device, remedy: str) -> None:
    """Check that a device has enough memory left.

    Args:
        what: What needs the memory, for the message.
        needed: Bytes.
        device: The device that allocates them.
        remedy: How to need less, for the message.

    Raises:
        RunError: If it has not, with both numbers.
    """
    available = available_memory(device)
    if needed > available:
        raise RunError(
            f"{what} needs {needed / GIB:,.3g} GiB, {device.type} has {available / GIB:,.3g} GiB; "
            f"{remedy}"
        )


def _left_by_cgroups(root: Path) -> Iterator[int]:
    """What each cgroup with a limit leaves, in bytes: the process's own and all above it.

    Inside a container only the top of the tree may be visible.
    """
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
            maximum = (folder / limit).read_text().strip()
            if maximum != "max":
                used = int((folder / use).read_text())
                yield int(maximum) - used + (_count(folder / "memory.stat", cache) or 0)


def _count(path: Path, name: str) -> int | None:
    """The number after this name in a file of lines such as `name number unit`."""
    lines = path.read_text().splitlines() if path.is_file() else ()
    return next((int(line.split()[1]) for line in lines if line.split()[:1] == [name]), None)
