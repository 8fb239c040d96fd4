from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fm_al.errors import ConfigError
from fm_al.strategies.coreset import Coreset
from tests import oracle
from tests.helpers.synthetic import given_query


def picks_of(embeddings: torch.Tensor, labelled: list[int], n: int) -> list[int]:
    query = given_query(embeddings, torch.zeros(len(embeddings), 2), labelled)
    return Coreset().select(query, n, torch.Generator()).tolist()


def test_picks_equal_those_from_the_whole_distance_matrix() -> None:
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        embeddings = 100 + torch.randn(80, 5, generator=generator)
        labelled = torch.randperm(80, generator=generator)[:10].tolist()
        expected = oracle.coreset(embeddings.double().numpy(), labelled, 50)
        assert picks_of(embeddings, labelled, 50) == expected


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_ties_go_to_the_lowest_index(data: st.DataObject) -> None:
    coordinate = st.integers(-2, 2)  # small integers: many equal points, exact distances
    points = data.draw(st.lists(st.tuples(coordinate, coordinate), min_size=2, max_size=15))
    embeddings = torch.tensor(points, dtype=torch.float32)
    index = st.integers(0, len(points) - 1)
    labelled = sorted(data.draw(st.sets(index, min_size=1, max_size=len(points) - 1)))
    n = data.draw(st.integers(1, len(points) - len(labelled)))
    expected = oracle.coreset(embeddings.double().numpy(), labelled, n)
    assert picks_of(embeddings, labelled, n) == expected


def test_without_labelled_images_the_first_pick_is_closest_to_the_mean() -> None:
    embeddings = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    assert picks_of(embeddings, [], 40) == oracle.coreset(embeddings.double().numpy(), [], 40)


def test_augmented_images_have_no_fixed_features() -> None:
    with pytest.raises(ConfigError, match=r"^strategy\.augment=true: fixed features are those of"):
        Coreset(representation="features", augment=True)
    assert Coreset(representation="embeddings", augment=True).augment
