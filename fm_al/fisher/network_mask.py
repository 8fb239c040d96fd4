"""The mask of a network's weights, by the diagonal Fisher information of images of the pool."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fm_al.device import float64_device
from fm_al.errors import ConfigError, RunError
from fm_al.fisher.factors import fisher_factors
from fm_al.fisher.jacobian import diagonal_fisher
from fm_al.fisher.mask import Mask, check_fraction, choose
from fm_al.fisher.options import FisherMaskOptions, OptionNames
from fm_al.fisher.pool import PoolNetwork, ScoredPool


def network_mask(
    pool: ScoredPool,
    network: PoolNetwork,
    temperature: float,
    generator: torch.Generator,
    options: FisherMaskOptions,
) -> Mask:
    """Choose the mask by the mean diagonal Fisher information over `mask_images` of the pool.

    Args:
        pool: The pool and its scores.
        network: The network and the pool's images.
        temperature: By which logits are divided.
        generator: Draws the images, and a random mask; on the CPU.
        options: The kind and the size of the mask.

    Raises:
        ConfigError: The fraction is out of range or too small.
        RunError: A layer is not supported, or the information is not finite.
    """
    parameters = dict(network.network.named_parameters())
    head = {id(weights) for weights in network.head.parameters()}
    last_layer = [name for name, weights in parameters.items() if id(weights) in head]
    images = torch.arange(len(pool))
    if options.mask_sample == "random":
        images = torch.randperm(len(images), generator=generator)
    images = images[: options.mask_images].sort().values.to(pool.device)
    # A random mask depends only on the parameters' shapes.
    fisher: dict[str, Tensor] = {**parameters}
    if options.mask != "random":
        fisher = _mean_diagonal_fisher(pool, network, images, temperature)
    return choose(
        options.mask, fisher, last_layer, options.fraction, options.whole_last_layer, generator
    )


def check_network(
    network: nn.Module,
    head: nn.Linear,
    image: Tensor,
    options: FisherMaskOptions,
    names: OptionNames,
) -> None:
    """Raise ConfigError if the mask is too small for the network or a layer is not supported.

    Args:
        network: The network in eval mode.
        head: Its last layer.
        image: One image as the network takes it, (1, ...).
        options: The kind and the size of the mask.
        names: How errors name them.
    """
    weights = sum(parameter.numel() for parameter in network.parameters())
    last = sum(parameter.numel() for parameter in head.parameters())
    try:
        check_fraction(options.mask, options.fraction, weights, last, options.whole_last_layer)
    except ConfigError as error:
        raise ConfigError(f"{names.prefix}{error}") from None
    one_class = torch.eye(head.out_features)[None, :1]
    try:
        diagonal_fisher(network, [(image, one_class)])
    except RunError as error:
        raise ConfigError(f"FisherMask cannot use this network: {error}") from None


def _mean_diagonal_fisher(
    pool: ScoredPool, network: PoolNetwork, images: Tensor, temperature: float
) -> dict[str, Tensor]:
    device = float64_device(pool.device)
    batches = (
        (
            network.images(batch),
            fisher_factors(pool.logits[batch].to(device), temperature=temperature),
        )
        for batch in images.split(network.batch_size)
    )
    sums = diagonal_fisher(network.network, batches)
    return {name: squares / len(images) for name, squares in sums.items()}
