"""Measuring a network on the test set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fm_al.backbones.folding import folded
from fm_al.data.images import Images
from fm_al.device import mixed_precision

CALIBRATION_BINS = 15


@dataclass(frozen=True)
class Evaluation:
    """How a network did on the test set.

    Attributes:
        confusion: How many images of each true class (row) were predicted to be of each class
            (column): int64 (C, C), on the CPU.
        loss: Mean cross-entropy, in nats.
        expected_calibration_error: See the function of this name.
        brier_score: Mean over images of sum_c (p_c - 1[c is the class])^2, in [0, 2] (Brier 1950).
    """

    confusion: Tensor
    loss: float
    expected_calibration_error: float
    brier_score: float

    def metrics(self) -> dict[str, Any]:
        """Return the metrics of a round's record.

        Returns:
            `accuracy`; `balanced_accuracy`, the mean of the classes' accuracies;
            `worst_class_accuracy`, the smallest of them; `macro_f1`, the mean of their F1;
            `per_class_accuracy`; `loss`; `expected_calibration_error`; `brier_score`. A class
            without test images has the accuracy None and is left out of means and minimum.
        """
        correct = self.confusion.diag().double()
        actual = self.confusion.sum(1).double()
        predicted = self.confusion.sum(0).double()
        known = actual > 0
        per_class = correct / actual.clamp(min=1)
        f1 = 2 * correct / (actual + predicted).clamp(min=1)
        return {
            "accuracy": (correct.sum() / actual.sum()).item(),
            "balanced_accuracy": per_class[known].mean().item(),
            "worst_class_accuracy": per_class[known].min().item(),
            "macro_f1": f1[known].mean().item(),
            "per_class_accuracy": [
                a if k else None for a, k in zip(per_class.tolist(), known.tolist(), strict=True)
            ],
            "loss": self.loss,
            "expected_calibration_error": self.expected_calibration_error,
            "brier_score": self.brier_score,
        }


def expected_calibration_error(confidence: Tensor, correct: Tensor) -> float:
    """Measure how far confidence is from accuracy (Guo et al. 2017, equation 3).

    Args:
        confidence: Probability of the predicted class, float64 (N,).
        correct: Whether it is the true class, bool (N,).

    Returns:
        The sum over bins of (images in the bin / N) x |accuracy - mean confidence|, in [0, 1]. Bin
        m of 15 holds the images of a confidence in ((m - 1) / 15, m / 15].
    """
    inner_edges = torch.arange(1, CALIBRATION_BINS, dtype=torch.float64) / CALIBRATION_BINS
    bins = torch.bucketize(confidence, inner_edges)
    gaps = torch.bincount(bins, correct.double() - confidence, minlength=CALIBRATION_BINS)
    return gaps.abs().sum().item() / len(confidence)


@torch.inference_mode()
def evaluate(
    network: nn.Module,
    images: Images,
    targets: Tensor,
    classes: int,
    batch_size: int,
    autocast: torch.dtype | None,
) -> Evaluation:
    """Measure a network on the test set.

    Args:
        network: It ends in eval mode.
        images: The test set's N images.
        targets: Their classes, int64 (N,), on the device.
        classes: C, the number of classes.
        batch_size: Images per batch.
        autocast: The dtype of mixed precision; None is full precision.
    """
    network.eval()
    count, device = len(images), targets.device
    confusion = torch.zeros(classes * classes, dtype=torch.int64, device=device)
    loss = torch.zeros((), dtype=torch.float64, device="cpu")
    # One number per image is kept, and summed in float64 on the CPU: MPS has no float64, and sums
    # do not depend on the batch size.
    confidence, squares = torch.empty(2, count, device=device)
    correct = torch.empty(count, dtype=torch.bool, device=device)
    everything = torch.arange(count, device=device)
    with mixed_precision(device, autocast), folded(network, images.batch(everything[:1])):
        for indices, batch in images.batches(everything, batch_size):
            true = targets[indices]
            logits = network(batch).float()
            predicted = logits.argmax(1)
            confusion += torch.bincount(true * classes + predicted, minlength=classes**2)
            loss += functional.cross_entropy(logits, true, reduction="sum").cpu().double()
            probabilities = logits.softmax(1)
            confidence[indices] = probabilities.gather(1, predicted[:, None])[:, 0]
            correct[indices] = predicted == true
            squares[indices] = squared_errors(probabilities, true)
    return Evaluation(
        confusion.view(classes, classes).cpu(),
        loss.item() / count,
        expected_calibration_error(confidence.cpu().double(), correct.cpu()),
        squares.cpu().double().mean().item(),
    )


def squared_errors(probabilities: Tensor, true: Tensor) -> Tensor:
    """sum_c (p_c - 1[c is the class])^2 of each image, (N,). probabilities: (N, C)."""
    of_true = probabilities.gather(1, true[:, None])
    return probabilities.scatter(1, true[:, None], of_true - 1).square().sum(1)
