from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fm_al.strategies import lcmd
from fm_al.strategies.coreset import Coreset
from fm_al.strategies.lcmd import LCMD
from tests import oracle, oracle_mix
from tests.helpers.synthetic import given_query

REPRESENTATIONS = ["gradients", "embeddings", "features"]


def picks_of(
    strategy: LCMD, embeddings: Tensor, probabilities: Tensor, labelled: list[int], n: int
) -> list[int]:
    query = given_query(embeddings, probabilities.log(), labelled)
    return strategy.select(query, n, torch.Generator()).tolist()


def expected_picks(
    strategy: LCMD, embeddings: Tensor, probabilities: Tensor, labelled: list[int], n: int
) -> list[int]:
    points = embeddings.double().numpy()
    if strategy.representation == "gradients":
        query = given_query(embeddings, probabilities.log(), labelled)
        points = oracle.badge_gradients(query.probabilities.double().numpy(), points)
    return oracle_mix.lcmd(points, labelled, n)


@pytest.mark.parametrize("representation", REPRESENTATIONS)
@pytest.mark.parametrize("labelled", [[], [7], [7, 90, 3, 55, 41]])
def test_picks_equal_the_oracle(
    representation: str, labelled: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lcmd, "CENTRES", 2)
    strategy = LCMD(representation=representation)
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        embeddings = torch.randn(100, 12, generator=generator).relu()
        probabilities = (3 * torch.randn(100, 5, generator=generator)).softmax(dim=1)
        given = strategy, embeddings, probabilities, labelled, 25
        assert picks_of(*given) == expected_picks(*given)


@settings(max_examples=100, deadline=None)
@given(data=st.data(), representation=st.sampled_from(REPRESENTATIONS))
def test_picks_equal_the_oracle_among_equal_and_zero_points(
    data: st.DataObject, representation: str
) -> None:
    # Powers of two, so that sums of squared distances are exact.
    prediction = st.sampled_from([(1.0, 0.0, 0.0), (0.5, 0.5, 0.0), (0.25, 0.25, 0.5)])
    coordinate = st.sampled_from([0.0, 1.0, -2.0])
    image = st.tuples(prediction, st.tuples(coordinate, coordinate))
    images = data.draw(st.lists(image, min_size=1, max_size=12))
    probabilities = torch.tensor([image[0] for image in images])
    embeddings = torch.tensor([image[1] for image in images])
    labelled = sorted(data.draw(st.sets(st.integers(0, len(images) - 1), max_size=len(images) - 1)))
    n = data.draw(st.integers(1, len(images) - len(labelled)))
    given = LCMD(representation=representation), embeddings, probabilities, labelled, n
    assert picks_of(*given) == expected_picks(*given)


def test_labelled_images_far_from_the_origin_keep_their_clusters_apart() -> None:
    """Distances of the chosen pairs are exact, however large the embeddings are."""
    embeddings = 1e4 + torch.tensor([[0.0], [8.0], [1.0], [2.0], [6.5]])
    strategy = LCMD(representation="embeddings")
    picks = picks_of(strategy, embeddings, torch.full((5, 2), 0.5), [0, 1], 3)
    assert picks == [3, 4, 2]


def test_dense_regions_are_covered_before_outliers_are() -> None:
    """400 images around one label, 6 scattered farther out around another: coreset picks these,
    LCMD leaves the pool closer to what is labelled."""
    dense = torch.randn(400, 2, generator=torch.Generator().manual_seed(0))
    around = torch.tensor(
        [[5.0, 0.0], [-5.0, 0.0], [0.0, 5.0], [0.0, -5.0], [4.0, 4.0], [-4.0, 4.0]]
    )
    labels = torch.tensor([[0.0, 0.0], [40.0, 0.0]])
    embeddings = torch.cat([labels, labels[1] + around, dense])
    query = given_query(embeddings, torch.zeros(len(embeddings), 2), labelled=[0, 1])
    of_coreset = Coreset().select(query, 6, torch.Generator()).tolist()
    of_lcmd = LCMD(representation="embeddings").select(query, 6, torch.Generator()).tolist()
    assert sum(pick < 8 for pick in of_coreset) >= 5
    assert all(pick >= 8 for pick in of_lcmd)

    def to_nearest(picks: list[int]) -> float:
        return float(
            torch.cdist(embeddings, embeddings[[0, 1, *picks]]).amin(dim=1).square().mean()
        )

    assert to_nearest(of_lcmd) < 0.85 * to_nearest(of_coreset)


def test_permuting_the_pool_permutes_the_picks() -> None:
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(80, 5, generator=generator)
    probabilities = torch.randn(80, 4, generator=generator).softmax(dim=1)
    order = torch.randperm(80, generator=generator)
    place = order.argsort()
    picks = picks_of(LCMD(), embeddings, probabilities, [3, 50], 20)
    moved = picks_of(LCMD(), embeddings[order], probabilities[order], place[[3, 50]].tolist(), 20)
    assert moved == place[picks].tolist()
