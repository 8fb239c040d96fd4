"""How often, and how long, the inner loops make the CPU wait for the GPU."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from tests.gpu.test_strategies import generator, resnet_query
from tests.helpers.configs import built
from tests.helpers.gpu import GPU, on_gpu, only_cuda
from tests.helpers.moved import moved_query
from tests.test_device_rules import PER_PICK, PER_PICK_OF_A_DESIGN

pytestmark = [*on_gpu, only_cuda]

MOST_SHARE = 0.1  # of the time of a pick


def waits(run: Callable[[], object]) -> int:
    """How often torch says that the CPU waits."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            run()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("called a synchronizing" in str(each.message) for each in caught)


def seconds(run: Callable[[], object]) -> float:
    torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    torch.cuda.synchronize()
    return time.perf_counter() - start


@pytest.mark.parametrize("augment", [False, True])
def test_a_batch_of_training_does_not_wait(augment: bool) -> None:
    found = []
    for batch_size in (50, 10):
        query = moved_query(resnet_query(labelled=200), GPU)
        trainer = built("trainer", "paper", batch_size=batch_size, max_epochs=2)
        trainer = replace(trainer, augment=augment, batch_norm="running")

        def fit(query=query, trainer=trainer) -> None:
            trainer.fit(query.model, query._pool, None, 0, 0, lambda epoch, accuracy: None)

        fit()
        found.append(waits(fit))
    print(f"waits of two epochs: {found}")
    assert found[0] == found[1] < 20


@pytest.mark.parametrize("name", ["bait", "fishermask", "badge", "coreset", "kmeans"])
def test_picks_wait_a_few_times_and_for_little(name: str) -> None:
    query = moved_query(resnet_query(images=4000, labelled=40), GPU)
    assert len(query.logits)
    strategy = built("strategy", name)
    found, took = [], []
    for n in (10, 40):

        def select(n: int = n) -> None:
            strategy.select(query, n, generator())

        select()
        found.append(waits(select))
        took.append(min(seconds(select) for _ in range(3)))
    number = torch.zeros((), device=GPU)
    one_wait = min(seconds(number.item) for _ in range(20))
    per_pick, of_pick = (found[1] - found[0]) / 30, (took[1] - took[0]) / 30
    share = per_pick * one_wait / of_pick
    print(f"{name}: {per_pick:.1f} waits a pick, {of_pick * 1e3:.2f} ms, of which {share:.1%}")
    if name in ("bait", "fishermask"):
        assert per_pick <= PER_PICK_OF_A_DESIGN
        assert share < MOST_SHARE
    assert per_pick <= PER_PICK
