"""The active learning experiment: train, evaluate, record, query, label."""

from __future__ import annotations

import json
import logging
import math
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fm_al.backbones.base import Backbone
from fm_al.config import Budget, build, check
from fm_al.data.base import Dataset, ImageData, Imbalance
from fm_al.data.images import Images, channel_statistics
from fm_al.data.pool import Pool
from fm_al.device import Device, require_memory
from fm_al.errors import (
    DIVERGED,
    ConfigError,
    MethodError,
    RunError,
    errors_named,
    is_of_memory,
    memory_errors_named,
)
from fm_al.progress import RunProgress
from fm_al.randomness import generator_for, global_generator_of
from fm_al.records.curve import area_under_curve
from fm_al.records.result_config import Config
from fm_al.records.schema import Result, Round
from fm_al.records.writing import RunRecords
from fm_al.strategies.base import Query, Strategy
from fm_al.tracking.wandb_run import Tracker
from fm_al.training import (
    UNTRAINED,
    Evaluation,
    Fit,
    Trainer,
    evaluate,
    load_network,
    save_network,
)

logger = logging.getLogger(__name__)

KINDS: dict[str, type] = {
    "dataset": Dataset,
    "imbalance": Imbalance,
    "backbone": Backbone,
    "strategy": Strategy,
    "trainer": Trainer,
    "device": Device,
    "tracker": Tracker,
}
METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "per_class_accuracy", "loss")
OF_A_RESULT = ("labelled", *METRICS, "seconds")  # what each round's line is read for at the end


@dataclass(frozen=True)
class Experiment:
    """What a configuration composes. backbone: the node that describes it, but for what the data
    decide."""

    seed: int
    budget: Budget
    dataset: Dataset
    imbalance: Imbalance
    backbone: Config
    strategy: Strategy
    trainer: Trainer
    device: Device

    @classmethod
    def of(cls, config: dict[str, Any]) -> Experiment:
        """Checks and builds a resolved configuration; loads nothing. Raises ConfigError."""
        check(config, KINDS)
        budget, strategy = Budget(**config["budget"]), build(config["strategy"])
        if budget.largest_query:
            with errors_named(f"{type(strategy).__name__}.check_query failed", ConfigError):
                strategy.check_query(budget.largest_query)
        return cls(
            seed=config["seed"],
            budget=budget,
            dataset=build(config["dataset"]),
            imbalance=build(config["imbalance"]),
            backbone=config["backbone"],
            strategy=strategy,
            trainer=build(config["trainer"]),
            device=build(config["device"]),
        )

    def backbone_for(self, data: ImageData) -> Backbone:
        """A network for the data's images and classes, drawn from the global generator. Raises
        RunError where there is not enough memory for it."""
        with memory_errors_named("building the network", self._sizes):
            return build(
                self.backbone,
                channels=data.train.images.shape[1],
                classes=len(data.class_names),
                image_size=tuple(data.train.images.shape[2:]),
            )

    def check_memory(self, data: ImageData) -> None:
        """Raises RunError for a network that is too large to be trained on the device."""
        try:
            with warnings.catch_warnings(), torch.device("meta"):  # which takes no memory
                warnings.simplefilter("ignore")
                network = self.backbone_for(data)
        except (ConfigError, RunError) as error:
            if error.__cause__ is not None and is_of_memory(error.__cause__):
                raise
            return  # it needs numbers to be built, or fails for another reason when it is, too
        weights = list(network.parameters())
        require_memory(
            f"backbone: training its {sum(each.numel() for each in weights):,} weights",
            2 * sum(each.numel() * each.element_size() for each in weights),  # and gradients
            self.device.torch_device,
            f"lower {self._sizes}",
        )

    @property
    def _sizes(self) -> str:
        """What the size of the network depends on."""
        options = [
            f"backbone.{name}={json.dumps(value)}"
            for name, value in self.backbone.items()
            if isinstance(value, int | list) and not isinstance(value, bool)
        ]
        return " or ".join([*options, "the size of the images"])


