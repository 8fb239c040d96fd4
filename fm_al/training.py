"""Fitting a network to the labelled images, and measuring it on the test set."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from fm_al.backbones.base import Backbone
from fm_al.backbones.folding import folded
from fm_al.data.images import Images
from fm_al.data.pool import Pool
from fm_al.errors import DIVERGED, ConfigError, RunError
from fm_al.files import atomic_file
from fm_al.randomness import generator_for, global_generator_of


@dataclass(frozen=True)
class Fit:
    """How a fit went: epochs done, accuracy over the last one, and whether it ended at the cap on
    epochs although it was to stop at a training accuracy."""

    epochs: int
    train_accuracy: float
    epoch_cap_hit: bool


UNTRAINED = Fit(epochs=0, train_accuracy=0.0, epoch_cap_hit=False)


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """The options of `conf/trainer/`.

    optimizer: a class of torch.optim and its options. schedule: `cosine` lowers the learning rate
    to zero over `max_epochs`. clamp_gradients: every entry of the gradient is cut to this size.
    stop_at_train_accuracy: ends with the first epoch whose accuracy, over the batches as they were
    learnt from, reaches it. class_balanced: images weigh inversely to their class's labelled count.
    reset: before a round `all` builds the network anew, `weights` keeps what batch norm holds, as
    the FisherMask code does, `none` goes on from the last round's network (warm start).
    batch_norm: `recompute` takes its statistics anew over the labelled images, without
    augmentation, once the fit has ended; `running` leaves the averages of training, which after a
    few updates are still near their initial values. augment: crops and flips, where the data set
    has them.
    """

    optimizer: Callable[..., torch.optim.Optimizer]
    batch_size: Annotated[int, Field(ge=2)]
    max_epochs: Annotated[int, Field(ge=1)]
    schedule: Literal["constant", "cosine"] = "constant"
    clamp_gradients: Annotated[float, Field(gt=0)] | None = None
    stop_at_train_accuracy: Annotated[float, Field(gt=0, le=1)] | None = None
    class_balanced: bool = False
    reset: Literal["all", "weights", "none"] = "all"
    batch_norm: Literal["recompute", "running"] = "recompute"
    augment: bool = True

    def __post_init__(self) -> None:
        try:
            _made(self.optimizer, [nn.Parameter(torch.zeros(1))])
        except (TypeError, ValueError) as error:
            raise ConfigError(f"trainer.optimizer: {error}") from None

    def network(
        self, make: Callable[[], Backbone], previous: Backbone | None, generator: torch.Generator
    ) -> Backbone:
        """The network that a round starts from; `previous` is the last round's, None in the first.

        make: builds a network on its device, drawing its weights from the global generator."""
        if self.reset == "none" and previous is not None:
            return previous
        with global_generator_of(generator, torch.device("cpu")):
            network = make()
        if self.reset == "weights" and previous is not None:
            network.load_state_dict(_batch_norm_state(previous), strict=False)
        return network

    def fit(
        self,
        network: nn.Module,
        pool: Pool,
        autocast: torch.dtype | None,
        seed: int,
        round_index: int,
        on_epoch: Callable[[int, float], None],
    ) -> Fit:
        """Trains on the pool's labelled images. on_epoch: told each epoch's number and accuracy.

        Raises RunError if the loss is not finite."""
        order = generator_for(seed, "batch order", round_index)
        augmentation = generator_for(seed, "augmentation", round_index)
        optimizer = _made(self.optimizer, network.parameters())
        labelled = pool.labelled
        targets = pool.targets(labelled)
        weights = self._image_weights(targets, pool.classes)
        batches_an_epoch = len(_batches(labelled, self.batch_size))
        images: Callable[[Tensor], Tensor] = pool.images
        if self.augment:
            images = functools.partial(pool.training_images, generator=augmentation)

        def learn(chosen: Tensor) -> tuple[Tensor, Tensor]:
            """One update; the batch's mean loss and how many of it the network had right."""
            with _mixed_precision(pool.device, autocast):
                logits = network(images(labelled[chosen])).float()
            losses = functional.cross_entropy(logits, targets[chosen], reduction="none")
            loss = (losses if weights is None else losses * weights[chosen]).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if self.clamp_gradients is not None:
                nn.utils.clip_grad_value_(network.parameters(), self.clamp_gradients)
            optimizer.step()
            return loss.detach(), (logits.argmax(1) == targets[chosen]).sum()

        accuracy = 0.0
        with global_generator_of(generator_for(seed, "dropout", round_index), pool.device):
            for epoch in range(1, self.max_epochs + 1):
                network.train()
                total_loss = torch.zeros((), device=pool.device)
                right = torch.zeros((), device=pool.device)
                shuffled = torch.randperm(len(labelled), generator=order)
                for step, batch in enumerate(_batches(shuffled, self.batch_size)):
                    if self.schedule == "cosine":
                        progress = (epoch - 1 + step / batches_an_epoch) / self.max_epochs
                        _scale_learning_rate(optimizer, (1 + math.cos(math.pi * progress)) / 2)
                    loss, correct = learn(batch.to(pool.device))
                    total_loss += loss
                    right += correct
                if not math.isfinite(total := total_loss.item()):
                    raise RunError(
                        f"round {round_index + 1}, epoch {epoch}: the training loss is {total}; "
                        + DIVERGED
                    )
                accuracy = right.item() / len(labelled)
                on_epoch(epoch, accuracy)
                if self._reached(accuracy):
                    break
        if self.batch_norm == "recompute":
            shuffled = torch.randperm(len(labelled), generator=order).to(pool.device)
            parts = _even_parts(labelled[shuffled], self.batch_size)
            with _mixed_precision(pool.device, autocast):
                recompute_batch_norm(network, (pool.images(part) for part in parts))
        network.eval()
        stops_early = self.stop_at_train_accuracy is not None
        return Fit(epoch, accuracy, stops_early and not self._reached(accuracy))

    def _reached(self, accuracy: float) -> bool:
        stop = self.stop_at_train_accuracy
        return stop is not None and accuracy >= stop

    def _image_weights(self, targets: Tensor, classes: int) -> Tensor | None:
        """Of mean 1, such that every class with a labelled image has the same total weight."""
        if not self.class_balanced:
            return None
        counts = torch.bincount(targets, minlength=classes)
        return len(targets) / ((counts > 0).sum() * counts[targets])


