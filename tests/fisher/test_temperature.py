"""Temperatures that make a network as sure of its labelled images as it should be."""

from __future__ import annotations

import math

import pytest
import torch

from fm_al.errors import RunError
from fm_al.fisher.temperature import calibrated_temperature


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_the_mean_largest_probability_is_what_was_asked_for(
    confidence: float, scale: float
) -> None:
    logits = scale * torch.randn(30, 5, generator=torch.Generator().manual_seed(0))
    temperature = calibrated_temperature(logits, confidence)
    probabilities = (logits.double() / temperature).softmax(dim=1)
    assert float(probabilities.amax(dim=1).mean()) == pytest.approx(confidence, abs=1e-9)


def test_of_two_classes_it_is_the_logit_of_the_confidence() -> None:
    temperature = calibrated_temperature(torch.tensor([[0.0, 3.0]]), 0.9)
    assert temperature == pytest.approx(3 / math.log(9), rel=1e-9)


def test_it_goes_with_the_logits_scale_and_not_with_what_all_have_in_common() -> None:
    logits = torch.randn(20, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    temperature = calibrated_temperature(logits)
    assert calibrated_temperature(8 * logits) == pytest.approx(8 * temperature, rel=1e-9)
    assert calibrated_temperature(logits + 100) == pytest.approx(temperature, rel=1e-9)


@pytest.mark.parametrize(
    "logits",
    [torch.zeros(3, 4), torch.eye(4) * 1e-9, torch.eye(4) * 1e9, torch.ones(2, 4).cumsum(0)],
    ids=["equal", "too_close", "too_far", "equal_within_an_image"],
)
def test_where_no_temperature_does_it_says_so(logits: torch.Tensor) -> None:
    with pytest.raises(RunError, match=r"^temperature=calibrated: at no temperature from .* 95%"):
        calibrated_temperature(logits)


@pytest.mark.parametrize(("images", "confidence"), [(0, 0.95), (3, 0.25), (3, 1.0), (3, math.nan)])
def test_what_can_not_be(images: int, confidence: float) -> None:
    with pytest.raises(ValueError, match=f"^confidence={confidence} of {images} images"):
        calibrated_temperature(torch.randn(images, 4), confidence)
