from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fm_al.strategies.base import Query
from fm_al.strategies.class_orders import UNKNOWN
from fm_al.strategies.galaxy import GALAXY, next_on_line
from tests import oracle_reveal
from tests.helpers.rare_classes import share_of_rare_labels
from tests.helpers.synthetic import TIED_PREDICTIONS, given_query


def query_of(probabilities: Tensor, labelled: list[int], targets: list[int]) -> Query:
    points = torch.zeros(len(probabilities), 2)
    return given_query(points, probabilities.log(), labelled, torch.tensor(targets))


def picks_of(query: Query, n: int) -> list[int]:
    picks = GALAXY().select(query, n, torch.Generator())
    assert picks.tolist() == query.revealed.tolist()
    return picks.tolist()


def assert_picks_equal_the_oracle(
    probabilities: Tensor, labelled: list[int], targets: list[int], n: int
) -> None:
    query = query_of(probabilities, labelled, targets)
    known = {image: targets[image] for image in labelled}
    expected = oracle_reveal.galaxy(query.probabilities.numpy(), known, targets, n)
    assert picks_of(query, n) == expected


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("n", [1, 5, 40, 112])
def test_picks_equal_the_oracle_on_random_pools(classes: int, n: int) -> None:
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        logits = 2 * torch.randn(120, classes, generator=generator)
        targets = (logits + torch.randn(120, classes, generator=generator)).argmax(dim=1)
        labelled = torch.randperm(120, generator=generator)[:8].tolist()
        assert_picks_equal_the_oracle(logits.softmax(dim=1), labelled, targets.tolist(), n)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_picks_equal_the_oracle_among_ties_and_few_labels(data: st.DataObject) -> None:
    images = data.draw(
        st.lists(
            st.tuples(st.sampled_from(TIED_PREDICTIONS), st.integers(0, 2)), min_size=1, max_size=14
        )
    )
    labelled = data.draw(st.sets(st.integers(0, len(images) - 1), max_size=len(images) - 1))
    n = data.draw(st.integers(1, len(images) - len(labelled)))
    targets = [target for _, target in images]
    probabilities = torch.tensor([prediction for prediction, _ in images])
    assert_picks_equal_the_oracle(probabilities, sorted(labelled), targets, n)


def on_line(text: str) -> Tensor:
    """c and o are labelled: of the class, and of another one; . is not labelled."""
    return torch.tensor([{"c": 4, "o": 1, ".": UNKNOWN}[letter] for letter in text])


@pytest.mark.parametrize(
    ("text", "position", "rule"),
    [
        ("c.....o", 3, "bisection"),
        ("c....o", 2, "bisection"),
        ("c....o...c", 7, "bisection"),  # the shorter of two
        ("c..o..c", 1, "bisection"),  # the first of two as short
        (".c.c..o", 4, "bisection"),  # not between two of a kind
        ("..o.....c..", 5, "bisection"),  # the other class above
        ("...cco...", 6, "nearest_to_cut"),
        ("..co....", 1, "nearest_to_cut"),  # above and below as near: the first
        ("....co", 3, "nearest_to_cut"),
        (".o.o..o", 0, "end_of_order"),
        ("c.c..", 4, "end_of_order"),
        (".....", 0, "end_of_order"),
    ],
)
def test_the_next_pick_of_a_line(text: str, position: int, rule: str) -> None:
    assert next_on_line(on_line(text), of_class=4) == (position, rule)


def test_bisection_finds_the_boundary_of_a_line_in_logarithmically_many_picks() -> None:
    """With two classes, 1,000 images on a line, the boundary anywhere: both neighbours of it are
    labelled after ten picks."""
    score = torch.linspace(0.999, 0.001, 1000)
    for boundary in (3, 377, 998):
        targets = [int(image >= boundary) for image in range(1000)]
        query = query_of(torch.stack([score, 1 - score], dim=1), [0, 999], targets)
        picks = picks_of(query, 10)
        assert {boundary - 1, boundary} <= {0, 999, *picks}


def test_what_each_rule_picked_is_recorded() -> None:
    query = query_of(
        torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.2, 0.8]]), [0], [0, 0, 1, 1]
    )
    assert picks_of(query, 3) == [3, 1, 2]
    assert query.recorded == {"galaxy": {"bisection": 2, "nearest_to_cut": 0, "end_of_order": 1}}


def test_batches_smaller_than_the_classes_reach_every_class_in_turn() -> None:
    probabilities = torch.eye(4).repeat(5, 1)
    for labels in range(4):
        query = query_of(probabilities, list(range(labels)), [0] * 20)
        (pick,) = picks_of(query, 1)
        assert pick == labels


def test_images_revealed_before_count_among_the_picks() -> None:
    query = query_of(torch.full((9, 3), 1 / 3), [4], [0, 1, 2] * 3)
    first = picks_of(query, 3)
    query.logits = torch.zeros(9, 3)
    assert picks_of(query, 5)[:3] == first
    with pytest.raises(ValueError, match="n=2: must be at least 5, the revealed images"):
        picks_of(query, 2)


def test_permuting_the_pool_permutes_the_picks() -> None:
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.randn(60, 3, generator=generator).softmax(dim=1)
    targets = torch.randint(3, (60,), generator=generator)
    order = torch.randperm(60, generator=generator)
    place = order.argsort()
    picks = picks_of(query_of(probabilities, [3, 50, 20], targets.tolist()), 30)
    moved = query_of(probabilities[order], place[[3, 50, 20]].tolist(), targets[order].tolist())
    assert picks_of(moved, 30) == place[picks].tolist()


@pytest.mark.parametrize("seed", range(5))
def test_it_collects_nearly_all_of_the_rare_classes(seed: int) -> None:
    """Of at most 1/3; entropy collects 0.2 to 0.28."""
    assert share_of_rare_labels(GALAXY(), seed) >= 0.29