def load_data(experiment: Experiment, data_dir: Path, download: bool) -> ImageData:
    """The experiment's pool and test set: a function of data set, imbalance and seed.

    Raises ConfigError for what only the data can tell: counts and a budget that it does not have,
    a backbone that its images do not fit, or that the strategy can't work with."""
    data = experiment.dataset.load(data_dir, download)
    data = experiment.imbalance.subset(data, generator_for(experiment.seed, "subset"))
    experiment.budget.fit_to_pool(len(data.train))
    if experiment.budget.initial < len(data.class_names):
        logger.warning(
            "budget.initial=%d is below the number of classes, %d: some start without a label",
            experiment.budget.initial,
            len(data.class_names),
        )
    if experiment.dataset.order == "class":
        data = replace(data, train=data.train[data.train.targets.argsort(stable=True)])
    if experiment.dataset.order == "shuffled":
        order = torch.randperm(len(data.train), generator=generator_for(experiment.seed, "order"))
        data = replace(data, train=data.train[order])
    with global_generator_of(generator_for(experiment.seed, "trial"), torch.device("cpu")):
        experiment.check_memory(data)
        network = experiment.backbone_for(data)
    blank = torch.zeros(1, *data.train.images.shape[1:])
    with errors_named(f"{type(experiment.strategy).__name__}.check failed", ConfigError):
        experiment.strategy.check(network.eval(), blank)
    return data


def run(
    experiment: Experiment,
    data: ImageData,
    records: RunRecords,
    tracker: Tracker,
    progress: RunProgress,
) -> Result:
    """Runs the rounds that are not recorded yet and returns the result."""
    device, trainer, seed = experiment.device, experiment.trainer, experiment.seed
    labels = experiment.budget.schedule()
    queries = [after - before for before, after in pairwise(labels)] + [0]
    classes = len(data.class_names)
    pool, test_images, test_targets = _on_device(experiment, data)
    pool.label(_initial_labels(len(pool), labels[0], seed))
    for number, record in enumerate(records.rounds):
        if number >= len(labels):
            raise records.damaged(number, f"the budget has {len(labels)} rounds")
        if len(record.queried) != queries[number]:
            raise records.damaged(number, f"the budget has {queries[number]} images to query")
        wanted = (*OF_A_RESULT, "confusion_matrix") if number == len(labels) - 1 else OF_A_RESULT
        if lacks := record.lacks(*wanted):
            raise records.damaged(number, f"lacks {', '.join(lacks)}")
        try:
            pool.label(torch.tensor(record.queried, dtype=torch.int64))
        except (ValueError, IndexError, TypeError, RuntimeError) as error:
            raise records.damaged(number, f"queried: {error}") from None

    def make_network() -> Backbone:
        network = experiment.backbone_for(data)
        return network.to(device.torch_device).to(memory_format=device.memory_format)

    network = None
    done = len(records.rounds)
    if done and done < len(labels) and trainer.reset != "all":
        network = trainer.network(make_network, None, generator_for(seed, "weights", 0))
        load_network(network, records.checked_weights())
    progress.resume_at(done)

    for round in range(done, len(labels)):
        seconds: dict[str, float] = {}

        with _stage("train", seconds, progress, "trainer.batch_size"):
            network = trainer.network(make_network, network, generator_for(seed, "weights", round))
            if round > 0 or experiment.budget.train_before_first_query:
                fit = trainer.fit(network, pool, device.autocast, seed, round, progress.epoch)
            else:
                fit = UNTRAINED

        with _stage("evaluate", seconds, progress, "device.scoring_batch_size"):
            evaluation = evaluate(
                network,
                test_images,
                test_targets,
                classes,
                device.scoring_batch,
                device.autocast,
            )
            if not math.isfinite(evaluation.loss):
                raise RunError(f"round {round + 1}: the test loss is {evaluation.loss}; {DIVERGED}")

        shown = pool
        if experiment.strategy.augment:
            shown = pool.augmented(generator_for(seed, "scoring augmentation", round))
        query = Query(network, shown, device.scoring_batch, device.autocast)
        picks = torch.empty(0, dtype=torch.int64)
        if n := queries[round]:
            with _stage("query", seconds, progress, "device.scoring_batch_size, or the pool"):
                generator = generator_for(seed, "query", round)
                failed = f"{type(experiment.strategy).__name__}.select failed"
                with errors_named(failed, MethodError):
                    picks = experiment.strategy.select(query, n, generator)
                picks = _checked(picks, n, pool, experiment.strategy)
            if trainer.reset != "all":
                save_network(network, records.weights_path(round))

        record = _record(round, pool, picks, data, fit, evaluation, query, seconds)
        if n and trainer.reset != "all":
            digest = records.weights_digest(round)
            record = record.model_copy(update={"weights_digest": digest})
        records.add_round(record)
        if n:
            records.remove_weights(but=round)
            pool.label(picks)
        tracker.round(record)
        progress.finish_round(record)

    records.remove_weights()
    if records.result is None:
        records.finish(_result(records.rounds, data.class_names))
    assert records.result is not None
    return records.result


