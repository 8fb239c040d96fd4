"""Where tensors live, and in what precision networks compute."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch.utils import deterministic

from fm_al.errors import ConfigError


@dataclass(frozen=True)
class Device:
    """The options of `conf/device/`.

    kind: `auto` takes a CUDA GPU, else Apple's, else the CPU. precision: of the networks; `auto`
    is bf16 (mixed) on a CUDA GPU that has it, else fp32; selection is never in less than fp32.
    threads: of the CPU, a fixed number, since results depend on it. scoring_batch_size: images a
    batch when evaluating and when querying; null is 128 on the CPU, where what fits the cache is
    fastest, and 1,024 on a GPU. deterministic: the same run twice gives the same bits.
    """

    kind: Literal["auto", "cpu", "cuda", "mps"]
    precision: Literal["auto", "fp32", "bf16"]
    channels_last: bool
    threads: Annotated[int, Field(ge=1)]
    scoring_batch_size: Annotated[int, Field(ge=1)] | None
    deterministic: bool

    @property
    def torch_device(self) -> torch.device:
        """Raises ConfigError where the kind asked for is not there."""
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
        if self.precision == "auto":
            cuda = self.torch_device.type == "cuda"
            return "bf16" if cuda and torch.cuda.is_bf16_supported() else "fp32"
        return self.precision

    @property
    def autocast(self) -> torch.dtype | None:
        """The dtype of mixed precision; None for full precision."""
        return torch.bfloat16 if self.resolved_precision == "bf16" else None

    @property
    def memory_format(self) -> torch.memory_format:
        return torch.channels_last if self.channels_last else torch.contiguous_format

    @property
    def scoring_batch(self) -> int:
        """Images a batch when evaluating and querying."""
        default = 128 if self.torch_device.type == "cpu" else 1024
        return self.scoring_batch_size or default

    def decides(self) -> dict[str, Any]:
        """What of the device a run's figures depend on."""
        return {
            "kind": self.torch_device.type,
            "precision": self.resolved_precision,
            "channels_last": self.channels_last,
            "threads": self.threads,
            "scoring_batch_size": self.scoring_batch,
            "deterministic": self.deterministic,
        }

    def set_up(self) -> None:
        """Sets what torch keeps for the whole process: threads, determinism, no TF32."""
        torch.set_num_threads(self.threads)
        if self.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(self.deterministic, warn_only=True)
        # Every buffer would be filled before its first use, which finds errors and costs time.
        deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        torch.backends.cudnn.benchmark = not self.deterministic
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
