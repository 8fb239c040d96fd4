"""Generators derived from (seed, purpose, round), so that any round can be replayed alone.

The global generator's state is never changed for good. Code that can use no other generator, such
as constructors of layers and dropout, runs inside `global_generator_of`.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator

import torch
from torch import Tensor


def generator_for(seed: int, purpose: str, round_index: int = 0) -> torch.Generator:
    """Return a CPU generator that is the same for the same arguments on every machine.

    Args:
        seed: The run's seed.
        purpose: What is drawn, such as "batch order"; each purpose has a generator of its own.
        round_index: The round, from 0.
    """
    digest = hashlib.sha256(f"{seed}/{purpose}/{round_index}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def random_subset(indices: Tensor, most: int | None, generator: torch.Generator) -> Tensor:
    """Return at most this many of the indices, drawn uniformly, in their order.

    Args:
        indices: (N,).
        most: None is all; nothing is drawn then, nor if there are no more than this.
        generator: A CPU generator.
    """
    if most is None or len(indices) <= most:
        return indices
    drawn = torch.randperm(len(indices), generator=generator)[:most]
    return indices[drawn.sort().values.to(indices.device)]


@contextlib.contextmanager
def global_generator_of(generator: torch.Generator, device: torch.device) -> Iterator[None]:
    """Seed the global generators of the CPU and of `device` from `generator`, then restore them.

    Takes one draw from `generator`. The generator of Apple's GPU is not restored.
    """
    seed = int(torch.randint(2**62, (), generator=generator))
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)
        if devices:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        if device.type == "mps":
            torch.mps.manual_seed(seed)
        yield
