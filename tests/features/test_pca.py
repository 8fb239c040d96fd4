"""features=pca against a dense singular value decomposition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fm_al.data.datasets.digits import Digits
from fm_al.errors import ConfigError, RunError
from fm_al.features.pca import PCA
from tests.oracle_features import whitened_pca

CPU = torch.device("cpu")


def images(count: int, *shape: int, seed: int = 0) -> Tensor:
    """Smooth random images, whose principal variances differ clearly."""
    generator = torch.Generator().manual_seed(seed)
    pixels = int(np.prod(shape))
    scales = 0.8 ** torch.arange(pixels)
    mixing = torch.linalg.qr(torch.randn(pixels, pixels, generator=generator))[0] * scales
    values = 128 + 60 * torch.randn(count, pixels, generator=generator) @ mixing.T
    return values.clamp(0, 255).to(torch.uint8).view(count, *shape)


@settings(max_examples=15, deadline=None)
@given(
    count=st.integers(30, 60),
    channels=st.sampled_from([1, 3]),
    side=st.integers(2, 4),
    dimensions=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_features_are_those_of_a_dense_decomposition(
    count: int, channels: int, side: int, dimensions: int, seed: int
) -> None:
    train, others = (images(n, channels, side, side, seed=seed) for n in (count, 20))
    features = PCA(dimensions=dimensions).fitted(train, CPU)(others)
    expected = whitened_pca(train.numpy(), others.numpy(), dimensions)
    np.testing.assert_allclose(features.numpy(), expected, rtol=1e-6, atol=1e-6)


def test_without_whitening_distances_are_those_of_the_pixels() -> None:
    train = images(30, 1, 3, 3)
    features = PCA(dimensions=9, whiten=False).fitted(train, CPU)(train)
    pixels = train.flatten(1).double() / 255
    torch.testing.assert_close(torch.cdist(features, features), torch.cdist(pixels, pixels))
    assert PCA(whiten=False).identity()["whiten"] is False
    assert "whiten" not in PCA().identity(), "features that are kept from before are still found"


def test_the_digits_have_61_directions_and_features_of_variance_1() -> None:
    from pathlib import Path

    train = Digits().load(Path(), download=False).train.images
    features = PCA(dimensions=60).fitted(train, CPU)(train)
    torch.testing.assert_close(
        features.T @ features / len(train), torch.eye(60, dtype=torch.float64)
    )
    assert features.mean(dim=0).abs().max() < 1e-9
    default = PCA().fitted(train, CPU)(train)
    assert torch.equal(default[:, :60], features)
    with pytest.raises(ConfigError, match=r"^features.dimensions=64: the images vary in \d\d dir"):
        PCA(dimensions=64).fitted(train, CPU)


def test_a_batch_has_the_features_of_its_images() -> None:
    train = images(200, 1, 4, 4)
    compute = PCA(dimensions=5).fitted(train, CPU)
    torch.testing.assert_close(compute(train)[50:60], compute(train[50:60]), rtol=0, atol=1e-12)


def test_vectors_are_taken_as_they_are() -> None:
    vectors = torch.randn(50, 6, 1, 1, generator=torch.Generator().manual_seed(0)).half()
    features = PCA(dimensions=3).fitted(vectors, CPU)(vectors)
    expected = whitened_pca(*[vectors.double().numpy() * 255] * 2, 3)
    np.testing.assert_allclose(features.numpy(), expected, rtol=1e-6, atol=1e-6)


def test_large_images_are_averaged_down() -> None:
    large = images(40, 1, 4, 4).repeat_interleave(32, 2).repeat_interleave(32, 3)
    with pytest.raises(ConfigError, match=r"resize_to=null: .* 16,384 values, .* use at most 90$"):
        PCA().fitted(large, CPU)
    features = PCA(dimensions=4, resize_to=4).fitted(large, CPU)(large)
    expected = whitened_pca(large[:, :, ::32, ::32].numpy(), large[:, :, ::32, ::32].numpy(), 4)
    np.testing.assert_allclose(features.numpy(), expected, rtol=1e-6, atol=1e-6)
    with pytest.raises(ConfigError, match=r"resize_to=8: the images are 4 x 4; use a smaller"):
        PCA(resize_to=8).fitted(images(40, 1, 4, 4), CPU)


def test_equal_images_have_no_features() -> None:
    with pytest.raises(RunError, match="all images of the train split are the same"):
        PCA().fitted(images(1, 1, 4, 4).repeat(5, 1, 1, 1), CPU)
