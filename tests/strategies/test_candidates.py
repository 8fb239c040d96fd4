from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from fm_al.strategies.base import Query, Strategy
from fm_al.strategies.candidates import CandidateOptions, candidates_query
from fm_al.strategies.random import Random
from tests.helpers.configs import built, names
from tests.helpers.synthetic import network_query

N = 60
LABELLED = [30, 2, 9, 17]
BUILT = {name: built("strategy", name) for name in names("strategy")}
SMALLER = [name for name, strategy in BUILT.items() if isinstance(strategy, CandidateOptions)]


def images() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (N, 1, 5, 5), dtype=torch.uint8, generator=generator)


def query() -> Query:
    return network_query(images(), LABELLED)


def limited(name: str, most: int | None) -> Strategy:
    """The strategy of this name, with a limit."""
    strategy = built("strategy", name)
    if hasattr(strategy, "fishermask"):
        inner = dataclasses.replace(strategy.fishermask, max_candidates=most)
        return dataclasses.replace(strategy, fishermask=inner)
    return dataclasses.replace(strategy, max_candidates=most)


def picks_of(strategy: Strategy, asked: Query, n: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    shown = candidates_query(strategy, asked, generator)
    return shown.pool_indices(strategy.select(shown, n, generator))


@pytest.mark.parametrize("name", names("strategy"))
def test_candidates_are_drawn_by_the_generator_and_recorded(name: str) -> None:
    strategy, drawn = limited(name, 12), set()
    for seed in range(4):
        asked = query()
        picks = picks_of(strategy, asked, 7, seed)
        assert asked.recorded["candidates"] == 12
        assert len(picks.unique()) == 7
        assert bool(torch.isin(picks, asked.unlabelled).all())
        assert picks_of(strategy, query(), 7, seed).tolist() == picks.tolist()
        drawn.add(tuple(picks.tolist()))
    assert len(drawn) > 1


@pytest.mark.parametrize("name", names("strategy"))
@pytest.mark.parametrize("most", [None, N])
def test_no_limit_or_one_that_is_not_reached_draws_nothing(name: str, most: int | None) -> None:
    strategy, generator = built("strategy", name), torch.Generator().manual_seed(3)
    plain = strategy.select(query(), 7, generator)
    asked = query()
    assert picks_of(limited(name, most), asked, 7, 3).tolist() == plain.tolist()
    if isinstance(strategy, CandidateOptions):
        count = None if most is None else N - len(LABELLED)
        assert asked.recorded.get("candidates") == count


@pytest.mark.parametrize("name", SMALLER)
def test_picks_are_those_of_a_pool_of_candidates_and_labelled_images(name: str) -> None:
    strategy = limited(name, 20)
    generator = torch.Generator().manual_seed(5)
    shown = candidates_query(strategy, query(), generator)
    kept = shown.pool_indices(torch.arange(20 + len(LABELLED)))
    assert kept.tolist() == sorted(kept.tolist())
    assert shown.pool_indices(shown.labelled).tolist() == LABELLED
    labelled = [kept.tolist().index(index) for index in LABELLED]
    alone = network_query(images()[kept], labelled, targets=kept % 3)
    state = generator.get_state()
    expected = kept[strategy.select(alone, 9, generator)]
    generator.set_state(state)
    assert shown.pool_indices(strategy.select(shown, 9, generator)).tolist() == expected.tolist()


def test_candidates_are_uniform_and_only_they_and_the_labelled_are_scored() -> None:
    counts = torch.zeros(N)
    for seed in range(600):
        asked = query()
        shown = candidates_query(
            Random(max_candidates=7), asked, torch.Generator().manual_seed(seed)
        )
        counts[shown.pool_indices(shown.unlabelled)] += 1
    free = query().unlabelled
    assert counts.sum() == counts[free].sum() == 600 * 7
    assert (counts[free] - 75).abs().max() < 5 * (75 * (1 - 7 / 56)) ** 0.5
    assert len(shown.embeddings) == len(shown.logits) == 7 + len(LABELLED)
    assert "embeddings" not in vars(asked)
    whole = asked.embeddings[shown.pool_indices(torch.arange(11))]
    torch.testing.assert_close(shown.embeddings, whole)


def test_a_strategy_without_the_option_is_shown_the_whole_pool() -> None:
    class Own(Strategy):
        max_candidates = 5  # its own business

        def select(self, query: Query, n: int, generator: torch.Generator) -> Tensor:
            return query.unlabelled[:n]

    asked = query()
    assert candidates_query(Own(), asked, torch.Generator()) is asked
    assert asked.recorded == {}
