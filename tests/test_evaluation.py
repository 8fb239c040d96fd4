"""Calibration, Brier score and the worst class, against the textbook's sums."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sklearn.metrics
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fm_al.data.images import Images
from fm_al.evaluation import Evaluation, evaluate, expected_calibration_error
from tests import oracle_metrics


class Given(nn.Module):
    """Takes images for logits: pixel c of an image is the logit of class c."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)


def evaluation_of(logits: Tensor, targets: Tensor, batch_size: int = 7) -> Evaluation:
    classes = logits.shape[1]
    images = Images(
        logits[:, None, None, :],
        torch.zeros(1),
        torch.ones(1),
        0,
        False,
        torch.contiguous_format,
        torch.device("cpu"),
    )
    return evaluate(Given(), images, targets, classes, batch_size, None)


def assert_as_the_textbook(logits: Tensor, targets: Tensor, batch_size: int = 7) -> None:
    found = evaluation_of(logits, targets, batch_size).metrics()
    probabilities, true = logits.softmax(1).double().numpy(), targets.numpy()
    assert found["expected_calibration_error"] == pytest.approx(
        oracle_metrics.expected_calibration_error(probabilities, true), abs=1e-9
    )
    assert found["brier_score"] == pytest.approx(
        oracle_metrics.brier_score(probabilities, true), rel=1e-6, abs=1e-9
    )
    assert found["worst_class_accuracy"] == oracle_metrics.worst_class_accuracy(
        logits.argmax(1).numpy(), true
    )


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    count=st.integers(1, 40),
    classes=st.integers(2, 12),
    scale=st.sampled_from([0.0, 0.3, 3.0, 1e4]),  # level, unsure, sure, saturated
    batch_size=st.sampled_from([1, 3, 100]),
)
def test_metrics_are_those_of_the_textbook(
    seed: int, count: int, classes: int, scale: float, batch_size: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(count, classes, generator=generator)
    targets = torch.randint(classes, (count,), generator=generator)
    assert_as_the_textbook(logits, targets, batch_size)


def test_the_brier_score_of_two_classes_is_twice_that_of_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(200, 2, generator=generator)
    targets = torch.randint(2, (200,), generator=generator)
    theirs = sklearn.metrics.brier_score_loss(targets, logits.softmax(1)[:, 1])
    assert evaluation_of(logits, targets).brier_score == pytest.approx(2 * theirs)


def test_calibration_error_of_a_hand_worked_case() -> None:
    # Two bins: 0.9 and 0.91 with one of two right, 0.5 with one right.
    confidence = torch.tensor([0.9, 0.91, 0.5], dtype=torch.float64)
    correct = torch.tensor([True, False, True])
    expected = 2 / 3 * abs(0.5 - 0.905) + 1 / 3 * abs(1 - 0.5)
    assert expected_calibration_error(confidence, correct) == pytest.approx(expected)


def test_a_bin_holds_its_upper_edge_and_not_its_lower() -> None:
    edge = 9 / 15
    above = math.nextafter(edge, 1)
    correct = torch.tensor([True, False])
    together = torch.tensor([edge, math.nextafter(edge, 0)], dtype=torch.float64)
    apart = torch.tensor([edge, above], dtype=torch.float64)
    assert expected_calibration_error(together, correct) == pytest.approx(abs(0.5 - edge))
    assert expected_calibration_error(apart, correct) == pytest.approx(((1 - edge) + above) / 2)


def test_a_sure_network_scores_the_extremes() -> None:
    logits = 1e5 * torch.eye(3)
    right, wrong = torch.arange(3), torch.tensor([1, 2, 0])
    best, worst = evaluation_of(logits, right).metrics(), evaluation_of(logits, wrong).metrics()
    names = ("expected_calibration_error", "brier_score", "worst_class_accuracy")
    assert [best[name] for name in names] == [0, 0, 1]
    assert [worst[name] for name in names] == [1, 2, 0]


def test_the_worst_class_is_one_with_test_images() -> None:
    logits = torch.tensor([[5.0, 0, 0], [0, 5, 0], [5, 0, 0], [5, 0, 0]])
    metrics = evaluation_of(logits, torch.tensor([0, 1, 1, 0])).metrics()
    assert metrics["per_class_accuracy"] == [1.0, 0.5, None]
    assert metrics["worst_class_accuracy"] == 0.5


def test_sums_do_not_depend_on_the_batch_size() -> None:
    generator = torch.Generator().manual_seed(3)
    logits = 4 * torch.randn(1001, 10, generator=generator)
    targets = torch.randint(10, (1001,), generator=generator)
    small, large = (evaluation_of(logits, targets, size) for size in (13, 1001))
    assert small.expected_calibration_error == large.expected_calibration_error
    assert small.brier_score == large.brier_score


def test_a_network_that_diverged_is_measured_without_an_error() -> None:
    found = evaluation_of(torch.full((4, 3), math.nan), torch.tensor([0, 1, 2, 0]))
    assert np.isnan([found.loss, found.expected_calibration_error, found.brier_score]).all()
