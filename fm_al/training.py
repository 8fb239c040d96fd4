"""Fitting a network to the labelled images."""

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
from fm_al.data.pool import Pool
from fm_al.device import mixed_precision
from fm_al.errors import DIVERGED, ConfigError, RunError
from fm_al.files import atomic_file
from fm_al.randomness import generator_for, global_generator_of


@dataclass(frozen=True)
class Fit:
    """How a fit went.

    Attributes:
        epochs: How many epochs were done.
        train_accuracy: In [0, 1], over the batches of the last epoch as they were learnt from. With
            balanced sampling, classes have equal parts in it.
        epoch_cap_hit: Whether `max_epochs` ended the fit below `stop_at_train_accuracy`.
    """

    epochs: int
    train_accuracy: float
    epoch_cap_hit: bool


UNTRAINED = Fit(epochs=0, train_accuracy=0.0, epoch_cap_hit=False)


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """The options of `conf/trainer/`.

    Args:
        optimizer: Makes a torch.optim optimizer of the network's parameters.
        batch_size: Images per update.
        max_epochs: The fit ends after so many epochs.
        schedule: Of the learning rate: `constant`, or `cosine` to zero over `max_epochs`.
        clamp_gradients: The largest absolute value of a gradient's entry. None does not clamp.
        stop_at_train_accuracy: In [0, 1]. The fit ends with the first epoch whose accuracy, over
            its batches as they were learnt from, reaches it. None never ends early.
        sampling: What an epoch learns from. `uniform`: every labelled image once. `balanced`: as
            many draws with replacement, in which every class that has labels is equally likely and
            the images of a class are equally likely. `stop_at_train_accuracy` then counts the
            draws, so it is a balanced accuracy.
        class_balanced: Weigh images inversely to the labelled count of their class. Rejected with
            `sampling="balanced"`, which would correct for the counts twice.
        reset: What a round starts from. `all`: a new network. `weights`: a new network with the
            last round's batch norms, as in the FisherMask code. `none`: the last round's network.
        batch_norm: `recompute` replaces the statistics after the fit by those of one more epoch as
            `sampling` draws it, without augmentation; if uniformly, of all labelled images.
            `running` keeps the moving averages, which after few updates are still close to their
            initial values.
        augment: Crop and flip the images if the data set asks for it.
    """

    optimizer: Callable[..., torch.optim.Optimizer]
    batch_size: Annotated[int, Field(ge=2)]
    max_epochs: Annotated[int, Field(ge=1)]
    schedule: Literal["constant", "cosine"] = "constant"
    clamp_gradients: Annotated[float, Field(gt=0)] | None = None
    stop_at_train_accuracy: Annotated[float, Field(gt=0, le=1)] | None = None
    sampling: Literal["uniform", "balanced"] = "uniform"
    class_balanced: bool = False
    reset: Literal["all", "weights", "none"] = "all"
    batch_norm: Literal["recompute", "running"] = "recompute"
    augment: bool = True

    def __post_init__(self) -> None:
        if self.sampling == "balanced" and self.class_balanced:
            raise ConfigError(
                "trainer.sampling=balanced: corrects for the classes' counts already, and so does "
                "trainer.class_balanced=true; use one of them"
            )
        try:
            make_optimizer(self.optimizer, [nn.Parameter(torch.zeros(1))])
        except (TypeError, ValueError) as error:
            raise ConfigError(f"trainer.optimizer: {error}") from None

    def network(
        self, make: Callable[[], Backbone], previous: Backbone | None, generator: torch.Generator
    ) -> Backbone:
        """Return the network that a round starts from.

        Args:
            make: Builds a network on its device, and draws its weights from the global generator.
            previous: The last round's network; None in the first round.
            generator: Seeds the weights.
        """
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
        """Train a network in place on the labelled images of a pool.

        Args:
            network: In any mode; it ends in eval mode.
            pool: The images, and which are labelled.
            autocast: The dtype of mixed precision; None is full precision.
            seed: The run's seed.
            round_index: The round, from 0; with the seed it decides batches and augmentation.
            on_epoch: Called after every epoch with its number, from 1, and its accuracy.

        Raises:
            RunError: If the loss is not finite.
        """
        order = generator_for(seed, "batch order", round_index)
        augmentation = generator_for(seed, "augmentation", round_index)
        optimizer = make_optimizer(self.optimizer, network.parameters())
        labelled = pool.labelled
        targets = pool.targets(labelled)
        weights = class_balanced_weights(targets, pool.classes) if self.class_balanced else None
        batches_per_epoch = len(_batches(labelled, self.batch_size))
        images: Callable[[Tensor], Tensor] = pool.images
        if self.augment:
            images = functools.partial(pool.training_images, generator=augmentation)

        def learn(chosen: Tensor) -> tuple[Tensor, Tensor]:
            """Update once; return the batch's mean loss and its number of right predictions."""
            with mixed_precision(pool.device, autocast):
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
                drawn = self._epoch(targets, order)
                for step, batch in enumerate(_batches(drawn, self.batch_size)):
                    if self.schedule == "cosine":
                        progress = (epoch - 1 + step / batches_per_epoch) / self.max_epochs
                        _scale_learning_rate(optimizer, (1 + math.cos(math.pi * progress)) / 2)
                    loss, correct = learn(batch.to(pool.device, non_blocking=True))
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
            # From what the network learnt from: docs/training.md has both ways.
            drawn = self._epoch(targets, order).to(pool.device)
            parts = _even_parts(labelled[drawn], self.batch_size)
            with mixed_precision(pool.device, autocast):
                recompute_batch_norm(network, (pool.images(part) for part in parts))
        network.eval()
        stops_early = self.stop_at_train_accuracy is not None
        return Fit(epoch, accuracy, stops_early and not self._reached(accuracy))

    def _epoch(self, targets: Tensor, order: torch.Generator) -> Tensor:
        """Draw the positions of an epoch's images among the labelled ones, int64, on the CPU."""
        if self.sampling == "uniform":
            return torch.randperm(len(targets), generator=order)
        shares = class_balanced_weights(targets.cpu(), int(targets.max()) + 1).double()
        return torch.multinomial(shares, len(targets), replacement=True, generator=order)

    def _reached(self, accuracy: float) -> bool:
        stop = self.stop_at_train_accuracy
        return stop is not None and accuracy >= stop


