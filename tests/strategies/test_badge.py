from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fm_al.strategies.badge import BADGE, Gradients, residuals
from tests import oracle
from tests.helpers.synthetic import given_query


def assert_picks_equal_the_textbook(
    embeddings: Tensor, probabilities: Tensor, labelled: list[int], n: int, seed: int
) -> None:
    query = given_query(embeddings, probabilities.log(), labelled)
    uniforms = torch.rand(
        n - 1, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    ).tolist()
    expected = oracle.badge(
        query.probabilities.double().numpy(),
        embeddings.double().numpy(),
        query.unlabelled.tolist(),
        n,
        uniforms,
    )
    picks = BADGE().select(query, n, torch.Generator().manual_seed(seed))
    assert picks.tolist() == expected


def test_picks_equal_k_means_plus_plus_on_the_dense_gradients() -> None:
    for seed in range(10):
        generator = torch.Generator().manual_seed(seed)
        embeddings = torch.randn(100, 12, generator=generator).relu()
        probabilities = (3 * torch.randn(100, 5, generator=generator)).softmax(dim=1)
        assert_picks_equal_the_textbook(embeddings, probabilities, [7, 90, 3], 40, seed)


@settings(max_examples=100, deadline=None)
@given(data=st.data(), seed=st.integers(0, 2**32))
def test_picks_equal_the_textbook_among_equal_and_zero_gradients(
    data: st.DataObject, seed: int
) -> None:
    # Powers of two, so that no rounding tells equal gradients apart; many are equal, many are 0.
    prediction = st.sampled_from(
        [(1.0, 0.0, 0.0), (0.5, 0.25, 0.25), (0.5, 0.5, 0.0), (0.25, 0.25, 0.5), (0.0, 0.0, 1.0)]
    )
    coordinate = st.sampled_from([0.0, 1.0, -2.0])
    image = st.tuples(prediction, st.tuples(coordinate, coordinate))
    images = data.draw(st.lists(image, min_size=2, max_size=15))
    probabilities = torch.tensor([image[0] for image in images])
    embeddings = torch.tensor([image[1] for image in images])
    labelled = sorted(data.draw(st.sets(st.integers(0, len(images) - 1), max_size=len(images) - 1)))
    n = data.draw(st.integers(1, len(images) - len(labelled)))
    assert_picks_equal_the_textbook(embeddings, probabilities, labelled, n, seed)


def test_distances_of_close_images_with_huge_embeddings_keep_their_digits() -> None:
    generator = torch.Generator().manual_seed(0)
    embeddings = 1e4 + torch.randn(50, 32, generator=generator)
    probabilities = torch.tensor([[0.7, 0.2, 0.1]]).repeat(50, 1)
    embeddings[20] = embeddings[3]
    gradients = Gradients(residuals(probabilities), embeddings)
    dense = torch.from_numpy(
        oracle.badge_gradients(probabilities.double().numpy(), embeddings.double().numpy())
    )
    distances = gradients.squared_distances(3)
    assert distances[3] == distances[20] == 0
    exact = (dense - dense[3]).square().sum(dim=1)
    torch.testing.assert_close(distances.double(), exact, rtol=1e-5, atol=0)


def test_residuals_keep_the_digits_of_nearly_certain_predictions() -> None:
    probabilities = torch.tensor([[1e-12, 1.0, 2e-12], [0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])
    expected = torch.tensor([[1e-12, -3e-12, 2e-12], [-0.5, 0.5, 0.0], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(residuals(probabilities), expected, rtol=1e-6, atol=0)