def _on_device(experiment: Experiment, data: ImageData) -> tuple[Pool, Images, Tensor]:
    """The pool, and the test set's images and classes."""
    dataset, device = experiment.dataset, experiment.device
    if dataset.mean is None or dataset.std is None:
        mean, std = channel_statistics(data.train.images)
    if dataset.mean is not None:
        mean = torch.tensor(dataset.mean)
    if dataset.std is not None:
        std = torch.tensor(dataset.std)

    def images(uint8: Tensor) -> Images:
        return Images(
            uint8.to(device.torch_device),
            mean.float().to(device.torch_device),
            std.float().to(device.torch_device),
            dataset.crop_padding,
            dataset.horizontal_flip,
            device.memory_format,
        )

    with memory_errors_named(
        "moving the images to the device", "the pool (imbalance) or use device=cpu"
    ):
        targets = data.train.targets.to(device.torch_device)
        pool = Pool(images(data.train.images), targets, len(data.class_names))
        return pool, images(data.test.images), data.test.targets.to(device.torch_device)


def _initial_labels(pool: int, n: int, seed: int) -> Tensor:
    return torch.randperm(pool, generator=generator_for(seed, "initial labels"))[:n]


def _checked(picks: Any, n: int, pool: Pool, strategy: Strategy) -> Tensor:
    """The picks on the CPU, if they are what the contract of `Strategy.select` asks for."""
    chosen = torch.empty(0)
    if isinstance(picks, Tensor) and not picks.is_meta and picks.layout == torch.strided:
        chosen = picks.cpu()
    if picks is None:
        wrong = "None"
    elif not isinstance(picks, Tensor):
        wrong = f"an object of {type(picks)}"
    elif chosen.dtype != torch.int64 or chosen.shape != (n,):
        kind = "tensor" if picks.layout == torch.strided else "sparse tensor"
        wrong = f"a {kind} of {picks.dtype} and shape {tuple(picks.shape)} on {picks.device}"
    elif len(chosen.unique()) < n:
        wrong = f"{n - len(chosen.unique())} indices twice"
    elif not torch.isin(chosen, pool.unlabelled.cpu()).all():
        wrong = "images that are not in the pool or labelled already"
    else:
        return chosen
    raise RunError(
        f"{type(strategy).__name__}.select returned {wrong}, where {n} distinct indices of "
        "unlabelled images are asked for, an int64 tensor; the round is not recorded"
    )


@contextmanager
def _stage(
    name: str, seconds: dict[str, float], progress: RunProgress, lowers_memory: str
) -> Iterator[None]:
    progress.stage(name)
    began = time.perf_counter()
    with memory_errors_named(f"in the stage `{name}`", lowers_memory):
        yield
    seconds[name] = round(time.perf_counter() - began, 3)


def _record(
    number: int,
    pool: Pool,
    picks: Tensor,
    data: ImageData,
    fit: Fit,
    evaluation: Evaluation,
    query: Query,
    seconds: dict[str, float],
) -> Round:
    """A round's line. The picks' classes come from the data: the pool learns them by `label`."""

    def class_counts(indices: Tensor) -> list[int]:
        return torch.bincount(data.train.targets[indices], minlength=pool.classes).tolist()

    record = Round(
        round=number,
        labelled=len(pool.labelled),
        labelled_classes=class_counts(pool.labelled.cpu()),
        queried=picks.tolist(),
        queried_classes=class_counts(picks),
        **evaluation.metrics(),
        epochs=fit.epochs,
        train_accuracy=fit.train_accuracy,
        epoch_cap_hit=fit.epoch_cap_hit,
        seconds=seconds,
        strategy=query.recorded,
    )
    if not len(picks):
        return record.model_copy(update={"confusion_matrix": evaluation.confusion.tolist()})
    return record


def _result(rounds: list[Round], class_names: tuple[str, ...]) -> Result:
    """The final metrics, from the records alone."""
    final = rounds[-1]
    return Result(
        rounds=len(rounds),
        labelled=final.labelled,
        **{name: getattr(final, name) for name in METRICS},
        area_under_curve=area_under_curve(
            [record.labelled for record in rounds], [record.accuracy for record in rounds]
        ),
        class_names=list(class_names),
        confusion_matrix=final.confusion_matrix,
        seconds={
            stage: round(sum(record.seconds.get(stage, 0.0) for record in rounds), 3)
            for stage in rounds[0].seconds
        },
    )
