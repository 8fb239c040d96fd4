from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fm_al.randomness import random_subset
from fm_al.strategies.base import Query
from fm_al.strategies.class_orders import UNKNOWN
from fm_al.strategies.direct import DIRECT, Line
from tests import oracle_reveal
from tests.helpers.rare_classes import share_of_rare_labels
from tests.helpers.synthetic import TIED_PREDICTIONS, given_query


def query_of(probabilities: Tensor, labelled: list[int], targets: list[int]) -> Query:
    points = torch.zeros(len(probabilities), 2)
    return given_query(points, probabilities.log(), labelled, torch.tensor(targets))


def assert_picks_equal_the_oracle(
    strategy: DIRECT,
    probabilities: Tensor,
    labelled: list[int],
    targets: list[int],
    n: int,
    seed: int,
) -> Query:
    query = query_of(probabilities, labelled, targets)
    generator = torch.Generator().manual_seed(seed)
    expected = oracle_reveal.direct(
        query.probabilities.numpy(),
        {image: targets[image] for image in labelled},
        targets,
        n,
        (int(strategy.fraction * n), strategy.per_class, strategy.parallel),
        lambda free, most: random_subset(torch.tensor(free), most, generator).tolist(),
        lambda classes: torch.randperm(classes, generator=generator).tolist(),
    )
    picks = strategy.select(query, n, torch.Generator().manual_seed(seed))
    assert picks.tolist() == query.revealed.tolist() == expected
    return query


@pytest.mark.parametrize("classes", [2, 3, 6])
@pytest.mark.parametrize(
    "strategy",
    [
        DIRECT(),
        DIRECT(per_class=12, parallel=2),
        DIRECT(per_class=7, parallel=1, fraction=0.75),
        DIRECT(fraction=0.0),
        DIRECT(fraction=1.0, parallel=3),
    ],
)
def test_picks_equal_the_oracle_on_random_pools(classes: int, strategy: DIRECT) -> None:
    for seed, n in enumerate((1, 4, 20, 60, 140, 190)):
        generator = torch.Generator().manual_seed(seed)
        logits = 2 * torch.randn(200, classes, generator=generator)
        targets = (logits + torch.randn(200, classes, generator=generator)).argmax(dim=1)
        labelled = torch.randperm(200, generator=generator)[:10].tolist()
        assert_picks_equal_the_oracle(
            strategy, logits.softmax(dim=1), labelled, targets.tolist(), n, seed
        )


@settings(max_examples=300, deadline=None)
@given(
    images=st.lists(
        st.tuples(st.sampled_from(TIED_PREDICTIONS), st.integers(0, 2)), min_size=1, max_size=40
    ),
    data=st.data(),
    seed=st.integers(0, 1000),
)
def test_picks_equal_the_oracle_among_ties_and_few_labels(
    images: list[tuple[tuple[float, ...], int]], data: st.DataObject, seed: int
) -> None:
    labelled = data.draw(st.sets(st.integers(0, len(images) - 1), max_size=len(images) - 1))
    n = data.draw(st.integers(1, len(images) - len(labelled)))
    strategy = DIRECT(
        per_class=data.draw(st.integers(1, 9)),
        parallel=data.draw(st.integers(1, 4)),
        fraction=data.draw(st.sampled_from([0.5, 1.0])),
    )
    probabilities = torch.tensor([prediction for prediction, _ in images])
    targets = [target for _, target in images]
    assert_picks_equal_the_oracle(strategy, probabilities, sorted(labelled), targets, n, seed)


@settings(max_examples=300, deadline=None)
@given(
    signs=st.lists(st.sampled_from([0] * 8 + [1, -1]), min_size=1, max_size=150),
    root=st.integers(0, 5),
    data=st.data(),
)
def test_an_interval_shrinks_as_step_by_step(
    signs: list[int], root: int, data: st.DataObject
) -> None:
    line = Line(classes_of(signs), of_class=2)
    assert line.interval() == oracle_reveal.interval(signs)
    assert line.best_threshold() == oracle_reveal.best_threshold(signs)
    first, last = sorted(data.draw(st.tuples(*[st.integers(0, len(signs) - 1)] * 2)))
    expected = oracle_reveal.narrowed(signs, first, last, root) if root > 1 else (first, last)
    assert line.shrunk(first, last, root) == expected


def classes_of(signs: list[int]) -> Tensor:
    return torch.tensor([{1: 2, -1: 0, 0: UNKNOWN}[sign] for sign in signs])


