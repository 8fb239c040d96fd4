"""The active learning experiment: train, evaluate, query, record, label, round after round.

`run_rounds` is the loop. The functions below it are its steps, in the order of their use.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from fm_al.backbones.base import Backbone
from fm_al.data.base import Dataset, ImageData
from fm_al.data.images import Images, channel_statistics
from fm_al.data.pool import Pool
from fm_al.errors import DIVERGED, RunError, memory_errors_named
from fm_al.evaluation import Evaluation, evaluate
from fm_al.preparation import Experiment
from fm_al.progress import RunProgress
from fm_al.randomness import generator_for
from fm_al.records.result import NEEDED_FOR_RESULT, result_of
from fm_al.records.schema import Result, Round
from fm_al.records.writing import RunRecords
from fm_al.strategies.base import Query
from fm_al.strategies.picking import checked_picks
from fm_al.tracking.tracker import Tracker
from fm_al.training import UNTRAINED, Fit, load_network, save_network


def run_rounds(
    experiment: Experiment,
    data: ImageData,
    initial: Tensor,
    records: RunRecords,
    tracker: Tracker,
    progress: RunProgress,
) -> Result:
    """Runs the rounds that are not recorded yet.

    Args:
        experiment: What is run.
        data: The pool and the test set.
        initial: The first labelled images; see `initial_labels`.
        records: Of the run so far, and of what is added.
        tracker: Shown every round that is added.
        progress: Likewise.

    Returns:
        The result, which is on disk as every round is.

    Raises:
        RunError: Training diverged, memory ran out, or the records are damaged.
        MethodError: The strategy failed.
    """
    device, trainer, seed = experiment.device, experiment.trainer, experiment.seed
    schedule = experiment.budget.schedule(len(data.train))
    query_sizes = [*experiment.budget.query_sizes, 0]
    pool, test_images, test_targets = _on_device(experiment, data)
    targets = data.train.targets
    pool.label(initial)
    _replay(records, pool, targets, query_sizes)

    def make_network() -> Backbone:
        network = experiment.backbone_for(data)
        return network.to(device.torch_device).to(memory_format=device.memory_format)

    network = None
    first_round = len(records.rounds)
    if 0 < first_round < len(schedule) and trainer.reset != "all":
        network = trainer.network(make_network, None, generator_for(seed, "weights", 0))
        load_network(network, records.checked_weights())
    progress.resume_at(first_round)

    for round_index in range(first_round, len(schedule)):
        seconds: dict[str, float] = {}

        with _stage("train", seconds, progress, "trainer.batch_size"):
            generator = generator_for(seed, "weights", round_index)
            network = trainer.network(make_network, network, generator)
            if round_index > 0 or experiment.budget.trains_first:
                fit = trainer.fit(network, pool, device.autocast, seed, round_index, progress.epoch)
            else:
                fit = UNTRAINED

        with _stage("evaluate", seconds, progress, "device.scoring_batch_size"):
            evaluation = evaluate(
                network,
                test_images,
                test_targets,
                pool.classes,
                device.scoring_batch,
                device.autocast,
            )
            if not math.isfinite(evaluation.loss):
                raise RunError(
                    f"round {round_index + 1}: the test loss is {evaluation.loss}; {DIVERGED}"
                )

        scored = pool
        if experiment.strategy.augment:
            scored = pool.augmented(generator_for(seed, "scoring augmentation", round_index))
        n = query_sizes[round_index]
        query = Query(network, scored, device.scoring_batch, device.autocast, budget=n)
        picks = torch.empty(0, dtype=torch.int64)
        if n:
            with _stage("query", seconds, progress, "device.scoring_batch_size, or the pool"):
                generator = generator_for(seed, "query", round_index)
                picks = checked_picks(experiment.strategy, query, n, generator)
            if trainer.reset != "all":
                save_network(network, records.weights_path(round_index))

        record = _round(round_index, pool, targets, picks, fit, evaluation, seconds, query.recorded)
        if n and trainer.reset != "all":
            digest = records.weights_digest(round_index)
            record = record.model_copy(update={"weights_digest": digest})
        records.add_round(record)
        if n:
            records.remove_weights(but=round_index)
            pool.label(picks)
        tracker.round(record)
        progress.finish_round(record)

    records.remove_weights()
    if records.result is None:
        records.finish(result_of(records.rounds, data.class_names))
    assert records.result is not None
    return records.result


def _on_device(experiment: Experiment, data: ImageData) -> tuple[Pool, Images, Tensor]:
    """The pool, the test images and their classes. Images are kept where `device.pool` says."""
    dataset, device = experiment.dataset, experiment.device
    mean, std = _normalisation(dataset, data)
    stored_images = data.train.images, data.test.images

    def images(stored: Tensor) -> Images:
        return Images(
            stored.to(kept_on),
            mean,
            std,
            dataset.crop_padding,
            dataset.horizontal_flip,
            device.memory_format,
            device.torch_device,
        )

    with memory_errors_named(
        "moving the images to the device", "the pool (imbalance), or use device.pool=host"
    ):
        kept_on = device.pool_device(sum(each.nbytes for each in stored_images))
        targets = data.train.targets.to(device.torch_device)
        classes = len(data.class_names)
        pool = Pool(images(data.train.images), targets, classes, data.train.features)
        return pool, images(data.test.images), data.test.targets.to(device.torch_device)


def _normalisation(dataset: Dataset, data: ImageData) -> tuple[Tensor, Tensor]:
    """Mean and deviation per channel, float32. Images of floats are not normalised."""
    channels = data.train.images.shape[1]
    mean, std = torch.zeros(channels), torch.ones(channels)
    if data.train.images.is_floating_point():
        return mean, std
    if dataset.mean is None or dataset.std is None:
        mean, std = channel_statistics(data.train.images)
    if dataset.mean is not None:
        mean = torch.tensor(dataset.mean)
    if dataset.std is not None:
        std = torch.tensor(dataset.std)
    return mean.float(), std.float()


def _replay(records: RunRecords, pool: Pool, targets: Tensor, query_sizes: list[int]) -> None:
    """Labels what the recorded rounds queried. Raises RunError for a round that can't be right.

    targets: classes of the whole pool, on the CPU.
    """
    rounds = len(query_sizes)
    for round_index, record in enumerate(records.rounds):
        if round_index >= rounds:
            raise records.damaged(round_index, f"the budget has {rounds} rounds")
        n = query_sizes[round_index]
        if len(record.queried) != n:
            raise records.damaged(round_index, f"the budget has {n} images to query")
        in_last = ("confusion_matrix",) if round_index == rounds - 1 else ()
        if missing := record.lacks(*NEEDED_FOR_RESULT, *in_last):
            raise records.damaged(round_index, f"lacks {', '.join(missing)}")
        counts = torch.bincount(targets[pool.labelled.cpu()], minlength=pool.classes).tolist()
        if not record.lacks("labelled_classes") and record.labelled_classes != counts:
            raise records.damaged(round_index, f"labelled_classes: should be {counts}")
        try:
            pool.label(torch.tensor(record.queried, dtype=torch.int64))
        except (ValueError, IndexError, TypeError, RuntimeError) as error:
            raise records.damaged(round_index, f"queried: {error}") from None


@contextmanager
def _stage(
    name: str, seconds: dict[str, float], progress: RunProgress, lowers_memory: str
) -> Iterator[None]:
    """Shows a stage, times it, and names it in errors of memory, with what lowers its use."""
    progress.stage(name)
    began = time.perf_counter()
    with memory_errors_named(f"in the stage `{name}`", lowers_memory):
        yield
    seconds[name] = round(time.perf_counter() - began, 3)


def _round(
    round_index: int,
    pool: Pool,
    targets: Tensor,
    picks: Tensor,
    fit: Fit,
    evaluation: Evaluation,
    seconds: dict[str, float],
    recorded: dict[str, Any],
) -> Round:
    """The round's record. targets: classes of the whole pool, which `pool` tells of labelled images
    only."""

    def class_counts(indices: Tensor) -> list[int]:
        return torch.bincount(targets[indices], minlength=pool.classes).tolist()

    only_in_the_last: dict[str, Any] = {}
    if not len(picks):
        only_in_the_last["confusion_matrix"] = evaluation.confusion.tolist()
    return Round(
        round=round_index,
        labelled=len(pool.labelled),
        labelled_classes=class_counts(pool.labelled.cpu()),
        queried=picks.tolist(),
        queried_classes=class_counts(picks),
        **evaluation.metrics(),
        epochs=fit.epochs,
        train_accuracy=fit.train_accuracy,
        epoch_cap_hit=fit.epoch_cap_hit,
        seconds=seconds,
        strategy=recorded,
        **only_in_the_last,
    )
