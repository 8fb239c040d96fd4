"""What an experiment is made of: built from its configuration, loaded, and checked before anything
is trained."""

from __future__ import annotations

import json
import logging
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from fm_al.backbones.base import Backbone
from fm_al.budget import Budget
from fm_al.config import build, built_class, check
from fm_al.data.base import Dataset, ImageData, Imbalance
from fm_al.data.images import Images
from fm_al.data.pool import Pool
from fm_al.device import Device, require_memory
from fm_al.errors import (
    ConfigError,
    MethodError,
    RunError,
    errors_named,
    is_out_of_memory,
    memory_errors_named,
)
from fm_al.features.base import Extractor
from fm_al.features.cache import with_features
from fm_al.features.none import NoFeatures
from fm_al.randomness import generator_for, global_generator_of
from fm_al.records.result_config import RANDOM_START, Config
from fm_al.starts.base import Start
from fm_al.strategies.base import Strategy
from fm_al.strategies.picking import checked_indices
from fm_al.tracking.tracker import Tracker
from fm_al.training import Trainer

logger = logging.getLogger(__name__)

# Group of the configuration -> base class of its options.
KINDS: dict[str, type] = {
    "dataset": Dataset,
    "imbalance": Imbalance,
    "features": Extractor,
    "backbone": Backbone,
    "strategy": Strategy,
    "trainer": Trainer,
    "device": Device,
    "tracker": Tracker,
    "budget.start": Start,
}


@dataclass(frozen=True)
class Experiment:
    """What a configuration describes.

    Attributes:
        dataset_name: For the folder of its features.
        start: Chooses the first labelled images.
        features: Computes the fixed features that strategies may read.
        backbone: Its node of the configuration. `backbone_for` builds the network once the data say
            how large the images are and how many classes there are.
    """

    seed: int
    budget: Budget
    start: Start
    dataset: Dataset
    dataset_name: str
    imbalance: Imbalance
    features: Extractor
    backbone: Config
    strategy: Strategy
    trainer: Trainer
    device: Device

    @classmethod
    def of(cls, config: Config) -> Experiment:
        """Checks and builds a resolved configuration; loads no data. Raises ConfigError."""
        check(config, KINDS)
        dataset = build(config["dataset"])
        _check_takes_vectors(dataset, config["backbone"])
        budget, strategy = Budget(**config["budget"]), build(config["strategy"])
        if budget.query_sizes:
            with errors_named(f"{type(strategy).__name__}.check_query failed", ConfigError):
                strategy.check_query(max(budget.query_sizes))
        start: Start = build(budget.start or RANDOM_START)
        features = build(config["features"])
        if not budget.whole_pool:
            start.check(budget.initial)
            if isinstance(features, NoFeatures):
                _refuse_without_features(strategy, start)
        return cls(
            seed=config["seed"],
            budget=budget,
            start=start,
            dataset=dataset,
            dataset_name=_name(config["dataset"]),
            imbalance=build(config["imbalance"]),
            features=features,
            backbone=config["backbone"],
            strategy=strategy,
            trainer=build(config["trainer"]),
            device=build(config["device"]),
        )

    def backbone_for(self, data: ImageData) -> Backbone:
        """Builds a network for the data, drawing its weights from the global generator.

        Raises:
            RunError: The machine has too little memory for it.
        """
        with memory_errors_named("building the network", self._size_options):
            return build(
                self.backbone,
                channels=data.train.images.shape[1],
                classes=len(data.class_names),
                image_size=tuple(data.train.images.shape[2:]),
            )

    @property
    def _size_options(self) -> str:
        """The options that the size of the network depends on, for errors."""
        options = [
            f"backbone.{name}={json.dumps(value)}"
            for name, value in self.backbone.items()
            if isinstance(value, int | list) and not isinstance(value, bool)
        ]
        return " or ".join([*options, "the size of the images"])

    def check_memory(self, data: ImageData) -> None:
        """Raises RunError if the network is too large to be trained on the device."""
        try:
            with warnings.catch_warnings(), torch.device("meta"):  # allocates nothing
                warnings.simplefilter("ignore")
                network = self.backbone_for(data)
        except (ConfigError, RunError) as error:
            if error.__cause__ is not None and is_out_of_memory(error.__cause__):
                raise
            return  # it can't be built without data, or building it for real will fail as well
        weights = list(network.parameters())
        require_memory(
            f"backbone: training its {sum(each.numel() for each in weights):,} weights",
            2 * sum(each.numel() * each.element_size() for each in weights),  # with gradients
            self.device.torch_device,
            f"lower {self._size_options}",
        )


