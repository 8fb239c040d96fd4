"""Generators derived from (seed, purpose, round), so that any round can be replayed by itself.

Nothing here or elsewhere touches the global generator's state for good: what can draw from no
other (constructors of layers, dropout) runs inside `global_generator_of`.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator

import torch


def generator_for(seed: int, purpose: str, round_index: int = 0) -> torch.Generator:
    """A CPU generator, the same for the same arguments on every machine and device."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{round_index}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


@contextlib.contextmanager
def global_generator_of(generator: torch.Generator, device: torch.device) -> Iterator[None]:
    """Within, the global generators of the CPU and of `device` follow `generator`; after, they are
    as they were (but for Apple's GPU), and `generator` has moved on by one draw."""
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
