"""The memory that strategies state, against the tensors that are alive at a time."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fm_al.backbones.linear import Linear
from fm_al.data.images import Images
from fm_al.data.pool import Pool
from fm_al.strategies import base, chunks
from fm_al.strategies.base import Query, QuerySizes, Strategy
from fm_al.strategies.candidates import CandidateOptions
from tests.helpers.configs import built, names

N, D, C, PICKS, BATCH = 6_000, 48, 40, 50, 32
BUILT = {name: built("strategy", name) for name in names("strategy")}
STATING = [name for name, strategy in BUILT.items() if isinstance(strategy, CandidateOptions)]


class LiveTensors(TorchDispatchMode):
    """Counts the bytes of tensors that operations make, while they are alive."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(
        self, function: Any, types: Any, given: Any = (), named: Any = None
    ) -> Any:
        before = {self._key(leaf) for leaf in tree_leaves((given, named)) if torch.is_tensor(leaf)}
        made = function(*given, **(named or {}))
        for leaf in tree_leaves(made):
            if torch.is_tensor(leaf) and self._key(leaf) not in before | self.known:
                self._watch(leaf.untyped_storage())
        return made

    def _key(self, tensor: Tensor) -> int:
        return tensor.untyped_storage()._cdata

    def _watch(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        self.known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.now -= size


def a_query() -> Query:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(N, D, 1, 1, generator=generator).half()
    stored = Images(features, torch.zeros(D), torch.ones(D))
    pool = Pool(stored, torch.arange(N) % C, C, features.flatten(1).float())
    pool.label(torch.arange(0, N, 20))
    return Query(Linear(D, C, (1, 1)), pool, BATCH)


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("name", STATING)
def test_a_query_keeps_to_the_memory_that_it_states(
    name: str, large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if large:
        monkeypatch.setattr(chunks, "ROWS", 256)
        monkeypatch.setattr(chunks, "MANY_ROWS", 1024)
        monkeypatch.setattr(base, "MANY_ROWS", 1024)
    strategy, query = built("strategy", name), a_query()
    stated = sum(strategy.memory(query.sizes, PICKS).values())
    with LiveTensors() as live:
        strategy.select(query, PICKS, torch.Generator().manual_seed(0))
    of_a_batch = 4 * BATCH * D * 4
    assert live.peak <= stated + of_a_batch
    assert stated <= 3 * live.peak, "far too careful"


def test_what_is_large_is_named_with_its_size() -> None:
    sizes = QuerySizes(images=1_281_167, embedding=768, classes=1_000, image_shape=(768, 1, 1))
    stated = built("strategy", "badge").memory(sizes, 1_000)
    assert stated["embeddings, 1,281,167 x 768"] == 4 * 1_281_167 * 768
    assert stated["logits, 1,281,167 x 1,000"] == 4 * 1_281_167 * 1_000
    assert sum(stated.values()) < 1.15 * 4 * 1_281_167 * 1_768
    for name in ("margin", "entropy", "least_confidence", "coreset", "kmeans", "bald"):
        of_strategy = sum(built("strategy", name).memory(sizes, 1_000).values())
        assert of_strategy < 1.25 * 4 * 1_281_167 * 768


def test_by_default_a_strategy_states_what_a_query_computes() -> None:
    class Own(Strategy):
        def select(self, query: Query, n: int, generator: torch.Generator) -> Tensor:
            return query.unlabelled[query.probabilities[query.unlabelled].amax(1).argsort()[:n]]

    query = a_query()
    stated = Own().memory(query.sizes, PICKS)
    assert sum(stated.values()) >= 4 * N * (D + 2 * C)


@pytest.mark.parametrize("count", [0, 1, 255, 256, 257, 511, 512, 513, 2000])
def test_parts_cover_all_rows_and_none_is_small(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "ROWS", 256)
    monkeypatch.setattr(chunks, "MANY_ROWS", 600)
    rows = torch.arange(count)
    for parts in (chunks.row_chunks(count), chunks.product_chunks(count)):
        assert torch.equal(torch.cat([rows[part] for part in parts]), rows)
        assert min(len(rows[part]) for part in parts) >= min(count, 256)
    most = max(len(rows[part]) for part in chunks.row_chunks(count))
    assert most <= chunks.most_rows(count)
    assert len(chunks.product_chunks(count)) == (1 if count < 600 else count // 256)
