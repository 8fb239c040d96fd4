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


@dataclass(frozen=True)
class Evaluation:
    """How a network did on the test set.

    Attributes:
        confusion: How many images of each true class (row) were predicted to be of each class
            (column): int64 (C, C), on the CPU.
        loss: Mean cross-entropy, in nats.
    """

    confusion: Tensor
    loss: float

    def metrics(self) -> dict[str, Any]:
        """Return the metrics of a round's record.

        Returns:
            `accuracy`; `balanced_accuracy`, the mean of the classes' accuracies; `macro_f1`, the
            mean of their F1; `per_class_accuracy`; `loss`. All but the loss are in [0, 1]. A class
            without test images has the accuracy None and is left out of the means.
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
            "macro_f1": f1[known].mean().item(),
            "per_class_accuracy": [
                a if k else None for a, k in zip(per_class.tolist(), known.tolist(), strict=True)
            ],
            "loss": self.loss,
        }


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
    confusion = torch.zeros(classes * classes, dtype=torch.int64, device=targets.device)
    loss = torch.zeros((), dtype=torch.float64, device="cpu")
    everything = torch.arange(len(images), device=targets.device)
    with mixed_precision(targets.device, autocast), folded(network, images.batch(everything[:1])):
        for indices, batch in images.batches(everything, batch_size):
            true = targets[indices]
            logits = network(batch).float()
            confusion += torch.bincount(true * classes + logits.argmax(1), minlength=classes**2)
            loss += functional.cross_entropy(logits, true, reduction="sum").cpu().double()
    return Evaluation(confusion.view(classes, classes).cpu(), loss.item() / len(images))