def _made(
    make: Callable[..., torch.optim.Optimizer], parameters: Iterable[nn.Parameter]
) -> torch.optim.Optimizer:
    """The optimizer; one of torch's own without what it does for torch.compile."""
    if isinstance(make, functools.partial):
        kind: Any = make.func
        is_torchs = isinstance(kind, type) and kind.__module__.startswith("torch.optim.")
        if is_torchs and not make.keywords.get("differentiable"):  # where `step` has gradients
            make = functools.partial(_uncompiled(kind), *make.args, **make.keywords)
    return make(parameters)


@functools.cache
def _uncompiled(kind: type[torch.optim.Optimizer]) -> type[torch.optim.Optimizer]:
    """An optimizer of torch's with its methods as they are below their decorators, which import the
    compiler, torch._dynamo, even where nothing is compiled; that takes as long as importing torch.
    What the decorators do beside that is to switch off gradients in `step`."""
    methods = {
        "add_param_group": inspect.unwrap(kind.add_param_group),
        "zero_grad": inspect.unwrap(kind.zero_grad),
        "step": torch.no_grad()(inspect.unwrap(kind.step)),
    }
    return type(kind.__name__, (kind,), methods)


def _batches(order: Tensor, size: int) -> list[Tensor]:
    """Consecutive parts of `size`; a single image left over joins the part before it, since batch
    norm can't learn from one."""
    parts = list(order.split(size))
    if len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [torch.cat(parts[-2:])]
    return parts


def _even_parts(indices: Tensor, size: int) -> Iterable[Tensor]:
    """Parts of about `size`, two at least, whose lengths differ by one at most, so that each weighs
    the same in an average over parts."""
    return indices.tensor_split(max(1, min(math.ceil(len(indices) / size), len(indices) // 2)))


def _scale_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor


def _mixed_precision(device: torch.device, dtype: torch.dtype | None) -> torch.autocast:
    return torch.autocast(device.type, dtype, enabled=dtype is not None)


def _batch_norms(network: nn.Module) -> Iterator[tuple[str, _BatchNorm]]:
    for name, module in network.named_modules():
        if isinstance(module, _BatchNorm):
            yield name, module


def _batch_norm_state(network: nn.Module) -> dict[str, Tensor]:
    return {
        f"{name}.{key}": value
        for name, module in _batch_norms(network)
        for key, value in module.state_dict().items()
    }


@torch.no_grad()
def recompute_batch_norm(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Sets the statistics of every batch norm to the plain average over `batches` of images; the
    rest of the network computes as in evaluation."""
    norms = [module for _, module in _batch_norms(network)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    for batch in batches:
        network(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()


@dataclass(frozen=True)
class Evaluation:
    """Counts over a test set: confusion, int64 (classes, classes), a row for each true class; and
    the mean cross-entropy."""

    confusion: Tensor
    loss: float

    def metrics(self) -> dict[str, Any]:
        """accuracy; balanced_accuracy, the mean of the classes' accuracies; macro_f1, the mean of
        their F1; per_class_accuracy; loss. All in [0, 1] but the loss. A class without test images
        has no accuracy (None) and counts in none of the means."""
        correct = self.confusion.diag().double()
        there = self.confusion.sum(1).double()
        predicted = self.confusion.sum(0).double()
        known = there > 0
        per_class = correct / there.clamp(min=1)
        f1 = 2 * correct / (there + predicted).clamp(min=1)
        return {
            "accuracy": (correct.sum() / there.sum()).item(),
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
    """targets: int64 (len(images),) on the images' device."""
    network.eval()
    confusion = torch.zeros(classes * classes, dtype=torch.int64, device=targets.device)
    loss = torch.zeros((), dtype=torch.float64, device="cpu")
    everything = torch.arange(len(images), device=targets.device)
    with _mixed_precision(targets.device, autocast), folded(network, images.batch(everything[:1])):
        for indices in everything.split(batch_size):
            true = targets[indices]
            logits = network(images.batch(indices)).float()
            confusion += torch.bincount(true * classes + logits.argmax(1), minlength=classes**2)
            loss += functional.cross_entropy(logits, true, reduction="sum").cpu().double()
    return Evaluation(confusion.view(classes, classes).cpu(), loss.item() / len(images))


def save_network(network: nn.Module, path: Path) -> None:
    """Parameters and buffers, whole or not at all."""
    with atomic_file(path) as file:
        torch.save(network.state_dict(), file)


def load_network(network: nn.Module, path: Path) -> None:
    """What `save_network` wrote; raises RunError where it is missing or damaged."""
    device = next(network.parameters()).device
    try:
        network.load_state_dict(torch.load(path, map_location=device, weights_only=True))
    except Exception as error:  # torch.load meets a damaged file with errors of many kinds
        raise RunError(
            f"{path}: can't be loaded ({error}); restore it from a copy, or move the run's "
            "directory away to redo the run"
        ) from error
