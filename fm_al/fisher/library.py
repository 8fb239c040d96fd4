"""BAIT and FisherMask as functions of tensors, for use in any training loop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from fm_al.backbones.folding import folded
from fm_al.fisher.options import DesignOptions, FisherMaskOptions, OptionNames
from fm_al.fisher.pool import PoolNetwork, ScoredPool
from fm_al.fisher.selection import bait_selection, fishermask_selection

OPTION_NAMES = OptionNames()
CHECKED_AT_ONCE = 2**26  # numbers that are checked together


def select_bait(
    embeddings: Tensor,
    logits: Tensor,
    labelled: Tensor | Sequence[int],
    n: int,
    *,
    options: DesignOptions | None = None,
    head_bias: bool = True,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Pick n unlabelled images by the Fisher information of the last layer (BAIT).

    The picks minimise tr(M^{-1} F), where F is the Fisher information of the pool and M that of the
    labelled images and the picks; `docs/fisher.md` has the formulas. The selection is greedy, and
    exact unless `options.approximation` says otherwise: Ash et al. 2021, "Gone Fishing: Neural
    Active Learning with Fisher Embeddings", arXiv 2106.09675.

    Args:
        embeddings: What the last layer reads, (N, D), any float type, any device. N counts the
            whole pool, labelled images included.
        logits: The network's outputs before softmax, (N, C), on the same device.
        labelled: Indices of the labelled images, int64.
        n: How many images to pick, at most all unlabelled ones.
        options: The options, by default `DesignOptions()`.
        head_bias: Whether the last layer has a bias.
        generator: A CPU generator. It draws the candidates if `options.max_candidates` is set; by
            default it is seeded with 0.

    Returns:
        Indices into the pool in the order of picking, (n,) int64, on the logits' device.

    Raises:
        ValueError: An argument has the wrong shape or type, or is out of range.
        RunError: The query needs more memory than there is, or lambda is too small for float64.
    """
    options = _checked(options or DesignOptions())
    pool = _pool(embeddings, logits, head_bias, labelled, n, options)
    selection = bait_selection(pool, n, _seeded(generator), options, OPTION_NAMES)
    return selection.picks