def class_balanced_weights(targets: Tensor, classes: int) -> Tensor:
    """Weights of images by which every class that has some counts the same.

    Args:
        targets: The images' classes, int64 (N,).
        classes: How many classes there are.

    Returns:
        Weights of mean 1, float32 (N,).
    """
    counts = torch.bincount(targets, minlength=classes)
    return len(targets) / ((counts > 0).sum() * counts[targets])


def make_optimizer(
    make: Callable[..., torch.optim.Optimizer], parameters: Iterable[nn.Parameter]
) -> torch.optim.Optimizer:
    """Make an optimizer; torch's own do not import the compiler."""
    if isinstance(make, functools.partial):
        kind: Any = make.func
        is_torchs = isinstance(kind, type) and kind.__module__.startswith("torch.optim.")
        if is_torchs and not make.keywords.get("differentiable"):  # whose `step` has gradients
            make = functools.partial(_uncompiled(kind), *make.args, **make.keywords)
    return make(parameters)


@functools.cache
def _uncompiled(kind: type[torch.optim.Optimizer]) -> type[torch.optim.Optimizer]:
    """A torch optimizer without the decorators of its methods.

    They import the compiler, torch._dynamo, which takes as long as importing torch, even if nothing
    is compiled. Apart from that they only switch off gradients in `step`, which is done here too.
    """
    methods = {
        "add_param_group": inspect.unwrap(kind.add_param_group),
        "zero_grad": inspect.unwrap(kind.zero_grad),
        "step": torch.no_grad()(inspect.unwrap(kind.step)),
    }
    return type(kind.__name__, (kind,), methods)


def _batches(order: Tensor, size: int) -> list[Tensor]:
    """Consecutive parts of `size`. A single last image joins the part before it, because batch norm
    cannot learn from one image."""
    parts = list(order.split(size))
    if len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [torch.cat(parts[-2:])]
    return parts


def _even_parts(indices: Tensor, size: int) -> Iterable[Tensor]:
    """Parts of at most about `size` whose lengths differ by at most one, so that a plain average
    over parts weighs images alike."""
    return indices.tensor_split(max(1, min(math.ceil(len(indices) / size), len(indices) // 2)))


def _scale_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor


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
    """Set the statistics of every batch norm to the plain average over batches.

    The rest of the network computes as in evaluation, and the network ends in eval mode.

    Args:
        network: Changed in place.
        batches: Images, each float32 (n, channels, height, width).
    """
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


def save_network(network: nn.Module, path: Path) -> None:
    """Write parameters and buffers to a file, whole or not at all."""
    with atomic_file(path) as file:
        torch.save(network.state_dict(), file)


def load_network(network: nn.Module, path: Path) -> None:
    """Load what `save_network` wrote. Raises RunError if the file is missing or damaged."""
    device = next(network.parameters()).device
    try:
        network.load_state_dict(torch.load(path, map_location=device, weights_only=True))
    except Exception as error:  # torch.load meets a damaged file with errors of many kinds
        raise RunError(
            f"{path}: can't be loaded ({error}); restore it from a copy, or move the run's "
            "directory away to redo the run"
        ) from error