def _name(dataset: Config) -> str:
    """A data set's name: its option, or the module of its class."""
    return str(dataset.get("name") or dataset["_target_"].split(".")[-2])


def _refuse_without_features(strategy: Strategy, start: Start) -> None:
    """Raises ConfigError if the strategy or the start needs features."""
    set_features = "set features=pca or another option of the group"
    if strategy.reads_features:
        raise ConfigError(
            f"features=none: strategy {type(strategy).__name__} works on fixed features; "
            f"{set_features}, or the strategy's representation=embeddings"
        )
    if start.reads_features:
        raise ConfigError(
            f"features=none: budget.start chooses by fixed features; {set_features}, or "
            "budget.start=random"
        )


def _check_takes_vectors(dataset: Dataset, backbone: Config) -> None:
    """Raises ConfigError if the data set has vectors and the backbone works on images."""
    network = built_class(backbone)
    if dataset.vectors and not (issubclass(network, Backbone) and network.takes_vectors):
        raise ConfigError(
            f"backbone._target_={backbone['_target_']}: works on images, and the data set has "
            "vectors; use backbone=linear or backbone=mlp"
        )


def load_data(experiment: Experiment, data_dir: Path, download: bool) -> ImageData:
    """Loads the pool and the test set, which depend on data set, imbalance and seed alone, and the
    pool's features.

    Args:
        experiment: What is to be run.
        data_dir: Where data sets are stored.
        download: Whether to download a data set that is not there.

    Raises:
        ConfigError: The data set has fewer images than the imbalance or the budget asks for.
    """
    data = experiment.dataset.load(data_dir, download)
    data = with_features(
        data, experiment.dataset_name, experiment.features, experiment.device, data_dir
    )
    data = experiment.imbalance.subset(data, generator_for(experiment.seed, "subset"))
    experiment.budget.fit_to_pool(len(data.train))
    if experiment.budget.initial < len(data.class_names) and not experiment.budget.whole_pool:
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
    return data


def initial_labels(experiment: Experiment, data: ImageData) -> Tensor:
    """Chooses the first labelled images: the same for all strategies, on every device.

    Returns:
        Pool indices, int64, on the CPU.

    Raises:
        ConfigError: The pool does not allow it.
        MethodError: The start failed.
        RunError: The start returned something else.
    """
    size = len(data.train)
    n = experiment.budget.schedule(size)[0]
    if experiment.budget.whole_pool:
        return torch.arange(n)
    blank = torch.ones(data.train.images.shape[1])
    images = Images(data.train.images, blank, blank)
    pool = Pool(images, data.train.targets, len(data.class_names), data.train.features)
    name = type(experiment.start).__name__
    with errors_named(f"{name}.choose failed", MethodError):
        chosen = experiment.start.choose(pool, n, generator_for(experiment.seed, "initial labels"))
    return checked_indices(chosen, n, torch.arange(size), f"{name}.choose")


def preflight(experiment: Experiment, data: ImageData) -> None:
    """Builds a throwaway network and shows it to the strategy, before anything is trained.

    Raises:
        ConfigError: The backbone does not fit the images, or the strategy can't use the backbone.
        RunError: The network needs more memory than the device has.
    """
    with global_generator_of(generator_for(experiment.seed, "trial"), torch.device("cpu")):
        experiment.check_memory(data)
        network = experiment.backbone_for(data)
    if experiment.budget.whole_pool:
        return  # nothing is queried
    blank = torch.zeros(1, *data.train.images.shape[1:])
    with errors_named(f"{type(experiment.strategy).__name__}.check failed", ConfigError):
        experiment.strategy.check(network.eval(), blank)
