"""What a query says that it needs, beside what CUDA says that it allocated."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch

from fm_al.fisher import approximations
from fm_al.strategies.base import Strategy
from tests.gpu.test_strategies import generator, resnet_query
from tests.helpers.configs import built
from tests.helpers.gpu import GPU, on_gpu, only_cuda
from tests.helpers.moved import moved_query
from tests.helpers.synthetic import given_query

pytestmark = [*on_gpu, only_cuda]

MOST = 2.0  # times what is allocated
SLACK = 32 * 2**20  # workspaces of libraries


def stated_and_measured(monkeypatch, query, strategy: Strategy, n: int) -> tuple[int, int]:
    """Bytes: the sum of what the query states for the GPU, and the peak above where it started."""
    stated = []

    def note(needs: Mapping[torch.device, Mapping[str, int]], *_: object) -> bool:
        stated.extend(sum(needs[device].values()) for device in needs if device.type == "cuda")
        return True

    monkeypatch.setattr(approximations, "fits", note)
    strategy.select(query, n, generator())  # loads kernels and libraries
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    stated.clear()
    strategy.select(query, n, generator())
    print(f"stated {max(stated):,} bytes")
    return max(stated), torch.cuda.max_memory_allocated() - before


@pytest.mark.parametrize("oversampling", [0.0, 1.0])
def test_bait(monkeypatch, oversampling: float) -> None:
    drawn = generator()
    embeddings = torch.randn(8000, 256, generator=drawn)
    logits = torch.randn(8000, 10, generator=drawn)
    query = moved_query(given_query(embeddings, logits, labelled=range(50)), GPU)
    query.embeddings, query.logits = embeddings.to(GPU), logits.to(GPU)
    strategy = built("strategy", "bait", oversampling=oversampling)
    stated, measured = stated_and_measured(monkeypatch, query, strategy, 50)
    assert measured <= stated + SLACK, (stated, measured)
    assert stated <= MOST * measured, (stated, measured)


@pytest.mark.parametrize("options", [{}, {"jacobians": "host"}], ids=str)
def test_fishermask(monkeypatch, options) -> None:
    query = moved_query(resnet_query(images=8000, labelled=40), GPU)
    assert len(query.logits)
    strategy = built("strategy", "fishermask", fraction=0.03, **options)
    stated, measured = stated_and_measured(monkeypatch, query, strategy, 50)
    assert measured <= stated + SLACK, (stated, measured)
    assert stated <= MOST * measured + SLACK, (stated, measured)