def select_fishermask(
    network: nn.Module,
    images: Tensor,
    labelled: Tensor | Sequence[int],
    n: int,
    *,
    options: FisherMaskOptions | None = None,
    head: nn.Linear | None = None,
    batch_size: int = 128,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Pick n unlabelled images by the Fisher information of the network's most important weights.

    Like `select_bait`, but instead of the last layer alone a mask of weights of all layers counts:
    Gul et al. 2024, "FisherMask", arXiv 2411.05752. The network is scored in eval mode and is left
    as it was.

    Args:
        network: Maps images to logits, (N, C). Supported layers are Linear, Conv2d, BatchNorm2d and
            LayerNorm, each called once per forward pass, beside layers without weights.
        images: The whole pool as the network takes it, (N, ...), labelled images included. They
            may be on another device than the network: batches are copied.
        labelled: Indices of the labelled images, int64.
        n: How many images to pick, at most all unlabelled ones.
        options: The options, by default `FisherMaskOptions()`.
        head: The last layer, a module of the network whose outputs are the logits. By default the
            last `nn.Linear` among its modules.
        batch_size: Images per forward pass.
        generator: A CPU generator. It draws the images that the mask is chosen by, and candidates
            if `options.max_candidates` is set; by default it is seeded with 0.

    Returns:
        Indices into the pool in the order of picking, (n,) int64, on the network's device.

    Raises:
        ValueError: An argument has the wrong shape or type or is out of range, the logits are not
            the head's outputs, or the mask is too small.
        RunError: A layer is not supported, the query needs more memory than there is, or lambda is
            too small for float64.
    """
    options = _checked(options or FisherMaskOptions())
    head = head or _last_linear(network)
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}: should be at least 1")
    if not len(images):
        raise ValueError("images is empty")
    device = head.weight.device

    def batch(indices: Tensor) -> Tensor:
        return images[indices.to(images.device)].to(device)

    of_pool = PoolNetwork(network, head, batch, batch_size)
    with _eval_mode(network):
        embeddings = _embeddings(of_pool, len(images), device)
        with torch.no_grad():
            logits = head(embeddings)
        pool = _pool(embeddings, logits, head.bias is not None, labelled, n, options)
        given = pool.labelled[:0]
        selection = fishermask_selection(
            pool, of_pool, given, n, _seeded(generator), options, OPTION_NAMES
        )
    return selection.picks


def _checked(options: Any) -> Any:
    """Return the options. Raises ValueError for a value out of range."""
    try:
        TypeAdapter(type(options)).validate_python(vars(options))
    except ValidationError as error:
        first = error.errors()[0]
        name, wanted = first["loc"][0], first["msg"].removeprefix("Input ")
        raise ValueError(f"{name}={first['input']}: {wanted}") from None
    return options


def _pool(
    embeddings: Tensor,
    logits: Tensor,
    head_bias: bool,
    labelled: Tensor | Sequence[int],
    n: int,
    options: DesignOptions,
) -> ScoredPool:
    """Check the tensors and put them together. Everything that is not labelled is unlabelled."""
    if embeddings.dim() != 2 or logits.dim() != 2 or len(embeddings) != len(logits):
        raise ValueError(
            f"embeddings {tuple(embeddings.shape)} and logits {tuple(logits.shape)}: should be "
            "(N, D) and (N, C)"
        )
    if logits.shape[1] < 2:
        raise ValueError(f"logits {tuple(logits.shape)}: should have at least two classes")
    for name, scores in (("embeddings", embeddings), ("logits", logits)):
        rows = max(1, CHECKED_AT_ONCE // max(1, scores.shape[1]))
        if not all(bool(part.isfinite().all()) for part in scores.split(rows)):
            raise ValueError(f"{name}: should be finite; has the training diverged?")
    images = len(logits)
    known = torch.as_tensor(labelled, dtype=torch.int64, device=logits.device)
    is_free = torch.ones(images, dtype=torch.bool, device=logits.device)
    if known.dim() != 1 or bool(((known < 0) | (known >= images)).any()):
        raise ValueError(f"labelled: should be a list of indices from 0 to {images - 1}")
    is_free[known] = False
    unlabelled = is_free.nonzero()[:, 0]
    if len(unlabelled) + len(known) != images:
        raise ValueError("labelled: an index is there more than once")
    if not 1 <= n <= len(unlabelled):
        raise ValueError(f"n={n}: should be from 1 to {len(unlabelled)}, the unlabelled images")
    if options.temperature == "calibrated" and not len(known):
        raise ValueError("labelled is empty: set temperature=1.0, which needs no labelled image")
    return ScoredPool(embeddings.detach(), logits.detach(), head_bias, known, unlabelled)


def _seeded(generator: torch.Generator | None) -> torch.Generator:
    return generator or torch.Generator().manual_seed(0)


def _last_linear(network: nn.Module) -> nn.Linear:
    linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise ValueError("network: should have an nn.Linear as its last layer")
    return linear[-1]


@contextmanager
def _eval_mode(network: nn.Module) -> Iterator[None]:
    """Put all modules into eval mode, and back into their own afterwards."""
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@torch.no_grad()
def _embeddings(of_pool: PoolNetwork, images: int, device: torch.device) -> Tensor:
    """Return what the head reads for all images, (N, D) float32."""
    read: list[Tensor] = []
    parts = []
    everything = torch.arange(images, device=device)
    first = of_pool.images(everything[:1])
    with (
        folded(of_pool.network, first),
        of_pool.head.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0])),
    ):
        for indices in everything.split(of_pool.batch_size):
            read.clear()
            logits = of_pool.network(of_pool.images(indices))
            if len(read) != 1 or not _is_output(logits, of_pool.head, read[0]):
                raise ValueError(
                    "head: should be the network's last layer, whose outputs are the logits"
                )
            parts.append(read[0].float())
    return torch.cat(parts)


def _is_output(logits: Tensor, head: nn.Linear, inputs: Tensor) -> bool:
    outputs = nn.functional.linear(inputs, head.weight, head.bias)
    return logits.shape == outputs.shape and torch.allclose(
        logits, outputs, rtol=1e-4, atol=1e-4, equal_nan=True
    )