def test_a_long_line_shrinks_to_exact_powers() -> None:
    signs = [1] + [0] * 4096 + [-1]
    first, last = Line(classes_of(signs), of_class=2).shrunk(1, 4096, root=3)
    assert last - first + 1 == 4096 // 16  # of which none is labelled; in floats it is one more
    assert first + last == 4097  # both ends have moved as far


def test_the_rarest_labelled_classes_come_first_and_share_half_of_the_budget() -> None:
    counts = torch.tensor([9, 0, 4, 4])
    assert DIRECT().shares(counts, budget=100) == ([1, 2, 3, 0], 12)
    assert DIRECT().shares(counts, budget=480) == ([1, 2, 3, 0], 60)
    assert DIRECT(per_class=10).shares(counts, budget=81) == ([1, 2, 3, 0], 10)
    assert DIRECT(per_class=15).shares(counts, budget=120) == ([1, 2, 3, 0], 15)
    assert DIRECT(per_class=20).shares(counts, budget=120) == ([1, 2, 3, 0], 15)
    assert DIRECT().shares(torch.zeros(100), budget=150) == ([], 0)
    assert DIRECT(fraction=0.29, per_class=1).shares(torch.zeros(29), 100) == ([*range(29)], 1)


def test_both_phases_are_recorded_and_exhausted_intervals_hand_on_their_share() -> None:
    """The boundary of both classes is known, between images 1 and 2: phase 1 has nothing to ask."""
    probabilities = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.4, 0.6], [0.3, 0.7], [0.1, 0.9]])
    query = query_of(probabilities, [1, 2], [0, 0, 1, 1, 1])
    picks = DIRECT(fraction=1.0).select(query, 3, torch.Generator())
    assert sorted(picks.tolist()) == [0, 3, 4]
    assert query.recorded == {"direct": {"phase_1": 0, "exhausted": [0, 1], "shrunk": 0}}
    query = query_of(probabilities, [0, 4], [0, 0, 1, 1, 1])
    DIRECT(fraction=1.0).select(query, 3, torch.Generator())
    assert query.recorded == {"direct": {"phase_1": 2, "exhausted": [], "shrunk": 0}}


def test_an_interval_shrinks_only_if_a_class_has_two_draws() -> None:
    """100 images on a line and two classes: half of n picks give each class n / 4 in phase 1."""
    score = torch.linspace(0.99, 0.01, 100)
    probabilities = torch.stack([score, 1 - score], dim=1)

    def recorded(n: int, parallel: int) -> dict[str, object]:
        query = query_of(probabilities, [0, 99], [0] * 50 + [1] * 50)
        DIRECT(parallel=parallel).select(query, n, torch.Generator().manual_seed(0))
        return query.recorded["direct"]

    assert recorded(3, parallel=1) == {"phase_1": 0, "exhausted": [], "shrunk": 0}
    assert recorded(4, parallel=1) == {"phase_1": 2, "exhausted": [], "shrunk": 0}
    assert recorded(12, parallel=2) == {"phase_1": 6, "exhausted": [], "shrunk": 0}
    assert recorded(16, parallel=2) == {"phase_1": 8, "exhausted": [], "shrunk": 2}
    assert recorded(16, parallel=1)["shrunk"] > 2


def test_images_nearest_to_the_threshold_are_labelled_in_turn() -> None:
    """Class 0 is where p_0 > 1/2; phase 2 alone labels around it, above first."""
    score = torch.linspace(0.99, 0.01, 20)
    targets = [0] * 10 + [1] * 10
    query = query_of(torch.stack([score, 1 - score], dim=1), [9, 10], targets)
    picks = DIRECT(fraction=0.0).select(query, 8, torch.Generator().manual_seed(0))
    assert sorted(picks.tolist()) == [5, 6, 7, 8, 11, 12, 13, 14]


def test_permuting_the_pool_permutes_the_picks_of_phase_2() -> None:
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.randn(60, 3, generator=generator).softmax(dim=1)
    targets = torch.randint(3, (60,), generator=generator)
    order = torch.randperm(60, generator=generator)
    place = order.argsort()
    strategy = DIRECT(fraction=0.0)
    query = query_of(probabilities, [3, 50, 20], targets.tolist())
    picks = strategy.select(query, 30, torch.Generator().manual_seed(1))
    moved = query_of(probabilities[order], place[[3, 50, 20]].tolist(), targets[order].tolist())
    again = strategy.select(moved, 30, torch.Generator().manual_seed(1))
    assert again.tolist() == place[picks].tolist()


@pytest.mark.parametrize("seed", range(5))
def test_it_collects_nearly_all_of_the_rare_classes(seed: int) -> None:
    """Of at most 1/3; entropy collects 0.2 to 0.28."""
    assert share_of_rare_labels(DIRECT(), seed) >= 0.29
